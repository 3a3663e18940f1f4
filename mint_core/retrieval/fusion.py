"""Combines a student's ranking of the labels with a retriever's. Arrays have shape (n_samples, n_labels).

Who does not know a label abstains from it: a student that was never taught it as an answer, and a retriever without
knowledge of it. Otherwise a student's certainty that no patient has what it was never taught would outvote any passage.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from mint_core.types import LabelSpace

Scores = NDArray[np.floating]
Mask = NDArray[np.bool_]
"""Labels that a student votes on: (n_labels,), or one row per sample."""

VERSION = "1"
"""Raise it where the same scores combine to another ranking, so that evaluations are made again."""
RRF_K = 60
WEIGHTS: tuple[float, ...] = (0.0, *(2.0 ** (step / 2) for step in range(-8, 17)))
"""What `fit_weight` tries: 0, and 1/16 to 256 in steps of the square root of 2."""


def mask(taught: Collection[str], labels: LabelSpace) -> Mask:
    """The labels that a student votes on, as (n_labels,)."""
    return np.array([name in taught for name in labels.names])


def ranks(scores: Scores) -> NDArray[np.float64]:
    """Rank of every label, 1 = best; equal scores share the mean of their ranks, and -inf has the rank inf.

    Args:
        scores: Larger is better; -inf = the label was not ranked.
    """
    result = np.empty(scores.shape, np.float64)
    for row, values in zip(result, scores, strict=True):
        _, group, sizes = np.unique(-values, return_inverse=True, return_counts=True)
        row[:] = (np.cumsum(sizes) - (sizes - 1) / 2)[group]
    return np.where(np.isneginf(scores), np.inf, result)


def reciprocal_rank(student: Scores, retriever: Scores, taught: Mask) -> Scores:
    """Reciprocal rank fusion: the sum of 1 / (60 + rank) over both rankings.

    Where one abstains, the other's part counts twice. A label that a student was taught and did not list gets nothing
    from it. Source: Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual rank
    learning methods", SIGIR 2009; k = 60 is theirs, abstention is ours.

    Args:
        student: Scores of the student; -inf = not listed.
        retriever: Scores of the retriever; -inf = not known.
        taught: Labels that the student votes on.
    """
    own = 1 / (RRF_K + ranks(np.where(taught, student, -np.inf)))
    theirs = 1 / (RRF_K + ranks(retriever))
    known = ~np.isneginf(retriever)
    return np.asarray(np.where(taught, own, theirs) + np.where(known, theirs, np.where(taught, own, 0)))


def weighted(student: Scores, retriever: Scores, weight: float, taught: Mask) -> Scores:
    """The student's vote in nats plus `weight` times the retriever's in standard deviations.

    Args:
        student: Log-likelihoods of all labels, finite.
        retriever: -inf = not known.
        weight: Nats per standard deviation of the retriever's scores.
        taught: Labels that the student votes on.
    """
    return np.asarray(student_votes(student, taught) + weight * standardised(retriever))


def student_votes(scores: Scores, taught: Mask) -> Scores:
    """The log-probability of the labels that the student was taught, minus its mean under p; 0 for the others.

    The mean of log p under p is minus the entropy: what an average vote is worth to a student that believes itself. So
    a label that it abstains from stands among those that it finds neither likely nor unlikely. Among taught labels a
    student that is sure counts for more. Over the others its best label leads by log p + entropy, which is largest
    where p is about a third and falls to 0 with p at 1: against what it was never taught its certainty is no evidence,
    since it is as sure of samples that have such a label. The scores are finite log-likelihoods of all labels.
    """
    top = np.where(taught, scores, -np.inf).max(axis=1, keepdims=True)
    shifted = np.where(taught, scores - np.where(np.isfinite(top), top, 0.0), 0.0).astype(np.float64)
    belief = np.where(taught, np.exp(shifted), 0.0)
    belief /= np.maximum(belief.sum(axis=1, keepdims=True), 1e-300)
    mean = (belief * shifted).sum(axis=1, keepdims=True)
    return np.asarray(np.where(taught, shifted - mean, 0.0))


def standardised(scores: Scores) -> Scores:
    """Every row with mean 0 and standard deviation 1 over its finite scores; 0 for the others, and without a spread."""
    known = np.isfinite(scores)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    filled = np.where(known, scores, 0.0).astype(np.float64)
    apart = np.where(known, filled - filled.sum(axis=1, keepdims=True) / count, 0.0)
    spread = np.sqrt((apart**2).sum(axis=1, keepdims=True) / count)
    return np.asarray(apart / np.where(spread > 1e-12, spread, np.inf))


def fit_weight(student: Scores, retriever: Scores, truths: Sequence[int], taught: Mask) -> float:
    """The weight of `WEIGHTS` with which the true labels stand highest: the best mean reciprocal rank.

    `truths` holds the column of each row's true label, at least one; the rest is as in `weighted`. Of the best weights
    it is the smallest: where retrieval does not help, it gets none.
    """
    rows = np.arange(len(truths))
    places = [ranks(weighted(student, retriever, weight, taught))[rows, list(truths)] for weight in WEIGHTS]
    found = [float(np.mean(1 / place)) for place in places]
    best = max(found) - 1e-12
    return min(weight for weight, mean in zip(WEIGHTS, found, strict=True) if mean >= best)


def combine(student: Scores, retriever: Scores, taught: Mask, weight: float | None) -> Scores:
    """Both rankings together: `weighted`, or `reciprocal_rank` where there is no weight."""
    if weight is None:
        return reciprocal_rank(student, retriever, taught)
    return weighted(student, retriever, weight, taught)


def order(scores: Scores) -> NDArray[np.intp]:
    """Columns from best to worst; equal scores keep the order of the label space."""
    return np.argsort(-scores, axis=-1, kind="stable")
