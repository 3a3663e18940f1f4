"""Combines a student's ranking of the labels with a retriever's. Arrays have shape (n_samples, n_labels)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]

RRF_K = 60
WEIGHTS: tuple[float, ...] = (0.0, *(2.0 ** (step / 2) for step in range(-8, 17)))
"""What `fit_weight` tries: 0, and 1/16 to 256 in steps of the square root of 2."""


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


def reciprocal_rank(student: Scores, retriever: Scores) -> Scores:
    """Reciprocal rank fusion: the sum of 1 / (60 + rank) over both rankings.

    A label that one of them does not rank gets nothing from it. Source: Cormack, Clarke and Buettcher, "Reciprocal rank
    fusion outperforms Condorcet and individual rank learning methods", SIGIR 2009; k = 60 is theirs.

    Args:
        student: Scores of the student; -inf = not listed.
        retriever: Scores of the retriever; -inf = not known.
    """
    return np.asarray(1 / (RRF_K + ranks(student)) + 1 / (RRF_K + ranks(retriever)))


def weighted(student: Scores, retriever: Scores, weight: float) -> Scores:
    """The student's log-probability over the label space plus `weight` times the retriever's standardised score.

    The student's side stays in nats, so that a student that is sure counts for more than one that is not.

    Args:
        student: Log-likelihoods of all labels, finite.
        retriever: Scores of the retriever; a label that it does not know counts like the worst that it knows.
        weight: Nats per standard deviation of the retriever's scores.
    """
    shifted = student - student.max(axis=1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.asarray(log_probs + weight * standardised(retriever))


def standardised(scores: Scores) -> Scores:
    """Every row with mean 0 and standard deviation 1; 0 throughout where all its scores are equal.

    Args:
        scores: -inf counts like the lowest finite score of its row.
    """
    known = np.isfinite(scores)
    lowest = np.where(known, scores, np.inf).min(axis=1, keepdims=True)
    filled = np.where(known, scores, np.where(np.isfinite(lowest), lowest, 0.0)).astype(np.float64)
    spread = filled.std(axis=1, keepdims=True)
    return np.asarray((filled - filled.mean(axis=1, keepdims=True)) / np.where(spread > 1e-12, spread, np.inf))


def fit_weight(student: Scores, retriever: Scores, truths: Sequence[int]) -> float:
    """The weight of `WEIGHTS` with which the true labels stand highest: the best mean reciprocal rank.

    Args:
        student: See `weighted`.
        retriever: See `weighted`.
        truths: Column of each row's true label; at least one.

    Returns:
        The smallest of the best weights: where retrieval does not help, it gets none.
    """
    rows = np.arange(len(truths))
    places = [ranks(weighted(student, retriever, weight))[rows, list(truths)] for weight in WEIGHTS]
    found = [float(np.mean(1 / place)) for place in places]
    best = max(found) - 1e-12
    return min(weight for weight, mean in zip(WEIGHTS, found, strict=True) if mean >= best)


def order(scores: Scores) -> NDArray[np.intp]:
    """Columns from best to worst; equal scores keep the order of the label space."""
    return np.argsort(-scores, axis=-1, kind="stable")
