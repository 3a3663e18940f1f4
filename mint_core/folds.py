"""What fitted teachers share: folds that keep groups whole, and probabilities of labels that nobody was fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from pydantic import AfterValidator, Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNSEEN = 5.0
"""How far below its least probable seen label (in nats) a label without a training sample is put."""


def _no_single_fold(count: int) -> int:
    if count == 1:
        raise ValueError("one fold leaves nothing to fit on; use 0 (off) or at least 2")
    return count


FoldCount = Annotated[int, Field(ge=0, le=1_000), AfterValidator(_no_single_fold)]
"""The type of an option that says in how many folds a teacher is fitted; 0 = it is not cross-fitted."""


class Fold(NamedTuple):
    """Positions of the samples."""

    train: NDArray[np.intp]
    rest: NDArray[np.intp]
    """What a model that was fitted on `train` may answer: it saw no sample of these groups."""


def group_folds(groups: Sequence[str], count: int) -> list[Fold]:
    """Folds for out-of-fold predictions; scikit-learn's GroupKFold.

    Args:
        groups: The group of each sample.
        count: Number of folds; fewer where there are fewer groups, and none where there is one.
    """
    from sklearn.model_selection import GroupKFold

    count = min(count, len(set(groups)))
    return [] if count < 2 else [Fold(*fold) for fold in GroupKFold(count).split(groups, groups=groups)]


def classifier_log_probs(scores: NDArray[Any], seen: NDArray[np.int64], n_labels: int) -> NDArray[np.float32]:
    """Log-probabilities of all labels from the scores of a scikit-learn classifier.

    Args:
        scores: Its decision function: (n, seen labels), or (n,) where it knows two.
        seen: Columns of the labels that it was fitted on; the others are put below them (`UNSEEN`).
        n_labels: Size of the label space.
    """
    own = np.stack([np.zeros_like(scores), scores], 1) if scores.ndim == 1 else scores
    logits = np.repeat(own.min(1, keepdims=True) - UNSEEN, n_labels, axis=1)
    logits[:, seen] = own
    return log_softmax(logits)


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Row-wise logarithm of the softmax, computed in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(1, keepdims=True))
    return wide.astype(np.float32)
