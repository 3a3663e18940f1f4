"""What stages leave in a run folder: where it lies, and how tables are written and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mint_core.answering.scores import FOLDER
from mint_core.teachers.file import LABELS_OF
from mint_core.types import LabelSpace, PreferenceGroup, Ranking, Sample

RANKINGS = Path("rankings", "rankings.parquet")
TEACHER = Path("rankings", "teacher.json")
PREFERENCES = Path("preferences", "preferences.parquet")
QUALITY = Path("quality.json")
"""How good the preferences are; apart from them, so that a measure more makes no training again."""
OVERLAP = Path("overlap.json")
"""What the base student holds of them, where it was asked; no stage's output."""
ADAPTER = Path("adapter")
HISTORY = Path("training", "history.json")
PREDICTIONS = Path("predictions.jsonl")
SCORES = Path(FOLDER)
"""Scores of all labels, see `mint_core.answering.scores`; only where somebody scored them."""
METRICS = Path("metrics.json")
SAMPLES = Path("samples.parquet")
"""Per-sample values of the metrics."""
REPORT = Path("report.html")
RECORD_NAME = "run.json"
"""What the run says of itself; no stage's output."""
LOGS = Path("logs")
"""Files of trackers, a folder per training; no stage's output, so that nothing removes them."""


class RankingsWriter:
    """Writes rankings some at a time: a row per sample with id, split, label, group, and the log-probabilities.

    The labels themselves, in the order of the log-probabilities, stand in the file's metadata, so that the teacher
    `file` can read it alone.

    Args:
        path: The file.
        labels: The label space.
    """

    def __init__(self, path: Path, labels: LabelSpace) -> None:
        plain = [(name, pa.string()) for name in ("sample", "split", "label", "group")]
        schema = pa.schema([*plain, ("log_probs", pa.list_(pa.float32(), len(labels)))])
        self._schema = schema.with_metadata({LABELS_OF: json.dumps(labels.names)})
        self._writer = pq.ParquetWriter(path, self._schema)

    def __enter__(self) -> RankingsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, samples: Sequence[Sample], log_probs: NDArray[np.float32]) -> None:
        """Adds the rows of some samples, in their order; `log_probs` has shape (n_samples, n_labels)."""
        columns = {
            "sample": [s.id for s in samples],
            "split": [s.split for s in samples],
            "label": [s.label for s in samples],
            "group": [s.group for s in samples],
            "log_probs": pa.FixedSizeListArray.from_arrays(
                pa.array(log_probs.astype(np.float32).ravel()), log_probs.shape[1]
            ),
        }
        self._writer.write_table(pa.table(columns, schema=self._schema))


def read_log_probs(path: Path) -> dict[str, NDArray[np.float32]]:
    """The teacher's log-probabilities by sample id, each (n_labels,) in the order of the label space."""
    table = pq.read_table(path, columns=["sample", "log_probs"])
    matrix = np.stack(table["log_probs"].to_numpy(zero_copy_only=False)).astype(np.float32)
    return dict(zip(table["sample"].to_pylist(), matrix, strict=True))


def read_rankings(path: Path, labels: LabelSpace) -> dict[str, Ranking]:
    """The rankings by sample id; equal probabilities keep the order of the label space."""
    found = {}
    for sample, row in read_log_probs(path).items():
        order = np.argsort(-row, kind="stable")
        found[sample] = Ranking(sample, tuple(labels.names[column] for column in order), row[order])
    return found


def write_preferences(path: Path, groups: Sequence[PreferenceGroup]) -> None:
    """One row per group; `chosen` and `rejected` are lists of responses, a response is a list of labels."""
    nested, shares = pa.list_(pa.list_(pa.string())), pa.list_(pa.float64())
    table = pa.table(
        {
            "sample": [g.sample_id for g in groups],
            "chosen": pa.array([[list(r) for r in g.chosen] for g in groups], nested),
            "rejected": pa.array([[list(r) for r in g.rejected] for g in groups], nested),
            "chosen_weights": pa.array([list(g.chosen_weights) for g in groups], shares),
            "rejected_weights": pa.array([list(g.rejected_weights) for g in groups], shares),
        }
    )
    pq.write_table(table, path)


def read_preferences(path: Path) -> list[PreferenceGroup]:
    """The preference groups, in order."""
    groups = []
    for row in pq.read_table(path).to_pylist():
        chosen, rejected = (tuple(map(tuple, row[side])) for side in ("chosen", "rejected"))
        weights = (tuple(row[side]) for side in ("chosen_weights", "rejected_weights"))
        groups.append(PreferenceGroup(row["sample"], chosen, rejected, *weights))
    return groups


_BY_KEY = {"metrics": pa.float64(), "why": pa.string(), "ungated": pa.float64()}
"""Columns that hold something for every metric."""
_LISTS = {
    "answer": pa.list_(pa.string()),
    "rank": pa.int64(),
    "confusers": pa.list_(pa.struct([("label", pa.string()), ("rank", pa.int64())])),
}
"""Columns that may be empty in every row, so that their kind cannot be seen."""


def write_per_sample(path: Path, records: Sequence[dict[str, object]]) -> None:
    """Per-sample values; those of the metrics, by key, are one column, and so are the reasons of a 0."""
    keys = dict.fromkeys(key for record in records for key in cast(Mapping[str, object], record["metrics"]))
    apart = {*_BY_KEY, *_LISTS, "subgroups"}
    table = pa.Table.from_pylist([{key: one[key] for key in one if key not in apart} for one in records])
    for name, kind in _BY_KEY.items():
        values = pa.array([record[name] for record in records], pa.struct([(key, kind) for key in keys]))
        table = table.append_column(name, values)
    fields = dict.fromkeys(name for record in records for name in cast(Mapping[str, object], record["subgroups"]))
    cells = pa.array([record["subgroups"] for record in records], pa.struct([(name, pa.string()) for name in fields]))
    table = table.append_column("subgroups", cells)
    for name, kind in _LISTS.items():
        table = table.append_column(name, pa.array([record.get(name) for record in records], kind))
    pq.write_table(table, path)
