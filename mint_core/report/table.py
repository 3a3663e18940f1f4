"""The result table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

VARIANTS = {
    "base": "base student",
    "aligned": "aligned student",
    "aligned-shuffled": "aligned, images shuffled",
    "teacher": "teacher",
    "chance": "random list",
}


def cell(estimate: Mapping[str, Any]) -> str:
    """A mean with its interval, in percent."""
    if estimate["mean"] is None:
        return "-"
    return f"{100 * estimate['mean']:.1f} [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"


def titles(metrics: Mapping[str, Any]) -> list[str]:
    """Metric titles in the order of the run."""
    return list(metrics["rules"])


def rows(metrics: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Row name and cells: students, the paired difference, then teacher and chance."""
    names = titles(metrics)
    by_variant = {row["variant"]: row for row in metrics["rows"]}
    found = [(VARIANTS[v], [cell(by_variant[v][t]) for t in names]) for v in VARIANTS if v in by_variant]
    if metrics["aligned_minus_base"]:
        difference = ("aligned - base (paired)", [cell(metrics["aligned_minus_base"][t]) for t in names])
        found.insert(2, difference)
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
    table.add_column("")
    for title in titles(metrics):
        table.add_column(title, justify="right", no_wrap=True)
    for name, cells in rows(metrics):
        table.add_row(name, *cells)
    unscored = {t: row[t]["unscored"] for row in metrics["rows"] for t in titles(metrics) if row[t]["unscored"]}
    if unscored:
        table.caption = "unscored: " + ", ".join(f"{title} {count}" for title, count in unscored.items())
    return table
