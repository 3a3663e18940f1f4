"""What lies behind a comparison's means: results by subgroup, and ranks of labels that are easily confused."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mint_core.comparison.table import Grid, cell, columns_of
from mint_core.comparison.values import Columns, RowValues, mean
from mint_core.evaluation.confusions import Pair
from mint_core.evaluation.ranks import Ranked, pair_ranks
from mint_core.evaluation.statistics import told, told_plain
from mint_core.evaluation.subgroups import NOT_KNOWN, SMALLEST, by_subgroup
from mint_core.evaluation.subsets import ALL, whole_sets
from mint_core.report.subgroups import between
from mint_core.report.table import Column


def pairs_of(metrics: Iterable[Mapping[str, Any]]) -> list[Pair]:
    """The pairs of labels of all runs, from their metrics.json, each once."""
    return list(
        dict.fromkeys((one, other) for run in metrics for one, other in (p["labels"] for p in run["pairs"]["pairs"]))
    )


def breakdown_of(
    row: RowValues, metrics: Mapping[str, Any], pairs: Sequence[Pair], columns: Columns, how: Mapping[str, Any]
) -> dict[str, Any]:
    """Plain data of a row, values of several seeds averaged per sample.

    Args:
        row: The row.
        metrics: Content of the metrics.json of its first run.
        pairs: Of labels.
        columns: The metrics.
        how: `draws`, `confidence` and `seed` of the bootstrap.

    Returns:
        `subgroups`: by data set and field what `by_subgroup` returns, with the SD over the seeds of each cell;
        `confusable`: per pair `labels` and two `sides`, see `pair_ranks`; `ranks_all`: whether the row ranks all
        labels, and not those of a list alone.
    """
    absent = metrics["pairs"]["absent_rank"]
    variant = next(iter(row.records.values()))["variant"]
    subgroups = {}
    for name, ids in whole_sets(row.members).items():
        fields = dict.fromkeys(field for i in ids for field in row.members[i].subgroups)
        subgroups[name] = {field: _field(row, field, ids, columns, how) for field in fields}
    own = {row.name: [_averaged(row, i, absent) for i in next(iter(whole_sets(row.members).values()))]}
    sides = [(pair, pair_ranks(pair, own, how)) for pair in pairs]
    return {
        "ranks_all": row.kind == "baseline" or variant in metrics["pairs"]["full"],
        "subgroups": subgroups,
        "confusable": [
            {"labels": list(pair), "sides": [{**side, "ranks": side.pop("rows").get(row.name, {})} for side in both]}
            for pair, both in sides
        ],
    }


def _field(row: RowValues, field: str, ids: Sequence[str], columns: Columns, how: Mapping[str, Any]) -> dict[str, Any]:
    cells = [row.members[i].subgroups.get(field) for i in ids]
    values = {row.name: {key: [row.average(key, i) for i in ids] for key in columns.titles}}
    found = by_subgroup(field, cells, values, [row.members[i].group for i in ids], **how)
    for part in found["cells"]:
        part["metrics"] = part.pop("rows")[row.name]
        inside = [i for i, own in zip(ids, cells, strict=True) if (own or NOT_KNOWN) == part["cell"]]
        for key, one in part["metrics"].items():
            one["sd"] = None if one["mean"] is None else _spread(row, key, inside)
    found["gaps"] = found["gaps"].get(row.name, {})
    return found


def _spread(row: RowValues, key: str, ids: Sequence[str]) -> float | None:
    """The SD of a mean over the seeds."""
    means = [mean(records[i]["metrics"].get(key) for i in ids) for records in row.by_seed.values()]
    made = [one for one in means if one is not None]
    return statistics.stdev(made) if len(made) > 1 else None


def _averaged(row: RowValues, sample: str, absent: int) -> Ranked:
    """The ranks of a sample, averaged over the seeds; None where no seed lists the label."""
    seeds = [Ranked.of(records[sample], absent) for records in row.by_seed.values()]
    ranks = {}
    for label in seeds[0].ranks:
        given = [one.ranks.get(label) for one in seeds]
        listed = any(rank is not None for rank in given)
        ranks[label] = mean(absent if rank is None else rank for rank in given) if listed else None
    return seeds[0]._replace(ranks=ranks)


def grids(content: Mapping[str, Any]) -> list[Grid]:
    """A table per field, and one of the pairs of labels; what holds no value is left out.

    Args:
        content: Content of compare.json or sweep.json.
    """
    rows = [row for row in content["rows"] if "subgroups" in row]
    fields = dict.fromkeys((name, field) for row in rows for name, of in row["subgroups"].items() for field in of)
    found = [_field_grid(name, field, rows, columns_of(content)) for name, field in fields]
    return [grid for grid in (*found, _pairs_grid(rows)) if any(grid.parts)]


def _field_grid(name: str, field: str, rows: Sequence[Mapping[str, Any]], shown: Sequence[Column]) -> Grid:
    """The cells of one field in one data set, row by row."""
    parts = []
    hidden = 0
    for row in rows:
        one = row["subgroups"].get(name, {}).get(field, {"cells": []})
        if len(one["cells"]) < 2:
            continue
        hidden = max(hidden, one["not_shown"])
        lines = [
            [f"{row['name']}: {own['cell']}", str(own["n"]), *(cell(own["metrics"][c.key]) for c in shown)]
            for own in one["cells"]
        ]
        if gaps := one["gaps"]:
            lines.append([f"{row['name']}: worst gap", "", *(_gap(gaps.get(column.key)) for column in shown)])
        parts.append(lines)
    notes = [f"cells of fewer than {SMALLEST} samples are not shown: {hidden}."] if hidden else []
    whose = "" if name == ALL else f"{name}, "
    title = f"{whose}by {field}: percent; the worst gap's interval holds for all pairs of cells"
    return Grid(title[0].upper() + title[1:], ["", "n", *(column.heading for column in shown)], parts, notes)


def _gap(gap: Mapping[str, Any] | None) -> str:
    return f"{told(gap)}\n{between(gap)}" if gap else "-"


def _pairs_grid(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Per truth and confuser a line per row; all rows tell of the same pairs."""
    pairs = range(len(rows[0]["confusable"]) if rows else 0)
    parts = []
    for at, end in ((at, end) for at in pairs for end in (0, 1)):
        sides = [(row["name"], row["confusable"][at]["sides"][end]) for row in rows]
        parts.append(
            [
                [
                    f"{side['truth']}, not {side['confuser']}: {name}",
                    str(side["n"]),
                    *(told_plain(rank, 1) for rank in side["ranks"].values()),
                ]
                for name, side in sides
                if side["ranks"]
            ]
        )
    listed = [row["name"] for row in rows if not row["ranks_all"]]
    note = f"{', '.join(listed)}: a label that is not in the list counts as the rank behind its end."
    header = ["", "n", "rank of the truth", "rank of the confuser"]
    return Grid("Labels that are easily confused: mean rank", header, parts, [note] if listed else [])
