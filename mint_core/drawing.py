"""Figures: how all of them are made, so that they look alike and come out with the same bytes from the same numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mint_core.files import storage_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, PURPLE, GREY, PALE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777", "#BBBBBB"
"""Okabe and Ito's colours, which every kind of colour vision tells apart: blue for students, grey for the rest."""
COLOURS = (BLUE, VERMILION, GREEN, PURPLE)
"""Of several students or curves beside each other."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, so that it can be searched and edited
    "svg.hashsalt": "mint",  # ids do not change from draw to draw
    "text.parse_math": False,  # a dollar sign in a name opens no formula
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


LETTER = 0.062
"""Inches that a letter takes, rather more than less."""


@contextmanager
def style() -> Iterator[None]:
    """Within it figures are made and written: text as text, no date, no formula."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float, margins: tuple[float, float, float, float] | None = None) -> Figure:
    """An empty figure that needs no screen; within `style`.

    Args:
        width: In inches.
        height: In inches.
        margins: In inches: left, below, right, above. None = they are found by drawing it twice.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=None if margins else "constrained")
    if margins:
        left, below, right, above = margins
        figure.subplots_adjust(left / width, below / height, 1 - right / width, 1 - above / height)
    FigureCanvasAgg(figure)
    return figure


def write(figure: Figure, path: Path) -> None:
    """Writes a figure as SVG or PNG, by the suffix; within `style`.

    Raises:
        StorageError: The file cannot be written.
    """
    vector = path.suffix == ".svg"
    how: dict[str, Any] = {"metadata": {"Date": None}} if vector else {"dpi": 150}
    with storage_errors(path):
        figure.savefig(path, **how)


def as_svg(figure: Figure) -> str:
    """A figure as an `<svg>` element that can stand in a page; within `style`."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def read_svg(path: Path) -> str:
    """A figure that `write` made as an `<svg>` element that can stand in a page; empty where there is none."""
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8")
    return text[text.index("<svg") :]


def distances(estimates: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Distances in percent from the means to both ends of their intervals, as matplotlib's error bars take them.

    Args:
        estimates: Plain data of `Estimate`, each with a mean.

    Returns:
        Two lists, below and above; rounding makes none negative.
    """
    return [
        [max(0.0, 100 * (one["mean"] - one["low"])) for one in estimates],
        [max(0.0, 100 * (one["high"] - one["mean"])) for one in estimates],
    ]


def dots(axes: Axes, estimates: Sequence[Mapping[str, Any]], places: Sequence[float], colour: str, label: str) -> None:
    """Means with their intervals in percent, one below the other.

    Args:
        axes: Where to.
        estimates: Plain data of `Estimate`; one without a mean leaves its place empty.
        places: Their heights.
        colour: Of all of them.
        label: For the legend.
    """
    found = [(one, place) for one, place in zip(estimates, places, strict=True) if one["mean"] is not None]
    axes.errorbar(
        [100 * one["mean"] for one, _ in found],
        [place for _, place in found],
        xerr=distances([one for one, _ in found]),
        fmt="o",
        markersize=4,
        color=colour,
        capsize=2,
        label=label,
    )
