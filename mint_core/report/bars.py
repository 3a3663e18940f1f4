"""The figure beside the result table: one panel per metric, a bar with its interval per row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mint_core.drawing import BLUE, GREY, PALE, as_svg, bars, new_figure, style
from mint_core.report.table import columns_of
from mint_core.types import VARIANTS

_SUBSETS = 6
"""Subsets that are drawn; the table has all of them."""
_COLOURS = {"aligned": BLUE, "base": GREY}


class Bars(NamedTuple):
    """The panels of one subset."""

    subset: str
    panels: list[str]
    """One `<svg>` per metric."""


def chapter(metrics: Mapping[str, Any]) -> list[Bars]:
    """Panels by subset; empty where nothing was scored.

    Args:
        metrics: Content of metrics.json.
    """
    found = []
    for subset in [*dict.fromkeys(row["subset"] for row in metrics["rows"])][:_SUBSETS]:
        rows = {row["variant"]: row for row in metrics["rows"] if row["subset"] == subset}
        own = [(variant, rows[name]) for name, variant in VARIANTS.items() if name in rows]
        colours = [PALE if variant.shuffled else _COLOURS.get(variant.who, PALE) for variant, _ in own]
        panels = []
        with style():
            for column in columns_of(metrics):
                estimates = [row["metrics"][column.key] for _, row in own]
                if all(one["mean"] is None for one in estimates):
                    continue
                names = [variant.title for variant, _ in own]
                figure = new_figure(3.1, 0.6 + 0.24 * len(own), names)
                axes = figure.subplots()
                bars(axes, names, estimates, colours)
                axes.set_title(f"{column.heading}, percent", loc="right")  # long ones grow over the names
                panels.append(as_svg(figure))
        if panels:
            found.append(Bars(subset, panels))
    return found
