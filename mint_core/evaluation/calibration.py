"""How far a confidence can be believed: reliability, ECE, Brier score, and accuracy where some answers are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mint_core.evaluation.statistics import Estimate, spread, times_drawn

Floats = NDArray[np.float64]
MOST_BINS, LEAST_IN_BIN = 10, 10
"""Bins of equal mass: ten, or fewer where a bin would hold fewer than ten samples."""
COVERAGES = tuple(percent / 100 for percent in range(5, 101, 5))
_CHANCE_DRAWS = 200


def probabilities(scores: NDArray[Any]) -> Floats:
    """Scores of all labels as probabilities that sum to 1 over the label space: their softmax.

    Args:
        scores: (n, labels), natural logarithms up to a constant per row; -inf = impossible.
    """
    raised = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def brier(shares: Floats, truths: NDArray[np.intp]) -> Floats:
    """The multiclass Brier score of every sample: sum over the labels of (p - 1[label is true])^2, in [0, 2].

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability".

    Args:
        shares: (n, labels), each row summing to 1.
        truths: (n,), the column of the true label.
    """
    true = shares[np.arange(len(truths)), truths]
    return np.asarray((shares**2).sum(axis=1) - true**2 + (1 - true) ** 2)


def equal_mass(confidence: Floats) -> NDArray[np.intp]:
    """The bin of every sample, (n,): bins of about equal numbers of samples, the least confident first.

    Samples of one confidence share a bin, so that the bins do not depend on the order of the samples.
    """
    n = len(confidence)
    bins = max(1, min(MOST_BINS, n // LEAST_IN_BIN))
    ordered = np.sort(confidence)
    first = np.searchsorted(ordered, confidence, side="left")  # place of the first sample of the same confidence
    return np.asarray(np.unique(first * bins // n, return_inverse=True)[1])


def ece(confidence: Floats, right: Floats, bins: NDArray[np.intp], times: Floats | None = None) -> float:
    """Expected calibration error: sum over the bins of n_b / n |accuracy_b - mean confidence_b|.

    Source: Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017, equation 3 (there with bins of equal width).

    Args:
        confidence: (n,), in [0, 1].
        right: (n,), 1 where the answer is right, else 0.
        bins: (n,), the bin of each sample.
        times: (n,), how often each sample counts; None = once.
    """
    times = np.ones(len(right)) if times is None else times
    return float(np.abs(np.bincount(bins, times * (right - confidence))).sum() / times.sum())


class Selective:
    """Accuracy of the answers that are given where the least confident ones are left out.

    Where samples of one confidence would be cut apart, the part that is answered has the accuracy of all of them.
    Source: El-Yaniv and Wiener 2010; the area is that of Geifman, Uziel and El-Yaniv 2019.

    Args:
        confidence: (n,).
        right: (n,), 1 where the answer is right, else 0.
    """

    def __init__(self, confidence: Floats, right: Floats) -> None:
        levels, self.level = np.unique(-confidence, return_inverse=True)
        self.levels = -levels
        """The confidences that occur, the highest first."""
        self.right = right

    def accuracies(self, times: Floats) -> Floats:
        """Accuracy of the m most confident answers, for m = 1, 2 ... up to the number of samples.

        Args:
            times: (n,), how often each sample counts: whole numbers.
        """
        answered = np.cumsum(np.bincount(self.level, times))
        hits = np.cumsum(np.bincount(self.level, times * self.right))
        m = np.arange(1, round(float(times.sum())) + 1)
        return np.asarray(np.interp(m, [0.0, *answered], [0.0, *hits]) / m)

    def threshold(self, m: int) -> float:
        """The confidence of the m-th most confident sample."""
        places = np.cumsum(np.bincount(self.level))
        return float(self.levels[np.searchsorted(places, m)])


def calibration(
    scores: NDArray[Any],
    answers: NDArray[np.intp],
    truths: NDArray[np.intp],
    groups: Sequence[str | None],
    *,
    draws: int,
    confidence: float,
    seed: int,
) -> dict[str, Any]:
    """All measures of one variant, as plain data; intervals are percentiles of draws of whole groups.

    The confidence of an answer is the normalised probability of its first label. The interval of an ECE lies high,
    because a draw adds noise to every bin; `ece_by_chance` is the ECE that as many answers of these confidences would
    have on average if every confidence were right.

    Args:
        scores: (n, labels), natural logarithms up to a constant per row.
        answers: (n,), the column of the first label of each answer.
        truths: (n,), the column of the true label.
        groups: The group of each sample; None = a group of its own.
        draws: Bootstrap draws.
        confidence: Level of the intervals.
        seed: Seed of the draws.
    """
    shares = probabilities(scores)
    sure = shares[np.arange(len(answers)), answers]
    right = (answers == truths).astype(float)
    bins, selective, loss = equal_mass(sure), Selective(sure, right), brier(shares, truths)
    once = np.ones(len(right))

    def figures(times: Floats) -> Floats:
        accurate = selective.accuracies(times)
        total = len(accurate)
        at = [accurate[max(1, int(np.ceil(coverage * total - 1e-9))) - 1] for coverage in COVERAGES]
        with np.errstate(invalid="ignore"):
            binned = np.bincount(bins, times * right) / np.bincount(bins, times)
        means = [times @ values / total for values in (right, sure, loss)]
        return np.array([*means, ece(sure, right, bins, times), np.mean(1 - accurate), *at, *binned])

    drawn = np.array([figures(times) for times in times_drawn(groups, draws, seed)])
    found = [spread(point, column, groups, confidence) for point, column in zip(figures(once), drawn.T, strict=True)]
    named, rest = dict(zip(("accuracy", "confidence", "brier", "ece", "aurc"), found, strict=False)), found[5:]
    return {
        "n": len(right),
        "clusters": found[0].clusters,
        **{name: asdict(one) for name, one in named.items()},
        "ece_by_chance": _ece_by_chance(sure, bins, seed),
        "bins": [_bin(sure[bins == place], one) for place, one in enumerate(rest[len(COVERAGES) :])],
        "curve": [_point(coverage, selective, one) for coverage, one in zip(COVERAGES, rest, strict=False)],
    }


def _bin(sure: Floats, accuracy: Estimate) -> dict[str, Any]:
    ends = {"from": float(sure.min()), "to": float(sure.max()), "confidence": float(sure.mean())}
    return {"n": len(sure), **ends, "accuracy": _interval(accuracy)}


def _point(coverage: float, selective: Selective, accuracy: Estimate) -> dict[str, Any]:
    m = max(1, int(np.ceil(coverage * accuracy.n - 1e-9)))
    return {"coverage": coverage, "n": m, "threshold": selective.threshold(m), "accuracy": _interval(accuracy)}


def _interval(one: Estimate) -> dict[str, float | None]:
    return {"mean": one.mean, "low": one.low, "high": one.high}


def _ece_by_chance(sure: Floats, bins: NDArray[np.intp], seed: int) -> float:
    rng = np.random.default_rng([seed, 31])
    drawn = ((rng.random(len(sure)) < sure).astype(float) for _ in range(_CHANCE_DRAWS))
    return float(np.mean([ece(sure, right, bins) for right in drawn]))
