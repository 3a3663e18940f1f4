"""The tables of a comparison, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mint_core.cautions import in_short
from mint_core.characters import markdown_table, visible
from mint_core.comparison.calibrated import calibration_lines
from mint_core.comparison.summary import OTHER_LISTS, OTHER_SAMPLES
from mint_core.evaluation.failures import many_fail
from mint_core.evaluation.statistics import told, told_p
from mint_core.preservation.results import difference, title
from mint_core.report.failures import next_step, sentences
from mint_core.report.table import Column, columns, how_asked

_REASONS = {
    OTHER_SAMPLES: "no sample of one row is in the other with the same id, text, image, label and group",
    OTHER_LISTS: "the metric reads the teacher's lists, which differ between the two rows for every sample",
}


class Grid(NamedTuple):
    """One table as text."""

    title: str
    header: list[str]
    parts: list[list[list[str]]]
    """Rows by subset."""
    notes: list[str]
    """What must be known to read it."""


def grids(content: Mapping[str, Any]) -> list[Grid]:
    """The results, and where there are any: paired differences of each row and the one before, pairs, calibration.

    Last comes general ability, where it was measured.

    Args:
        content: Content of compare.json or sweep.json.
    """
    found = [_results(content)]
    behind = (_differences(content), _pairs(content), _calibration(content), _preserved(content))
    return found + [grid for grid in behind if any(grid.parts)]


def tables(content: Mapping[str, Any]) -> list[RenderableType]:
    """The tables that a comparison ends with, each followed by its notes; arguments as above."""
    shown: list[RenderableType] = []
    for grid in grids(content):
        table = Table(title=escape(visible(grid.title)), title_justify="left")
        for number, name in enumerate(grid.header):
            table.add_column(escape(name), justify="right" if number else "left")
        for part in grid.parts:
            for row in part:
                table.add_row(escape(visible(row[0])), *map(escape, row[1:]))
            table.add_section()
        shown += [table, *(Text(visible(note)) for note in grid.notes)]
    return shown


def markdown(content: Mapping[str, Any], further: Sequence[Grid] = ()) -> str:
    """The same tables for a paper or a README, with what must be known to read them.

    Args:
        content: As above.
        further: Tables that stand behind them.
    """
    lines = []
    for grid in (*grids(content), *further):
        lines += [grid.title, "", *markdown_table(grid.header, [*chain(*grid.parts)], numbers=True)]
        lines += ["", *(f"{note}  " for note in grid.notes), *([""] if grid.notes else [])]
    lines += [f"{content['source']} Test: {content['test']}."]
    lines += [f"- {heading}: {content['rules'][key]}" for key, heading in columns_of(content)]
    return "\n".join(lines) + "\n"


def _results(content: Mapping[str, Any]) -> Grid:
    seeds = f"seeds {', '.join(map(str, content['seeds']))}"
    spread = ", ± SD over the seeds" if len(content["seeds"]) > 1 else ""
    level = round(100 * content["confidence"])
    title = f"{in_short(content)}{content['split']} split, {seeds}: percent with {level} % intervals{spread}"
    shown = columns_of(content)
    parts = [
        [
            [name, str(part["n"]), *(cell(part["metrics"][column.key]) for column in shown)]
            for name, part in _named(content, subset)
        ]
        for subset in subsets_of(content)
    ]
    asked = [(row["name"], how_asked(row["asked"])) for row in content["rows"] if "asked" in row]
    notes = [f"{name}: {how}" for name, how in asked if how]
    failing = [row for row in content["rows"] if many_fail(row.get("failures", {}))]
    for row in failing:
        notes += sentences(row["name"], row["failures"], content["titles"], row["ungated"])
    if failing:
        notes.append(next_step("free"))
    return Grid(title, ["", "n", *(column.heading for column in shown)], parts, notes)


def _differences(content: Mapping[str, Any]) -> Grid:
    tests = [
        [
            _Tests(f"{name} - {part['against']['row']}", part["against"]["metrics"])
            for name, part in _named(content, subset)
            if "against" in part
        ]
        for subset in subsets_of(content)
    ]
    return _tested("Paired differences", content, tests)


def _pairs(content: Mapping[str, Any]) -> Grid:
    several = len(subsets_of(content)) > 1
    tests = [
        [
            _Tests(f"{subset}: {_name(pair)}" if several else _name(pair), pair["metrics"])
            for pair in content.get("pairs", ())
            if pair["subset"] == subset
        ]
        for subset in subsets_of(content)
    ]
    return _tested("Pairs", content, tests)


def _calibration(content: Mapping[str, Any]) -> Grid:
    """ECE and Brier score of the rows that scored the labels, one line per row and seed; none where no student did."""
    scored = any(row.get("kind") == "student" and "calibration" in row for row in content["rows"])
    rows: list[list[str]] = []
    for row in content["rows"] if scored else ():
        rows += calibration_lines(row["name"], row.get("calibration", {}))
    level = round(100 * content["confidence"])
    note = "task's own samples; ECE in percent, over bins of equal mass; Brier score from 0 to 2; 0 is best in both."
    header = ["", "n", "ECE", "ECE by chance", "Brier score"]
    return Grid(f"Calibration, with {level} % intervals", header, [rows] if rows else [], [note])


def _preserved(content: Mapping[str, Any]) -> Grid:
    found = content.get("preserved")
    if found is None:
        return Grid("", [], [], [])
    tasks = found["rows"][0]["tasks"]
    rows = [[row["name"], *(_ability(row["tasks"][task]) for task in tasks)] for row in found["rows"]]
    heads = [visible(f"{task} (n = {one['n']})") for task, one in tasks.items()]
    note = "below each number: paired difference to the row's student without an adapter, on the same items."
    return Grid(title(found), ["", *heads], [rows], [note])


def _ability(one: Mapping[str, Any]) -> str:
    return cell(one) + (f"\n{difference(one['difference'])}" if "difference" in one else "")


def _name(pair: Mapping[str, Any]) -> str:
    return f"{pair['first']} - {pair['second']}"


class _Tests(NamedTuple):
    name: str
    by_key: Mapping[str, Mapping[str, Any]]


def _tested(title: str, content: Mapping[str, Any], parts: Sequence[Sequence[_Tests]]) -> Grid:
    """A table of paired tests; what was not tested is explained below it."""
    shown = columns_of(content)
    rows = [[[one.name, *(_test(one.by_key[column.key]) for column in shown)] for one in part] for part in parts]
    tests = [test for part in parts for one in part for test in one.by_key.values()]
    notes = [f"{reason}: {why}." for reason, why in _REASONS.items() if any(t["reason"] == reason for t in tests)]
    if any(test["apart"] and not test["reason"] for test in tests):
        notes.append("left out: samples that both rows have, but not with the same content or lists of the teacher.")
    header = ["", *(column.heading for column in shown)]
    return Grid(f"{title}: percent, p, samples won/tied/lost", header, rows, notes)


def columns_of(content: Mapping[str, Any]) -> list[Column]:
    """The columns of a comparison's tables and figures; arguments as for `grids`."""
    return columns(content["titles"], (part["metrics"] for row in content["rows"] for part in row["subsets"]))


def subsets_of(content: Mapping[str, Any]) -> list[str]:
    """The subsets that a comparison reports; arguments as for `grids`."""
    return list(dict.fromkeys(part["subset"] for row in content["rows"] for part in row["subsets"]))


def _named(content: Mapping[str, Any], subset: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of one subset; its name stands in front where there are several."""
    several = len(subsets_of(content)) > 1
    for row in content["rows"]:
        for part in row["subsets"]:
            if part["subset"] == subset:
                yield f"{subset}: {row['name']}" if several else row["name"], part


def cell(metric: Mapping[str, Any]) -> str:
    """A mean with its interval and its SD over the seeds."""
    return told(metric) if metric["sd"] is None else f"{told(metric)} ±{100 * metric['sd']:.1f}"


def _test(test: Mapping[str, Any]) -> str:
    if test["difference"] is None:
        return test["reason"] or "-"
    counts = f"{test['wins']}/{test['ties']}/{test['losses']}"
    left = f", {test['apart']} left out" if test["apart"] else ""
    difference = told({**test, "mean": test["difference"]}, signed=True)
    return f"{difference}\n{told_p(test)}, {counts}{left}"
