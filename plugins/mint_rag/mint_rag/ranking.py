"""From scores of passages to answers: methods are fused, the best passages chosen, labels scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FUSION = 60
"""How little the first ranks count more than the next, as in the source of reciprocal rank fusion."""
_CELLS = 2**22
"""Scores that are held at a time."""


class Method(Protocol):
    """A way to score passages."""

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (n_texts, n_passages); larger is better, 0 = nothing speaks for the passage, never below."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What was found for some texts."""

    passages: list[list[int]]
    """Positions of the best passages of every text, best first; those for which nothing speaks are left out."""
    scores: list[list[float]]
    labels: NDArray[np.float32]
    """The best score of a passage that tells of the label, shape (n_texts, n_labels); -inf where no passage does."""


def answer(
    texts: Sequence[str],
    methods: Sequence[Method],
    label_of: NDArray[np.int64],
    n_labels: int,
    *,
    top: int,
    retrieved: NDArray[np.bool_] | None = None,
) -> Answers:
    """Ranks passages and labels.

    Args:
        texts: What is asked.
        methods: One, or several whose ranks are fused.
        label_of: The label that each passage tells of, shape (n_passages,); -1 where it tells of none.
        n_labels: Size of the label space.
        top: How many passages are kept for a text.
        retrieved: Which passages may be kept, shape (n_passages,); None = all. The others count in ranks only.
    """
    passages: list[list[int]] = []
    kept: list[list[float]] = []
    labels = np.full((len(texts), n_labels), -np.inf, np.float32)
    step = max(1, _CELLS // max(1, len(label_of)))
    for start in range(0, len(texts), step):
        part = texts[start : start + step]
        rows = [method.scores(part) for method in methods]
        scores = rows[0] if len(rows) == 1 else fuse(rows)
        for row in scores:
            best = best_of(row if retrieved is None else np.where(retrieved, row, 0), top)
            passages.append(best.tolist())
            kept.append(row[best].astype(float).tolist())
        labels[start : start + step] = best_per_label(scores, label_of, n_labels)
    return Answers(passages, kept, labels)


def fuse(methods: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Reciprocal rank fusion: the sum of 1 / (60 + rank) over the methods for which something speaks for the passage.

    Source: Cormack, Clarke and Büttcher, SIGIR 2009.

    Args:
        methods: Scores of each method, shape (n_texts, n_passages).
    """
    fused = np.zeros_like(methods[0])
    ranks = np.arange(1, methods[0].shape[1] + 1, dtype=np.float32)
    for scores in methods:
        order = np.argsort(-scores, axis=1, kind="stable")
        shares = np.zeros_like(fused)
        np.put_along_axis(shares, order, np.broadcast_to(1 / (FUSION + ranks), fused.shape), axis=1)
        fused += np.where(scores > 0, shares, 0)
    return fused


def best_of(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Positions of the largest scores above 0, largest first; of equal ones the first.

    Args:
        scores: Shape (n_passages,).
        count: At most so many.
    """
    count = min(count, len(scores))
    threshold = np.partition(scores, -count)[-count]
    candidates = np.flatnonzero((scores >= threshold) & (scores > 0))
    return candidates[np.argsort(-scores[candidates], kind="stable")][:count]


def best_per_label(scores: NDArray[np.float32], label_of: NDArray[np.int64], n_labels: int) -> NDArray[np.float32]:
    """The largest score of the passages of each label, shape (n_texts, n_labels); -inf where it has none.

    Args:
        scores: Shape (n_texts, n_passages).
        label_of: Shape (n_passages,); -1 = no label.
        n_labels: Size of the label space.
    """
    found = np.full((len(scores), n_labels), -np.inf, np.float32)
    order = np.argsort(label_of, kind="stable")
    order = order[label_of[order] >= 0]
    if len(order):
        labels, starts = np.unique(label_of[order], return_index=True)
        found[:, labels] = np.maximum.reduceat(scores[:, order], starts, axis=1)
    return found
