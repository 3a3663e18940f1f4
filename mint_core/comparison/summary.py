"""From per-sample values to the numbers of a comparison: means, intervals, spread over seeds, paired tests."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mint_core.comparison.answers import Answers
from mint_core.evaluation.statistics import PERMUTATIONS, estimate, paired
from mint_core.evaluation.subsets import subsets

TEST = (
    f"two-sided paired permutation test: {PERMUTATIONS:,} random sign flips of whole groups (all of them where there "
    "are fewer), on per-sample values averaged over the seeds; no correction for several tests"
)


def summarise(rows: Sequence[Answers], titles: Sequence[str], how: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Plain data per row: every metric on every subset, and the test against the student row before.

    Args:
        rows: In the order of the table.
        titles: Metric titles.
        how: `draws`, `confidence` and `seed` of the bootstrap.
    """
    content = []
    before: Answers | None = None
    for row in rows:
        entry: dict[str, Any] = {"name": row.name, "kind": row.kind, "runs": list(row.runs), **row.facts}
        entry["seeds"] = [seed for seed in row.by_seed if seed is not None]
        entry["subsets"] = [_subset(row, name, ids, titles, how) for name, ids in subsets(row.members).items()]
        if row.kind == "student":
            for part in entry["subsets"] if before is not None else ():
                part["against"] = _against(row, before, part["subset"], titles, how)
            before = row
        content.append(entry)
    return content


def compare_pairs(
    rows: Sequence[Answers], pairs: Sequence[tuple[str, str]], titles: Sequence[str], how: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Plain data per pair and subset: the paired test of the first row against the second.

    Args:
        rows: All rows, whoever answered.
        pairs: Names of rows; one that no run has brought is left out.
        titles: Metric titles.
        how: `draws`, `confidence` and `seed` of the bootstrap.
    """
    named = {row.name: row for row in rows}
    content = []
    for one, other in pairs:
        if one not in named or other not in named:
            continue
        for subset in subsets(named[one].members):
            found = _against(named[one], named[other], subset, titles, how)
            if found is not None:
                content.append({"first": one, "second": other, "subset": subset, "metrics": found["metrics"]})
    return content


def _subset(
    row: Answers, subset: str, ids: Sequence[str], titles: Sequence[str], how: Mapping[str, Any]
) -> dict[str, Any]:
    groups = [row.members[i].group for i in ids]
    metrics = {}
    for title in titles:
        found = estimate([row.average(title, i) for i in ids], groups, **how)
        per_seed = {seed: _mean([records[i].get(title) for i in ids]) for seed, records in row.by_seed.items()}
        means = [mean for mean in per_seed.values() if mean is not None]
        metrics[title] = asdict(found) | {
            "per_seed": {str(seed): mean for seed, mean in per_seed.items() if seed is not None},
            "sd": statistics.stdev(means) if len(means) > 1 else None,
        }
    return {"subset": subset, "n": len(ids), "metrics": metrics}


def _mean(values: Sequence[float | None]) -> float | None:
    scored = [value for value in values if value is not None]
    return sum(scored) / len(scored) if scored else None


def _against(
    row: Answers, before: Answers | None, subset: str, titles: Sequence[str], how: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The paired test on the samples that both rows answered; None where they share none."""
    if before is None:
        return None
    theirs = subsets(before.members).get(subset, [])
    mine = set(subsets(row.members)[subset])
    shared = [i for i in theirs if i in mine]
    if not shared:
        return None
    groups = [row.members[i].group for i in shared]
    tests = {}
    for title in titles:
        first, second = ([one.average(title, i) for i in shared] for one in (row, before))
        found = asdict(paired(first, second, groups, **how))
        difference = found.pop("difference")
        tests[title] = {"difference": difference.pop("mean"), **difference, **found}
    return {"row": before.name, "metrics": tests}
