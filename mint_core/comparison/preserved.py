"""General ability beside each row of a comparison: the row's adapters against its own student, on the same items."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mint_core.comparison.rows import Row
from mint_core.comparison.values import mean
from mint_core.evaluation.statistics import correct, estimate, paired
from mint_core.preservation.measure import ALIGNED, BASE, Measured, by_row, pooled

_KEPT = ("harness", "suite", "limit", "confidence", "draws", "seed")
"""What a comparison says as the measurement of its first run does."""


def summarise_preserved(measured: Sequence[tuple[Row, Sequence[Measured]]]) -> dict[str, Any]:
    """Plain data for compare.json.

    Args:
        measured: Every row with what was measured for each of its seeds.

    Returns:
        Per row and task the mean over items of values averaged over the seeds, their spread over the seeds, and the
        paired difference to the row's student without an adapter.
    """
    first = measured[0][1][0].content
    how = {key: first[key] for key in ("draws", "confidence", "seed")}
    rows: list[dict[str, Any]] = [{"name": row.name, "tasks": _tasks(runs, how)} for row, runs in measured]
    correct(one["difference"] for row in rows for one in row["tasks"].values() if "difference" in one)
    return {**{key: first[key] for key in _KEPT}, "adapter": True, "rows": rows}


def _tasks(runs: Sequence[Measured], how: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, tasks in by_row(runs[0]).items():
        base = pooled(tasks, runs[0].values, BASE)
        aligned = ALIGNED in runs[0].values[tasks[0].name]
        per_seed = [pooled(tasks, run.values, ALIGNED if aligned else BASE) for run in runs]
        averaged = [mean(values) for values in zip(*per_seed, strict=True)]
        means = [one for one in map(mean, per_seed) if one is not None]
        alone: list[None] = [None] * len(base)
        found[name] = asdict(estimate(averaged, alone, **how)) | {"sd": statistics.stdev(means) if means[1:] else None}
        if aligned:
            tested = asdict(paired(averaged, base, alone, **how))
            found[name]["difference"] = {**tested.pop("difference"), **tested}
    return found
