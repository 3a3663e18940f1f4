"""Per-sample values of every row and seed, from the folders of the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from mint_core.evaluation.evaluate import Record
from mint_core.evaluation.subsets import Member
from mint_core.files import storage_errors

Kind = Literal["student", "teacher", "retriever", "baseline", "chance"]
_FACTS = ("sample", "group", "cohort", "seen", "variant", "truth")


@dataclass(frozen=True, slots=True)
class Answers:
    """One row's values."""

    name: str
    kind: Kind
    runs: tuple[str, ...]
    """The run folders that they come from."""
    members: Mapping[str, Member]
    """Group, cohort and whether the label was seen, by sample id."""
    by_seed: Mapping[int | None, Mapping[str, Record]]
    """Records by seed of the alignment and sample id; the seed is None where nothing was aligned."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else the record of the comparison says of the row."""

    def average(self, title: str, sample: str) -> float | None:
        """Mean of one metric over the seeds; None where no seed was scored."""
        values = [records[sample].get(title) for records in self.by_seed.values()]
        scored = [value for value in values if value is not None]
        return sum(scored) / len(scored) if scored else None


def read_variant(run: Path, variant: str) -> dict[str, Record]:
    """One variant's records of a run, by sample id."""
    rows = pq.read_table(run / "samples.parquet", filters=[("variant", "==", variant)]).to_pylist()
    return {row["sample"]: row for row in rows}


def answers(
    name: str,
    kind: Kind,
    runs: Sequence[str],
    by_seed: Mapping[int | None, Mapping[str, Record]],
    facts: Mapping[str, Any] | None = None,
) -> Answers:
    """Puts the records of one row together.

    Args:
        name: Name of the row.
        kind: Who answered.
        runs: The run folders.
        by_seed: Records by seed and sample id; every seed judged the same samples.
        facts: What else is to be recorded.
    """
    records = next(iter(by_seed.values()))
    members = {i: Member(record["group"], record["cohort"], record["seen"]) for i, record in records.items()}
    return Answers(name, kind, tuple(runs), members, by_seed, facts or {})


def write_answers(path: Path, rows: Sequence[Answers], titles: Sequence[str]) -> None:
    """One line per row, seed and sample: from this table every figure of the comparison can be made again."""
    lines = [
        {"row": row.name, "kind": row.kind, "seed": seed}
        | {key: record[key] for key in _FACTS if key != "variant"}
        | {title: record.get(title) for title in titles}
        for row in rows
        for seed, records in row.by_seed.items()
        for record in records.values()
    ]
    with storage_errors(path):
        pq.write_table(pa.Table.from_pylist(lines), path)
