"""Transfer efficiency: which share of what the teacher knows beyond the student's modality gets through.

eta = I(Y; S | X_u) / I(Y; X | X_u): what a signal S tells of the label Y beyond the student's own modality X_u, over
what all that the teacher reads tells beyond it (MINT, workshop paper, A.7, equation 15, as mint reads it).
I(Y; S | X_u) is H(Y | X_u) minus H(Y | X_u, S), and a predictor's cross-entropy on samples that it was not fitted on
stands for such an entropy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mint_core.evaluation.statistics import cluster_of, estimate, spread, times_drawn

Floats = NDArray[np.float64]
FOLDS = 5
FITTED = 1000
"""Samples on which the few weights of a predictor are fitted at most."""
LEAST = 20
"""Samples below which nothing is estimated."""
FLOOR = float(np.log(1e-9))
"""Log-probabilities below this count as this: one label that is held impossible must not decide everything."""
RIDGE = 1e-3
"""Pull of the weights towards 0, which keeps them finite where a predictor makes no mistake."""
_STEPS = 50


def log_probabilities(scores: NDArray[Any]) -> Floats:
    """Scores of all labels, (n, labels), as log-probabilities over the label space, none below `FLOOR`."""
    wide = scores.astype(np.float64)
    return np.asarray(np.maximum(wide - np.logaddexp.reduce(wide, axis=1, keepdims=True), FLOOR))


def places(tops: Sequence[Sequence[int]], bottoms: Sequence[Sequence[int]], labels: int) -> Floats:
    """What preferences show of a ranking, (n, labels, 2): minus the logarithm of the place, and who is rejected.

    Args:
        tops: Columns of the k preferred labels of every sample, best first; the others share the place k + 1.
        bottoms: Columns of the rejected ones.
        labels: Size of the label space.
    """
    shown = np.zeros((len(tops), labels, 2))
    for row, top, bottom in zip(shown, tops, bottoms, strict=True):
        row[:, 0] = -np.log(len(top) + 1)
        row[list(top), 0] = -np.log(np.arange(1, len(top) + 1))
        row[list(bottom), 1] = 1
    return shown


def cross_fitted_losses(features: Floats, truths: NDArray[np.intp], groups: Sequence[str | None], seed: int) -> Floats:
    """-log p(truth) in nats, (n,), of a conditional logit that was fitted on the other folds; groups stay whole.

    p(label) is the softmax over the labels of a weighted sum of their features; the weights are the same for all labels
    (McFadden 1974). With one log-probability as feature that is its temperature, with several a log-linear pool.

    Args:
        features: (n, labels, features).
        truths: (n,), the column of the true label.
        groups: The group of each sample.
        seed: Draws the folds.
    """
    owner = cluster_of(groups)
    count = int(owner.max()) + 1
    rng = np.random.default_rng([seed, 37])
    fold = (rng.permutation(count) % FOLDS)[owner]
    losses = np.empty(len(truths))
    for one in np.unique(fold):
        rest, own = rng.permutation(np.flatnonzero(fold != one))[:FITTED], fold == one
        weights = _fit(features[rest], truths[rest])
        losses[own] = -_log_softmax(features[own] @ weights)[np.arange(own.sum()), truths[own]]
    return losses


def _log_softmax(logits: Floats) -> Floats:
    return np.asarray(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def _fit(features: Floats, truths: NDArray[np.intp]) -> Floats:
    """The weights with the least mean loss, by Newton's method; the loss is convex."""
    n, _, size = features.shape
    flat, rows = features.reshape(-1, size), np.arange(n)
    weights, step, least = np.zeros(size), np.zeros(size), np.inf
    for _ in range(_STEPS):
        log_p = _log_softmax(features @ weights)
        loss = float(-log_p[rows, truths].mean() + RIDGE / 2 * weights @ weights)
        if loss > least and np.abs(step).max() > 1e-8:  # too far: half of it
            step = step / 2
            weights = weights + step
            continue
        if least - loss < 1e-8:
            break
        least, p = loss, np.exp(log_p)
        mean = np.einsum("nl,nlf->nf", p, features)
        slope = (mean - features[rows, truths]).mean(axis=0) + RIDGE * weights
        second = flat.T @ (flat * p.reshape(-1, 1)) / n - mean.T @ mean / n + RIDGE * np.eye(size)
        step = np.linalg.solve(second, slope)
        weights = weights - step
    return weights


