"""How often a teacher ranks the truth first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mint_core.types import SPLITS, LabelSpace, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Top1:
    """Counts hits by split over the labelled samples of the task's own data, some at a time."""

    def __init__(self, labels: LabelSpace) -> None:
        self._labels = labels
        self._hits: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()

    def add(self, samples: Sequence[Sample], log_probs: NDArray[Any]) -> None:
        """Counts some samples, in the order of the rows of `log_probs`, shape (n_samples, n_labels)."""
        for column, sample in zip(log_probs.argmax(axis=1), samples, strict=True):
            if sample.label and sample.cohort is None:
                self._seen[sample.split] += 1
                self._hits[sample.split] += self._labels.names[column] == sample.label

    def by_split(self) -> dict[str, dict[str, float]]:
        """Top-1 and n; splits without a sample are left out."""
        return {
            split: {"top_1": round(self._hits[split] / count, 4), "n": count}
            for split in SPLITS
            if (count := self._seen[split])
        }


def top_1(samples: Sequence[Sample], labels: LabelSpace, log_probs: NDArray[Any]) -> dict[str, dict[str, float]]:
    """Top-1 and n by split of samples that are all there; see `Top1`."""
    count = Top1(labels)
    count.add(samples, log_probs)
    return count.by_split()
