"""Scores of all labels beside the predictions: what a student and a retriever think of every label."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mint_core.errors import ContractError
from mint_core.interfaces import Retriever
from mint_core.types import LabelSpace, Prediction, Sample

RETRIEVER = "retriever"
"""Variant of the retriever's own scores and list."""

SCORES = "scores.parquet"
"""Output of `predict`: the scores of all labels."""

_LABELS = b"labels"

ByVariant = dict[str, dict[str, NDArray[np.float32]]]
"""Scores of all labels by variant and sample id, in the order of the label space."""


def retriever_scores(retriever: Retriever, samples: Sequence[Sample], labels: LabelSpace) -> NDArray[np.float32] | None:
    """How well every label fits every sample; None where the retriever ranks no labels.

    Raises:
        ContractError: The scores have another shape, or one of them is NaN or +inf.
    """
    scores = retriever.label_scores(samples)
    if scores is None:
        return None
    if scores.shape != (len(samples), len(labels)):
        expected = (len(samples), len(labels))
        raise ContractError(f"Retriever '{retriever.name}' returned scores of shape {scores.shape}, not {expected}.")
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise ContractError(f"Retriever '{retriever.name}' returned a score that is NaN or infinite.")
    return scores.astype(np.float32)


def of_prediction(prediction: Prediction, labels: LabelSpace) -> NDArray[np.float32]:
    """Scores of all labels from a prediction that lists them all with their log-probabilities."""
    row = np.full(len(labels), -np.inf, np.float32)
    row[[labels.index(name) for name in prediction.labels]] = prediction.log_probs
    return row


def of_list(prediction: Prediction, labels: LabelSpace) -> NDArray[np.float32]:
    """Scores from a list that a student wrote: minus the place of every known label, -inf for what is not listed."""
    row = np.full(len(labels), -np.inf, np.float32)
    for place, name in enumerate(prediction.labels, 1):
        known = labels.find(name)
        if known is not None and np.isneginf(row[labels.index(known)]):
            row[labels.index(known)] = -place
    return row


def pack(row: NDArray[np.float32]) -> str:
    """A row as text for a JSON line; a third of the size of written numbers, and exact."""
    return base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")


def unpack(text: str) -> NDArray[np.float32]:
    """The row that `pack` wrote."""
    return np.frombuffer(base64.b64decode(text), "<f4")


def write_scores(path: Path, scores: ByVariant, labels: LabelSpace) -> None:
    """One row per variant and sample: `variant`, `sample`, `scores` in the order of `labels` in the file's metadata."""
    keys = [(variant, sample) for variant, rows in scores.items() for sample in rows]
    flat = np.concatenate([scores[variant][sample] for variant, sample in keys])
    width = len(flat) // len(keys)
    table = pa.table(
        {
            "variant": [variant for variant, _ in keys],
            "sample": [sample for _, sample in keys],
            "scores": pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), width),
        }
    )
    pq.write_table(table.replace_schema_metadata({_LABELS: json.dumps(labels.names)}), path)


def read_names(path: Path) -> tuple[str, ...]:
    """The names of the labels, in the order of the scores."""
    return tuple(json.loads(pq.read_schema(path).metadata[_LABELS]))


def read_scores(path: Path) -> ByVariant:
    """What `write_scores` wrote."""
    table = pq.read_table(path)
    found: ByVariant = {}
    columns = (table[name].to_pylist() for name in ("variant", "sample"))
    for variant, sample, row in zip(*columns, table["scores"].to_numpy(zero_copy_only=False), strict=True):
        found.setdefault(variant, {})[sample] = np.asarray(row, np.float32)
    return found
