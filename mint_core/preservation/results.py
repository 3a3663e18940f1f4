"""What a measurement left in a folder, and how it is shown: as a table, in words, as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mint_core.characters import markdown_table, visible
from mint_core.drawing import BLUE, GREY, dots, new_figure, style, write
from mint_core.evaluation.statistics import told, told_p
from mint_core.files import remove, storage_errors
from mint_core.students.adapter_files import read_about

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONTENT, FIGURE, ITEMS = "preserve.json", "preserve.svg", "preserve.parquet"


def read_preserved(folder: Path, adapter: Path) -> dict[str, Any] | None:
    """The content of preserve.json; None where there is none, or where it is about another adapter.

    Args:
        folder: The run folder.
        adapter: The adapter that lies there now, or would lie.
    """
    return read_about(folder / CONTENT, adapter, lambda content: (title(content), cells(content)))


def withdraw_preserved(folder: Path) -> None:
    """Removes what was measured of an adapter that is about to be made anew; the values of its items are kept."""
    with storage_errors(folder):
        for name in (CONTENT, FIGURE, ITEMS):
            remove(folder / name)


def title(content: Mapping[str, Any]) -> str:
    """What a table or a figure shows, in one line; that items were left out is said first."""
    limit = f"ONLY {content['limit']} ITEMS OF EACH TASK, DRAWN AT RANDOM (--limit). " if content["limit"] else ""
    level = round(100 * content["confidence"])
    return f"{limit}General ability, {content['harness']}, percent with {level} % intervals"


def header(content: Mapping[str, Any]) -> list[str]:
    """The heads of the table's columns."""
    aligned = ["aligned", "aligned - base (paired)"] if content["adapter"] else []
    return ["task", "metric", "shots", "n", "base", *aligned]


def cells(content: Mapping[str, Any]) -> list[list[str]]:
    """The table line by line, in the order of `header`."""
    lines = []
    for row in content["rows"]:
        metric = f"{row['metric']} (lower is better)" if row["lower_is_better"] else row["metric"]
        count = f"{row['n']} of {row['of']}" if row["n"] < row["of"] else str(row["n"])
        line = [row["task"], metric, ", ".join(map(str, row["shots"])), count, told(row["base"])]
        if "difference" in row:
            line += [told(row["aligned"]), difference(row["difference"])]
        lines.append([visible(cell) for cell in line])
    return lines


def markdown(content: Mapping[str, Any]) -> list[str]:
    """The table for a model card."""
    return [f"{title(content)}.", "", *markdown_table(header(content), cells(content))]


def draw(content: Mapping[str, Any], path: Path) -> None:
    """Draws the dot plot as SVG: base and aligned by task, and their paired difference beside.

    Args:
        content: Content of preserve.json.
        path: Where to.
    """
    rows = content["rows"]
    with style():
        figure = new_figure(8.5 if content["adapter"] else 5.5, 1.4 + 0.4 * len(rows))
        panels = figure.subplots(1, 2 if content["adapter"] else 1, squeeze=False, sharey=True)[0]
        names = [f"{row['task']} (n = {row['n']})" for row in rows]
        shift = 0.12 if content["adapter"] else 0.0
        _dots(panels[0], rows, "base", GREY, -shift)
        panels[0].set_yticks(range(len(rows)), names)
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        if content["adapter"]:
            _dots(panels[0], rows, "aligned", BLUE, shift)
            panels[1].axvline(0, color="#999999", linewidth=0.8)
            _dots(panels[1], rows, "difference", BLUE, 0.0)
            panels[1].set_title("aligned - base", fontsize=9)
            panels[0].legend(fontsize=7, loc="best")
        panels[0].set_title("percent", fontsize=9)
        for axes in panels:
            axes.tick_params(labelsize=8)
            axes.grid(axis="x", color="#eeeeee")
        figure.suptitle(title(content), fontsize=8)
        write(figure, path)


def _dots(axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, colour: str, shift: float) -> None:
    dots(axes, [row[key] for row in rows], [place + shift for place in range(len(rows))], colour, key)


def difference(one: Mapping[str, Any]) -> str:
    """A paired difference with its interval and p-value."""
    if one["mean"] is None:
        return "-"
    return f"{told(one, signed=True)}, {told_p(one)}"
