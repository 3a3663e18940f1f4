"""From per-sample values to the numbers of a comparison: means, intervals, spread over seeds, paired tests."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mint_core.comparison.values import RowValues
from mint_core.evaluation.statistics import PERMUTATIONS, estimate, paired
from mint_core.evaluation.subsets import subsets

TEST = (
    f"two-sided paired permutation test: {PERMUTATIONS:,} random sign flips of whole groups (all of them where there "
    "are fewer), on per-sample values averaged over the seeds; no correction for several tests"
)


OTHER_SAMPLES = "other samples"
"""The rows judged samples of the same ids and of other content, for example cohorts that were drawn anew."""
OTHER_LISTS = "other lists"
"""The metric reads the teacher's best and worst labels, and the rows have others, for example with other k and q."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of a comparison's table."""

    titles: Mapping[str, str]
    """By key, in the order of the table."""
    reading_teacher: frozenset[str]
    """Keys of those that read the teacher's lists."""


def summarise(rows: Sequence[RowValues], metrics: Metrics, how: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Plain data per row: every metric on every subset, and the test against the student row before.

    Args:
        rows: In the order of the table.
        metrics: The metrics of the table.
        how: `draws`, `confidence` and `seed` of the bootstrap.
    """
    content = []
    before: RowValues | None = None
    for row in rows:
        entry: dict[str, Any] = {"name": row.name, "kind": row.kind, "runs": list(row.runs), **row.facts}
        entry["seeds"] = [seed for seed in row.by_seed if seed is not None]
        entry["subsets"] = [_subset(row, name, ids, metrics, how) for name, ids in subsets(row.members).items()]
        if row.kind == "student":
            for part in entry["subsets"] if before is not None else ():
                part["against"] = _against(row, before, part["subset"], metrics, how)
            before = row
        content.append(entry)
    return content


def compare_pairs(
    rows: Sequence[RowValues], pairs: Sequence[tuple[str, str]], metrics: Metrics, how: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Plain data per pair and subset: the paired test of the first row against the second.

    Args:
        rows: All rows, whoever answered.
        pairs: Names of rows; one that no run has brought is left out.
        metrics: The metrics of the table.
        how: `draws`, `confidence` and `seed` of the bootstrap.
    """
    named = {row.name: row for row in rows}
    content = []
    for one, other in pairs:
        if one not in named or other not in named:
            continue
        for subset in subsets(named[one].members):
            found = _against(named[one], named[other], subset, metrics, how)
            if found is not None:
                content.append({"first": one, "second": other, "subset": subset, "metrics": found["metrics"]})
    return content


def _subset(
    row: RowValues, subset: str, ids: Sequence[str], metrics: Metrics, how: Mapping[str, Any]
) -> dict[str, Any]:
    groups = [row.records[i].group for i in ids]
    found = {}
    for key in metrics.titles:
        averages = estimate([row.average(key, i) for i in ids], groups, **how)
        per_seed = {seed: _mean([records[i].metrics.get(key) for i in ids]) for seed, records in row.by_seed.items()}
        means = [mean for mean in per_seed.values() if mean is not None]
        found[key] = asdict(averages) | {
            "per_seed": {str(seed): mean for seed, mean in per_seed.items() if seed is not None},
            "sd": statistics.stdev(means) if len(means) > 1 else None,
        }
    return {"subset": subset, "n": len(ids), "metrics": found}


def _mean(values: Sequence[float | None]) -> float | None:
    scored = [value for value in values if value is not None]
    return sum(scored) / len(scored) if scored else None


def _against(
    row: RowValues, before: RowValues | None, subset: str, metrics: Metrics, how: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The paired test on the samples that both rows answered; None where no sample id is in both.

    Samples of one id and another content are other samples, and a metric that reads the teacher's lists compares
    samples with equal lists only. Where none is left, `not_tested` says why.
    """
    if before is None:
        return None
    theirs = subsets(before.members).get(subset, [])
    mine = set(subsets(row.members)[subset])
    shared = [i for i in theirs if i in mine]
    if not shared:
        return None
    same = [i for i in shared if row.records[i].content == before.records[i].content]
    alike = [i for i in same if row.records[i].lists == before.records[i].lists]
    tests: dict[str, Any] = {}
    for key in metrics.titles:
        ids = alike if key in metrics.reading_teacher else same
        if not ids:
            tests[key] = {"not_tested": OTHER_LISTS if same else OTHER_SAMPLES}
            continue
        groups = [row.records[i].group for i in ids]
        first, second = ([one.average(key, i) for i in ids] for one in (row, before))
        found = asdict(paired(first, second, groups, **how))
        gap = found.pop("difference")
        tests[key] = {"difference": gap.pop("mean"), **gap, **found}
    return {"row": before.name, "metrics": tests}
