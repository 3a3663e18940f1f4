"""The result table."""

from __future__ import annotations

from collections.abc import Mapping
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


def titles(metrics: Mapping[str, Any]) -> list[str]:
    """Metric titles in the order of the run."""
    return list(metrics["rules"])


def sections(metrics: Mapping[str, Any]) -> list[Section]:
    """The table subset by subset: students, the paired difference, then teacher and chance."""
    names = titles(metrics)
    found = []
    for subset in dict.fromkeys(row["subset"] for row in metrics["rows"]):
        own = {row["variant"]: row for row in metrics["rows"] if row["subset"] == subset}
        rows = [(one.title, [cell(own[name][t]) for t in names]) for name, one in VARIANTS.items() if name in own]
        if subset in metrics["aligned_minus_base"]:
            difference = metrics["aligned_minus_base"][subset]
            rows.insert(2, ("aligned - base (paired)", [cell(difference[t]) for t in names]))
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
    for title in titles(metrics):
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
    names = titles(metrics)
    unscored = {t: max((row[t]["unscored"] for row in metrics["rows"]), default=0) for t in names}
    counts = [f"{title} {count}" for title, count in unscored.items() if count]
    return f"unscored: {', '.join(counts)}" if counts else None
