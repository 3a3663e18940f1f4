"""The chapter on the training: its loss and margin by step, and what the student answered between epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mint_core.drawing import BLUE, COLOURS, GREY, as_svg, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NOT_DRAWN = ("step", "epoch")
_DRAWN = ("loss", "margin")
"""Figures of the history that have a panel, where the method logs them."""


def chapter(history: Mapping[str, Any] | None, titles: Mapping[str, str]) -> dict[str, Any] | None:
    """What the template shows; None where nothing was aligned.

    Args:
        history: Content of history.json.
        titles: Of the metrics, by key.
    """
    if history is None:
        return None
    return {
        "figure": _figure(history["history"], history.get("validation", ()), titles),
        "validated": _validated(history),
        "settings": history["settings"],
    }


def _validated(history: Mapping[str, Any]) -> str:
    """Which samples the curve by epoch tells of; empty where there is none."""
    on = history.get("validated_on")
    if not on or not history.get("validation"):
        return ""
    whose = (
        "of the val split, which this page reports nowhere"
        if on["split"] == "val"
        else "of the training split, since no val split is left: what they show is learnt, and may not hold elsewhere"
    )
    return (
        f"Answers by epoch: {on['n']} samples {whose}, answered as the run decodes. A curve that still rises at its "
        "end speaks for more epochs; so few samples tell no more than that."
    )


def _figure(
    history: Sequence[Mapping[str, float]], validation: Sequence[Mapping[str, float]], titles: Mapping[str, str]
) -> str:
    """One panel each for loss, margin and answers by epoch, as far as they are there."""
    logged = [name for name in _DRAWN if sum(name in entry for entry in history) > 1]
    curves = dict.fromkeys(key for entry in validation for key in entry if key not in _NOT_DRAWN)
    count = len(logged) + bool(curves)
    if not count:
        return ""
    with style():
        figure = new_figure(0.4 + 2.6 * count, 2.2)
        panels = figure.subplots(1, count, squeeze=False)[0]
        for axes, name in zip(panels, logged, strict=False):
            entries = [entry for entry in history if name in entry]
            axes.plot([entry["step"] for entry in entries], [entry[name] for entry in entries], color=BLUE)
            axes.set_title(name)
        if curves:
            _answers(panels[-1], validation, {key: titles.get(key, key) for key in curves})
        for axes in panels:
            axes.set_xlabel("step")
            axes.grid(color="#eeeeee")
        return as_svg(figure)


def _answers(axes: Axes, validation: Sequence[Mapping[str, float]], titles: Mapping[str, str]) -> None:
    for number, (key, title) in enumerate(titles.items()):
        entries = [entry for entry in validation if key in entry]
        axes.plot(
            [entry["step"] for entry in entries],
            [100 * entry[key] for entry in entries],
            marker="o",
            markersize=3,
            color=COLOURS[number] if number < len(COLOURS) else GREY,
            label=title,
        )
    axes.set_ylim(-3, 103)
    axes.set_title("answers by epoch, percent")
    axes.legend(fontsize=7)
