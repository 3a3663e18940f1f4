"""The figures of a comparison: bars of the rows, or curves over the ratio, one panel per metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mint_core.cautions import in_short
from mint_core.comparison.table import columns_of, subsets_of
from mint_core.drawing import BLUE, PALE, VERMILION, distances, new_figure, style, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class _Found(NamedTuple):
    row: Mapping[str, Any]
    metric: Mapping[str, Any]


def draw(content: Mapping[str, Any], path: Path) -> list[Path]:
    """Draws the figure of a comparison as PNG and SVG.

    Args:
        content: Content of compare.json or sweep.json.
        path: Where to, without a suffix.

    Returns:
        The files.
    """
    files = [path.with_suffix(".png"), path.with_suffix(".svg")]
    with style():
        figure = _figure(content)
        for file in files:
            write(figure, file)
    return files


def _figure(content: Mapping[str, Any]) -> Figure:
    """A grid of panels: subsets downwards, metrics across."""
    subsets = subsets_of(content)
    shown = columns_of(content)
    curves = content["kind"] == "sweep"
    height = 2.6 if curves else 0.9 + 0.32 * len(content["rows"])
    size = (1.6 + 2.6 * len(shown), 0.6 + height * len(subsets))
    figure = new_figure(*size)
    panels = figure.subplots(len(subsets), len(shown), squeeze=False)
    for axes_row, subset in zip(panels, subsets, strict=True):
        for axes, column in zip(axes_row, shown, strict=True):
            found = [
                _Found(row, part["metrics"][column.key])
                for row in content["rows"]
                for part in row["subsets"]
                if part["subset"] == subset
            ]
            (_curve if curves else _bars)(axes, found)
            axes.set_title(column.heading if len(subsets) == 1 else f"{column.heading}, {subset}", fontsize=10)
            axes.tick_params(labelsize=8)
        for axes in axes_row[1:]:
            axes.tick_params(labelleft=curves)
    level = round(100 * content["confidence"])
    dots = "; dots: single seeds" if len(content["seeds"]) > 1 else ""
    figure.suptitle(
        f"{in_short(content, '. ')}{content['split']} split, percent with {level} % intervals{dots}", fontsize=9
    )
    return figure


def _bars(axes: Axes, found: list[_Found]) -> None:
    """One bar per row, the first on top; students darker than what stands beside them, single seeds as dots."""
    there = [(place, row, metric) for place, (row, metric) in enumerate(found) if metric["mean"] is not None]
    axes.barh(
        [place for place, _, _ in there],
        [100 * metric["mean"] for *_, metric in there],
        height=0.7,
        color=[BLUE if row["kind"] == "student" else PALE for _, row, _ in there],
        xerr=distances([metric for *_, metric in there]),
        capsize=2,
    )
    axes.set_yticks(range(len(found)), [row["name"] for row, _ in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlim(0, 105)
    for position, (_, metric) in enumerate(found):
        values = [100 * value for value in metric["per_seed"].values()]
        _dots(axes, values, [position] * len(values))


def _curve(axes: Axes, found: list[_Found]) -> None:
    """A metric over the ratios as they were written; the teacher and the random list as lines across."""
    found = [one for one in found if one.metric["mean"] is not None]
    students = [(row["name"], metric) for row, metric in found if row["kind"] == "student"]
    positions = list(range(len(students)))
    means = [100 * metric["mean"] for _, metric in students]
    errors = distances([metric for _, metric in students])
    axes.errorbar(positions, means, yerr=errors, color=BLUE, marker="s", markersize=4, capsize=3)
    for position, (_, metric) in enumerate(students):
        values = [100 * value for value in metric["per_seed"].values()]
        _dots(axes, [position] * len(values), values)
    for row, metric in found:
        if row["kind"] != "student":
            height, teacher = 100 * metric["mean"], row["kind"] == "teacher"
            axes.axhline(height, color="#777777", linestyle="--" if teacher else ":", linewidth=1)
            # At opposite ends, because both may lie at 100.
            place: dict[str, Any] = {"ha": "left"} if teacher else {"ha": "right"}
            at = 0 if teacher else len(students) - 1
            axes.annotate(row["name"], (at, height), fontsize=7, va="bottom", color="#555555", **place)
    axes.set_xticks(positions, [name for name, _ in students])
    axes.set_xlabel("k/q", fontsize=8)
    axes.set_ylim(0, 108)


def _dots(axes: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    if len(x) > 1:
        axes.scatter(x, y, s=9, color=VERMILION, zorder=3)
