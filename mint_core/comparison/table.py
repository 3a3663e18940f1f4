"""The tables of a comparison, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from mint_core.report.table import cell


class Grid(NamedTuple):
    """One table as text."""

    title: str
    header: list[str]
    parts: list[list[list[str]]]
    """Rows by subset."""


def grids(content: Mapping[str, Any]) -> list[Grid]:
    """The results, and the paired differences where there are any: each row and the one before, and pairs asked for.

    Args:
        content: Content of compare.json or sweep.json.
    """
    found = [_results(content)]
    return found + [grid for grid in (_differences(content), _pairs(content)) if any(grid.parts)]


def tables(content: Mapping[str, Any]) -> list[Table]:
    """The tables that a comparison ends with; arguments as above."""
    shown = []
    for grid in grids(content):
        table = Table(title=escape(grid.title), title_justify="left")
        for number, name in enumerate(grid.header):
            table.add_column(escape(name), justify="right" if number else "left")
        for part in grid.parts:
            for row in part:
                table.add_row(*map(escape, row))
            table.add_section()
        shown.append(table)
    return shown


def markdown(content: Mapping[str, Any]) -> str:
    """The same tables for a paper or a README, with what must be known to read them; arguments as above."""
    lines = []
    for grid in grids(content):
        lines += [grid.title, "", _line(grid.header), _line(["---", *["---:"] * (len(grid.header) - 1)])]
        lines += [_line(row) for part in grid.parts for row in part]
        lines.append("")
    lines += [f"{content['source']} Test: {content['test']}."]
    lines += [f"- {title}: {rule}" for title, rule in content["rules"].items()]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", ", ") for text in cells) + " |"


def _results(content: Mapping[str, Any]) -> Grid:
    simulated = "SIMULATED data, " if content["simulated"] else ""
    seeds = f"seeds {', '.join(map(str, content['seeds']))}"
    spread = ", ± SD over the seeds" if len(content["seeds"]) > 1 else ""
    level = round(100 * content["confidence"])
    title = f"{simulated}{content['split']} split, {seeds}: percent with {level} % intervals{spread}"
    parts = [
        [
            [name, str(part["n"]), *(_cell(part["metrics"][title]) for title in content["titles"])]
            for name, part in _named(content, subset)
        ]
        for subset in _subsets(content)
    ]
    return Grid(title, ["", "n", *content["titles"]], parts)


def _differences(content: Mapping[str, Any]) -> Grid:
    parts = []
    for subset in _subsets(content):
        rows = []
        for name, part in _named(content, subset):
            if part.get("against"):
                tests = part["against"]["metrics"]
                cells = [_test(tests[title]) for title in content["titles"]]
                rows.append([f"{name} - {part['against']['row']}", *cells])
        parts.append(rows)
    return Grid("Paired differences: percent, p, samples won/tied/lost", ["", *content["titles"]], parts)


def _pairs(content: Mapping[str, Any]) -> Grid:
    several = len(_subsets(content)) > 1
    parts = []
    for subset in _subsets(content):
        rows = []
        for pair in content.get("pairs", ()):
            if pair["subset"] == subset:
                name = f"{pair['first']} - {pair['second']}"
                cells = [_test(pair["metrics"][title]) for title in content["titles"]]
                rows.append([f"{subset}: {name}" if several else name, *cells])
        parts.append(rows)
    return Grid("Pairs: percent, p, samples won/tied/lost", ["", *content["titles"]], parts)


def _subsets(content: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(part["subset"] for row in content["rows"] for part in row["subsets"]))


def _named(content: Mapping[str, Any], subset: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of one subset; its name stands in front where there are several."""
    several = len(_subsets(content)) > 1
    for row in content["rows"]:
        for part in row["subsets"]:
            if part["subset"] == subset:
                yield f"{subset}: {row['name']}" if several else row["name"], part


def _cell(metric: Mapping[str, Any]) -> str:
    return cell(metric) if metric["sd"] is None else f"{cell(metric)} ±{100 * metric['sd']:.1f}"


def _test(test: Mapping[str, Any]) -> str:
    if test["difference"] is None:
        return "-"
    low, high, p = 100 * test["low"], 100 * test["high"], test["p_value"]
    chance = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    counts = f"{test['wins']}/{test['ties']}/{test['losses']}"
    return f"{100 * test['difference']:+.1f} [{low:+.1f}, {high:+.1f}]\n{chance}, {counts}"
