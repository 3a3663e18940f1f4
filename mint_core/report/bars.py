"""The figure beside the result table: one panel per metric, a bar with its interval per row.

Drawn by a template: these panels stand on every page, and matplotlib takes a tenth of a second for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mint_core.drawing import BLUE, GREY, PALE
from mint_core.report.table import columns_of
from mint_core.types import VARIANTS

_SUBSETS = 6
"""Subsets that are drawn; the table has all of them."""
_COLOURS = {"aligned": BLUE, "base": GREY}
_LETTER, _WIDEST = 6, 180
"""Pixels of a letter, rather more than less, and the most that names may take."""


class Bars(NamedTuple):
    """The panels of one subset."""

    subset: str
    left: int
    """Pixels that the names take."""
    panels: list[tuple[str, list[tuple[str, Mapping[str, Any], str]]]]
    """Heading of a metric, and its bars: name, plain data of `Estimate`, colour."""


def chapter(metrics: Mapping[str, Any]) -> list[Bars]:
    """Panels by subset; empty where nothing was scored.

    Args:
        metrics: Content of metrics.json.
    """
    found = []
    for subset in [*dict.fromkeys(row["subset"] for row in metrics["rows"])][:_SUBSETS]:
        rows = {row["variant"]: row for row in metrics["rows"] if row["subset"] == subset}
        own = [(variant, rows[name]["metrics"]) for name, variant in VARIANTS.items() if name in rows]
        panels = []
        for column in columns_of(metrics):
            bars = [
                (one.title, values[column.key], PALE if one.shuffled else _COLOURS.get(one.who, PALE))
                for one, values in own
            ]
            if any(value["mean"] is not None for _, value, _ in bars):
                panels.append((column.heading, bars))
        if panels:
            widest = max(len(one.title) for one, _ in own)
            found.append(Bars(subset, min(_WIDEST, 8 + _LETTER * widest), panels))
    return found
