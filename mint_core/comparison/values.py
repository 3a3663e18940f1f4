"""Per-sample values of every row and seed, from the folders of the runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from mint_core.evaluation.evaluate import Record
from mint_core.evaluation.subsets import Member
from mint_core.files import storage_errors
from mint_core.stages.outputs import SAMPLES, write_per_sample

Kind = Literal["student", "teacher", "retriever", "baseline", "chance", "majority"]


@dataclass(frozen=True)
class RowValues:
    """One row's values."""

    name: str
    kind: Kind
    runs: tuple[str, ...]
    """The run folders that they come from."""
    by_seed: Mapping[int | None, Mapping[str, Record]]
    """Records by seed of the alignment and sample id; the seed is None where nothing was aligned."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else the record of the comparison says of the row."""

    @property
    def records(self) -> Mapping[str, Record]:
        """The records of one seed by sample id; but for the values they are the same for every seed."""
        return next(iter(self.by_seed.values()))

    @cached_property
    def members(self) -> dict[str, Member]:
        """What decides the subsets of each sample."""
        return {
            i: Member(record["group"], record["cohort"], record["seen"], record["content"], record["subgroups"])
            for i, record in self.records.items()
        }

    def average(self, key: str, sample: str) -> float | None:
        """Mean of one metric over the seeds; None where no seed was scored."""
        return mean(records[sample]["metrics"].get(key) for records in self.by_seed.values())


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that were scored; None where none was."""
    scored = [value for value in values if value is not None]
    return sum(scored) / len(scored) if scored else None


@dataclass(frozen=True, slots=True)
class Columns:
    """The metrics of a comparison."""

    titles: Mapping[str, str]
    """For people, by key."""
    rules: Mapping[str, str]
    """By key."""
    reads_teacher: frozenset[str]
    """Keys of the metrics that read the teacher's lists."""

    @classmethod
    def of(cls, metrics: Sequence[Mapping[str, Any]]) -> Columns:
        """The metrics of every run's metrics.json; a key with several titles (Top-5 and Top-10) has several columns."""
        several = {(key, title) for one in metrics for key, title in one["titles"].items()}
        keys = [key for key, _ in several]
        titles, rules, reads = {}, {}, set()
        for one in metrics:
            for key, title in one["titles"].items():
                own = f"{key} ({title})" if keys.count(key) > 1 else key
                titles[own], rules[own] = title, one["rules"][key]
                if key in one["reads_teacher"]:
                    reads.add(own)
        return cls(titles, rules, frozenset(reads))

    def keyed(self, records: Mapping[str, Record], titles: Mapping[str, str]) -> dict[str, Record]:
        """A run's records by sample id with the comparison's keys; `titles` are the run's, by its own keys."""
        keys = {key: key if key in self.titles else f"{key} ({title})" for key, title in titles.items()}
        by_key = ("metrics", "why", "ungated")
        return {
            i: {**record, **{name: {keys[key]: value for key, value in record[name].items()} for name in by_key}}
            for i, record in records.items()
        }


def read_variant(run: Path, variant: str) -> dict[str, Record]:
    """One variant's records of a run, by sample id."""
    rows = pq.read_table(run / SAMPLES, filters=[("variant", "==", variant)]).to_pylist()
    return {row["sample"]: row for row in rows}


def write_values(path: Path, rows: Sequence[RowValues]) -> None:
    """One line per row, seed and sample: from this table every figure of the comparison can be made again."""
    lines = [
        {"row": row.name, "kind": row.kind, "seed": seed, **{k: v for k, v in record.items() if k != "variant"}}
        for row in rows
        for seed, records in row.by_seed.items()
        for record in records.values()
    ]
    with storage_errors(path):
        write_per_sample(path, lines)
