"""How often a teacher ranks the truth first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mint_core.types import SPLITS, LabelSpace, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


def top_1(samples: Sequence[Sample], labels: LabelSpace, log_probs: NDArray[Any]) -> dict[str, dict[str, float]]:
    """Top-1 and n by split, over the labelled samples of the task's own data; splits without any are left out.

    Args:
        samples: In the order of the rows.
        labels: In the order of the columns.
        log_probs: Shape (n_samples, n_labels).
    """
    best = log_probs.argmax(axis=1)
    result: dict[str, dict[str, float]] = {}
    for split in SPLITS:
        hits = [
            labels.names[column] == sample.label
            for column, sample in zip(best, samples, strict=True)
            if sample.split == split and sample.label and sample.cohort is None
        ]
        if hits:
            result[split] = {"top_1": round(float(np.mean(hits)), 4), "n": len(hits)}
    return result