def efficiency(
    own: Floats,
    through: Floats,
    full: Floats,
    groups: Sequence[str | None],
    *,
    draws: int,
    confidence: float,
    seed: int,
) -> dict[str, Any]:
    """The share eta and its two parts, in nats, with percentile intervals from draws of whole groups.

    It is left open (None) where the interval of what the teacher adds is not above 0: a share of nothing has no
    meaning. An estimate may leave [0, 1], where eta itself lies: it is shown as it is.

    Args:
        own: (n,), losses of the predictor that knows the student's modality.
        through: (n,), of the one that knows the signal too.
        full: (n,), of the one that knows what the teacher knows.
        groups: The group of each sample.
        draws: Bootstrap draws.
        confidence: Level of the intervals.
        seed: Seed of the draws.
    """
    how: dict[str, Any] = {"draws": draws, "confidence": confidence, "seed": seed}
    gained, there = own - through, own - full
    gap = estimate(there.tolist(), groups, **how)
    content = {"gained": asdict(estimate(gained.tolist(), groups, **how)), "there": asdict(gap), "eta": None}
    if gap.low is None or gap.low <= 0:
        return {**content, "outside": False}
    drawn = [float(times @ gained / (times @ there)) for times in times_drawn(groups, draws, seed)]
    eta = spread(float(gained.sum() / there.sum()), drawn, groups, confidence)
    return {**content, "eta": asdict(eta), "outside": not _within(eta.mean, eta.low, eta.high)}


def _within(*values: float | None) -> bool:
    return all(value is not None and -1e-9 <= value <= 1 + 1e-9 for value in values)


def transfer(
    students: Mapping[str, NDArray[Any]],
    teacher: NDArray[Any],
    shown: Floats,
    truths: NDArray[np.intp],
    groups: Sequence[str | None],
    *,
    draws: int,
    confidence: float,
    seed: int,
) -> dict[str, Any] | None:
    """Efficiency of the preferences, and of the student, from four nested predictors.

    base: the student before alignment; student: that and the aligned one, which together are the best predictor at
    hand that reads the student's modality alone; preferences: these and what the preferences show of the teacher's
    ranking, the truth not placed; teacher: all of that and the teacher's log-probabilities. `preferences` is eta of the
    preferences, from student over preferences to teacher; `student` is what alignment brought, from base over student
    to teacher.

    Args:
        students: Scores of all labels, (n, labels), of `base` and `aligned`, or of one of them.
        teacher: The teacher's log-probabilities, (n, labels).
        shown: From `places`.
        truths: (n,), the column of the true label.
        groups: The group of each sample.
        draws: Bootstrap draws.
        confidence: Level of the intervals.
        seed: Seed of folds and draws.

    Returns:
        None where there are fewer than `LEAST` samples or two groups, or nobody scored the labels.
    """
    if not students or len(truths) < LEAST or len(set(cluster_of(groups).tolist())) < 2:
        return None
    how: dict[str, Any] = {"draws": draws, "confidence": confidence, "seed": seed}
    logs = {name: log_probabilities(students[name])[:, :, None] for name in ("base", "aligned") if name in students}
    known = [*logs.values()]
    parts = {"base": known[:1]} if len(known) > 1 else {}
    parts |= {"student": known, "preferences": [*known, shown]}
    parts["teacher"] = [*known, shown, log_probabilities(teacher)[:, :, None]]
    losses = {
        name: cross_fitted_losses(np.concatenate(part, axis=2), truths, groups, seed) for name, part in parts.items()
    }
    content: dict[str, Any] = {
        "n": len(truths),
        "clusters": int(cluster_of(groups).max()) + 1,
        "cross_entropy": {name: float(one.mean()) for name, one in losses.items()},
        "preferences": efficiency(losses["student"], losses["preferences"], losses["teacher"], groups, **how),
    }
    if "base" in losses:
        content["student"] = efficiency(losses["base"], losses["student"], losses["teacher"], groups, **how)
    return content
