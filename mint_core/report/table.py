"""The result table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from mint_core.cautions import in_short
from mint_core.characters import visible
from mint_core.evaluation.statistics import told
from mint_core.types import VARIANTS


class Section(NamedTuple):
    """The rows of one subset."""

    subset: str
    n: int
    """Samples of the subset."""
    rows: list[tuple[str, list[str]]]
    """Row name and cells."""


class Column(NamedTuple):
    """One metric of a table."""

    key: str
    heading: str


def columns(titles: Mapping[str, str], values: Iterable[Mapping[str, Any]]) -> list[Column]:
    """The columns of a table.

    Metrics of one title share a column where all their values are equal, as Top-N and Top-1 do for N = 1; else the key
    stands behind the title.

    Args:
        titles: Titles by key.
        values: By key, for every row of the table.
    """
    values = list(values)
    kept: list[str] = []
    for key, title in titles.items():
        same = (other for other in kept if titles[other] == title)
        if not any(all(one[other] == one[key] for one in values) for other in same):
            kept.append(key)
    count = Counter(titles[key] for key in kept)
    return [Column(key, visible(f"{titles[key]} ({key})" if count[titles[key]] > 1 else titles[key])) for key in kept]


def columns_of(metrics: Mapping[str, Any]) -> list[Column]:
    """The columns of a run's table, in the order of its metrics."""
    return columns(metrics["titles"], (row["metrics"] for row in metrics["rows"]))


def how_asked(asked: Mapping[str, Any]) -> str:
    """Who answered and what stood in the prompt; empty for the student on this machine, asked plainly."""
    who = {"endpoint": "model {model} at {endpoint}", "vllm": "the student in vLLM"}.get(asked["engine"], "")
    parts = [who.format(**asked)] if who else []
    parts += ["one solved example"] if asked["shots"] else []
    parts += ["reasons before the list (the last list counts, for HFA too)"] if asked["reason"] else []
    return visible(f"asked: {', '.join(parts)}") if parts else ""


def sections(metrics: Mapping[str, Any]) -> list[Section]:
    """The table subset by subset: students, the paired difference, then teacher and chance."""
    keys = [column.key for column in columns_of(metrics)]
    found = []
    for subset in dict.fromkeys(row["subset"] for row in metrics["rows"]):
        own = {row["variant"]: row for row in metrics["rows"] if row["subset"] == subset}
        named = ((one.title, own[name]["metrics"]) for name, one in VARIANTS.items() if name in own)
        rows = [(title, [told(values[key]) for key in keys]) for title, values in named]
        if subset in metrics["aligned_minus_base"]:
            difference = metrics["aligned_minus_base"][subset]
            rows.insert(2, ("aligned - base (paired)", [told(difference[key]) for key in keys]))
        found.append(Section(subset, max(row["n"] for row in own.values()), rows))
    return found


def result_table(metrics: Mapping[str, Any]) -> Table:
    """The table that a run ends with."""
    level = round(100 * metrics["confidence"])
    table = Table(
        title=escape(
            visible(
                f"{in_short(metrics)}{metrics['split']} split, n = {metrics['n']}, percent with {level} % intervals"
            )
        ),
        caption_justify="left",
        title_justify="left",
    )
    parts = sections(metrics)
    table.add_column("")
    if len(parts) > 1:
        table.add_column("n", justify="right")
    for column in columns_of(metrics):
        table.add_column(escape(column.heading), justify="right", no_wrap=True)
    for part in parts:
        for name, cells in part.rows:
            if len(parts) > 1:
                table.add_row(escape(visible(f"{part.subset}: {name}")), str(part.n), *map(escape, cells))
            else:
                table.add_row(name, *map(escape, cells))
        table.add_section()
    table.caption = (
        escape("\n".join(filter(None, [how_asked(metrics["asked"]), *_ceilings(metrics), _unscored(metrics)]))) or None
    )
    return table


def _ceilings(metrics: Mapping[str, Any]) -> list[str]:
    """What no list of N labels can exceed, per metric."""
    told = metrics.get("ceilings", {})
    return [f"{heading}: {told[key]}" for key, heading in columns_of(metrics) if key in told]


def _unscored(metrics: Mapping[str, Any]) -> str:
    """How many values could not be scored: per metric the most of any row."""
    counts = [
        f"{heading} {count}"
        for key, heading in columns_of(metrics)
        if (count := max((row["metrics"][key]["unscored"] for row in metrics["rows"]), default=0))
    ]
    return f"unscored: {', '.join(counts)}" if counts else ""
