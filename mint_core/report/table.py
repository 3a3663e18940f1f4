"""The result table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from mint_core.types import VARIANTS


class Section(NamedTuple):
    """The rows of one subset."""

    subset: str
    n: int
    """Samples of the subset."""
    rows: list[tuple[str, list[str]]]
    """Row name and cells."""


def cell(estimate: Mapping[str, Any]) -> str:
    """A mean with its interval, in percent."""
    if estimate["mean"] is None:
        return "-"
    return f"{100 * estimate['mean']:.1f} [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"


def columns(content: Mapping[str, Any], cells: Callable[[str], Sequence[Any]]) -> dict[str, str]:
    """The headings of a table by key of the metric, in order.

    Two metrics of one title (Top-N with N = 1 is Top-1) are one column where all their cells agree; else the key stands
    behind the title.

    Args:
        content: Of metrics.json, compare.json or sweep.json.
        cells: All cells of a metric, by key.
    """
    shown: dict[str, str] = {}
    for key, title in content["titles"].items():
        alike = [other for other in shown if content["titles"][other] == title]
        if not any(cells(key) == cells(other) for other in alike):
            shown[key] = f"{title} ({key})" if alike else title
    return shown


def run_columns(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The headings of a run's table; see `columns`."""
    return columns(metrics, lambda key: [row["metrics"][key] for row in metrics["rows"]])


def sections(metrics: Mapping[str, Any]) -> list[Section]:
    """The table subset by subset: students, the paired difference, then teacher and chance."""
    names = list(run_columns(metrics))
    found = []
    for subset in dict.fromkeys(row["subset"] for row in metrics["rows"]):
        own = {row["variant"]: row for row in metrics["rows"] if row["subset"] == subset}
        rows = [
            (one.title, [cell(own[name]["metrics"][key]) for key in names])
            for name, one in VARIANTS.items()
            if name in own
        ]
        if subset in metrics["aligned_minus_base"]:
            difference = metrics["aligned_minus_base"][subset]
            rows.insert(2, ("aligned - base (paired)", [cell(difference[key]) for key in names]))
        found.append(Section(subset, max(row["n"] for row in own.values()), rows))
    return found


def result_table(metrics: Mapping[str, Any]) -> Table:
    """The table that a run ends with."""
    simulated = "SIMULATED data, " if metrics["simulated"] else ""
    level = round(100 * metrics["confidence"])
    table = Table(
        title=f"{simulated}{metrics['split']} split, n = {metrics['n']}, percent with {level} % intervals",
        caption_justify="left",
        title_justify="left",
    )
    parts = sections(metrics)
    table.add_column("")
    if len(parts) > 1:
        table.add_column("n", justify="right")
    for title in run_columns(metrics).values():
        table.add_column(title, justify="right", no_wrap=True)
    for part in parts:
        for name, cells in part.rows:
            if len(parts) > 1:
                table.add_row(escape(f"{part.subset}: {name}"), str(part.n), *map(escape, cells))
            else:
                table.add_row(name, *map(escape, cells))
        table.add_section()
    table.caption = _caption(metrics)
    return table


def _caption(metrics: Mapping[str, Any]) -> str | None:
    """How many values could not be scored: per metric the most of any row."""
    names = list(run_columns(metrics))
    unscored = {key: max((row["metrics"][key]["unscored"] for row in metrics["rows"]), default=0) for key in names}
    counts = [f"{metrics['titles'][key]} {count}" for key, count in unscored.items() if count]
    return f"unscored: {', '.join(counts)}" if counts else None


def asked(who: Mapping[str, Any]) -> str:
    """One sentence on who was asked and how, where that is not the usual; empty else.

    Args:
        who: `asked` of metrics.json.
    """
    parts = []
    if who["engine"] == "endpoint":
        parts.append(f"a model that was only asked: {who['model']} at {who['endpoint']}")
    elif who["engine"] != "transformers":
        parts.append(f"answers by {who['engine']}")
    if who["shots"]:
        parts.append("one solved training sample in the prompt")
    if who["reason"]:
        parts.append("reasons before the list: the last list counts, for HFA too")
    return "; ".join(parts)
