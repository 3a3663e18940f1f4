"""From per-sample values to the numbers of a comparison: means, intervals, spread over seeds, paired tests."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mint_core.comparison.rows import Pair
from mint_core.comparison.values import Columns, RowValues, mean
from mint_core.evaluation.failures import failures, many_fail
from mint_core.evaluation.statistics import PERMUTATIONS, correct, estimate, paired
from mint_core.evaluation.subsets import subsets

TEST = (
    f"two-sided paired permutation test: {PERMUTATIONS:,} random sign flips of whole groups (all of them where there "
    "are fewer), on per-sample values averaged over the seeds; beside p the one after Holm, for all tests of a table"
)

OTHER_SAMPLES, OTHER_LISTS = "other samples", "other lists of the teacher"
"""Why two rows cannot be paired."""


def summarise(rows: Sequence[RowValues], columns: Columns, how: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Plain data per row: every metric on every subset, and the test against the student row before.

    `how` holds `draws`, `confidence` and `seed` of the bootstrap.
    """
    content = []
    before: RowValues | None = None
    for row in rows:
        entry: dict[str, Any] = {"name": row.name, "kind": row.kind, "runs": list(row.runs), **row.facts}
        entry["seeds"] = [seed for seed in row.by_seed if seed is not None]
        entry["subsets"] = [_subset(row, name, ids, columns, how) for name, ids in subsets(row.members).items()]
        if row.kind == "student":
            entry |= _failures(row, how)
            if before is not None:
                for part in entry["subsets"]:
                    part["against"] = _against(row, before, part["subset"], columns, how)
            before = row
        content.append(entry)
    parts = (part for entry in content for part in entry["subsets"] if "against" in part)
    correct(test for part in parts for test in part["against"]["metrics"].values())
    return content


def _failures(row: RowValues, how: Mapping[str, Any]) -> dict[str, Any]:
    """Why answers of a student are not credited, over all seeds, and where these are many, what they are worth."""
    failed = failures(record for records in row.by_seed.values() for record in records.values())
    ungated = {}
    if many_fail(failed):
        groups = [record["group"] for record in row.records.values()]
        for key in next(iter(row.records.values()))["ungated"]:
            values = [mean(one[i]["ungated"][key] for one in row.by_seed.values()) for i in row.records]
            if any(value is not None for value in values):
                ungated[key] = asdict(estimate(values, groups, **how))
    return {"failures": failed, "ungated": ungated}


def compare_pairs(
    rows: Sequence[RowValues], pairs: Sequence[Pair], columns: Columns, how: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Plain data per pair and subset: the paired test of the first row against the second, `how` as above.

    A pair with a row that no run has brought is left out.
    """
    named = {row.name: row for row in rows}
    content = []
    for one, other in pairs:
        if one not in named or other not in named:
            continue
        for subset in subsets(named[one].members):
            found = _against(named[one], named[other], subset, columns, how)
            content.append({"first": one, "second": other, "subset": subset, "metrics": found["metrics"]})
    correct(test for pair in content for test in pair["metrics"].values())
    return content


def _subset(
    row: RowValues, subset: str, ids: Sequence[str], columns: Columns, how: Mapping[str, Any]
) -> dict[str, Any]:
    groups = [row.members[i].group for i in ids]
    metrics = {}
    for key in columns.titles:
        found = estimate([row.average(key, i) for i in ids], groups, **how)
        per_seed = {seed: mean([records[i]["metrics"].get(key) for i in ids]) for seed, records in row.by_seed.items()}
        means = [value for value in per_seed.values() if value is not None]
        metrics[key] = asdict(found) | {
            "per_seed": {str(seed): value for seed, value in per_seed.items() if seed is not None},
            "sd": statistics.stdev(means) if len(means) > 1 else None,
        }
    return {"subset": subset, "n": len(ids), "metrics": metrics}


def _against(
    row: RowValues, before: RowValues, subset: str, columns: Columns, how: Mapping[str, Any]
) -> dict[str, Any]:
    """The paired test per metric, on the samples that are the same in both rows.

    A sample is the same where id and content are; for a metric that reads the teacher's lists these must be the same
    too. `apart` counts the samples of one id that are left out, and `reason` says why none is left.
    """
    mine = set(subsets(row.members)[subset])
    named = [i for i in subsets(before.members).get(subset, []) if i in mine]
    shared = _equal(row, before, named, "content")
    tests = {}
    for key in columns.titles:
        reads = key in columns.reads_teacher
        paired_on = _equal(row, before, shared, "lists") if reads else shared
        first, second = ([one.average(key, i) for i in paired_on] for one in (row, before))
        found = asdict(paired(first, second, [row.records[i]["group"] for i in paired_on], **how))
        difference = found.pop("difference")
        reason = None if paired_on else OTHER_LISTS if shared else OTHER_SAMPLES
        tests[key] = {
            **{"difference": difference.pop("mean"), **difference, **found},
            **{"apart": len(named) - len(paired_on), "reason": reason},
        }
    return {"row": before.name, "metrics": tests}


def _equal(row: RowValues, other: RowValues, ids: Sequence[str], digest: str) -> list[str]:
    return [i for i in ids if row.records[i][digest] == other.records[i][digest]]
