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


def write_rankings(path: Path, samples: Sequence[Sample], log_probs: NDArray[np.float32], labels: LabelSpace) -> None:
    """One row per sample: id, split, label, group and the log-probabilities in the order of the label space.

    The labels themselves stand in the file's metadata, so that the teacher `file` can read it alone.
    """
    table = pa.table(
        {
            "sample": [s.id for s in samples],
            "split": [s.split for s in samples],
            "label": pa.array([s.label for s in samples], pa.string()),
            "group": pa.array([s.group for s in samples], pa.string()),
            "log_probs": pa.FixedSizeListArray.from_arrays(
                pa.array(log_probs.astype(np.float32).ravel()), log_probs.shape[1]
            ),
        }
    )
    pq.write_table(table.replace_schema_metadata({LABELS_OF: json.dumps(labels.names)}), path)


def read_rankings(path: Path, labels: LabelSpace) -> dict[str, Ranking]:
    """The rankings by sample id; equal probabilities keep the order of the label space."""
    table = pq.read_table(path, columns=["sample", "log_probs"])
    matrix = np.stack(table["log_probs"].to_numpy(zero_copy_only=False)).astype(np.float32)
    orders = np.argsort(-matrix, axis=1, kind="stable")
    return {
        sample: Ranking(sample, tuple(labels.names[column] for column in order), row[order])
        for sample, order, row in zip(table["sample"].to_pylist(), orders, matrix, strict=True)
    }


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


def write_per_sample(path: Path, records: Sequence[dict[str, object]]) -> None:
    """Per-sample values; those of the metrics, by key, are one column, and so are the reasons of a 0."""
    keys = dict.fromkeys(key for record in records for key in cast(Mapping[str, object], record["metrics"]))
    apart = {*_BY_KEY, "answer"}
    table = pa.Table.from_pylist([{key: one[key] for key in one if key not in apart} for one in records])
    for name, kind in _BY_KEY.items():
        values = pa.array([record[name] for record in records], pa.struct([(key, kind) for key in keys]))
        table = table.append_column(name, values)
    answers = pa.array([record["answer"] for record in records], pa.list_(pa.string()))
    pq.write_table(table.append_column("answer", answers), path)
