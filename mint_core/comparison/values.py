"""Per-sample values of every row and seed, from the folders of the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from mint_core.evaluation.evaluate import Record
from mint_core.evaluation.subsets import Member
from mint_core.files import storage_errors
from mint_core.stages.outputs import SAMPLES

Kind = Literal["student", "teacher", "retriever", "baseline", "chance"]


@dataclass(frozen=True, slots=True)
class RowValues:
    """What one row's samples scored."""

    name: str
    kind: Kind
    runs: tuple[str, ...]
    """The run folders that they come from."""
    by_seed: Mapping[int | None, Mapping[str, Record]]
    """Records by seed of the alignment and sample id; the seed is None where nothing was aligned. Every seed judged the
    same samples."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else the record of the comparison says of the row."""

    @property
    def records(self) -> Mapping[str, Record]:
        """One record per sample id: what does not depend on the seed."""
        return next(iter(self.by_seed.values()))

    @property
    def members(self) -> dict[str, Member]:
        """What is known of each sample id."""
        return {i: Member(one.group, one.cohort, one.seen, one.content) for i, one in self.records.items()}

    def average(self, key: str, sample: str) -> float | None:
        """Mean of one metric over the seeds; None where no seed was scored."""
        values = [records[sample].metrics.get(key) for records in self.by_seed.values()]
        scored = [value for value in values if value is not None]
        return sum(scored) / len(scored) if scored else None


def read_variant(run: Path, variant: str) -> dict[str, Record]:
    """One variant's records of a run, by sample id."""
    rows = pq.read_table(run / SAMPLES, filters=[("variant", "==", variant)]).to_pylist()
    return {row["sample"]: Record(**row) for row in rows}


def write_values(path: Path, rows: Sequence[RowValues]) -> None:
    """One line per row, seed and sample: from this table every figure of the comparison can be made again."""
    lines = [
        {"row": row.name, "kind": row.kind, "seed": seed} | asdict(record)
        for row in rows
        for seed, records in row.by_seed.items()
        for record in records.values()
    ]
    with storage_errors(path):
        pq.write_table(pa.Table.from_pylist(lines), path)
