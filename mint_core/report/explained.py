"""The chapter on why a student answers so: effects per sample, the deletion check; texts and images only as asked."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from mint_core.cautions import of_adapter
from mint_core.characters import visible
from mint_core.drawing import BLUE, VERMILION, as_svg, new_figure, style
from mint_core.templates import template

_MOST = 12
"""Phrases of one sample that a figure shows."""


def chapter(content: Mapping[str, Any] | None, check: str) -> dict[str, Any] | None:
    """What the template shows; None where nothing was explained.

    Args:
        content: Content of explain.json.
        check: The sentence on the deletion check.
    """
    if content is None:
        return None
    return {
        "parts": content["parts"],
        "one": content["parts"].removesuffix("s"),
        "grid": content["grid"],
        "shows": content["shows"],
        "check": check,
        "n": len(content["samples"]),
        "left_out": len(content["left_out"]),
        "samples": [_sample(one, content) for one in content["samples"]],
    }


def _sample(one: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    regions = content["parts"] == "regions"
    return {
        "name": visible(one["id"]),
        "label": visible(one["label"]),
        "how": {
            "answer": "the student's first answer",
            "likelihood": "the most likely first answer; what the student wrote first is no label",
            "user": "as asked",
        }[one["label_from"]],
        "log_prob": one["log_prob"],
        "figure": _heat_map(one, content["grid"]) if regions else _bars(one),
        "text": _marked(one) if "text" in one else [],
    }


def part_name(part: Mapping[str, Any], number: int, text: str | None) -> str:
    """How a part is called: the phrase itself where the text may be shown, else where it stands."""
    if "row" in part:
        return f"row {part['row'] + 1}, column {part['column'] + 1}"
    if text is not None:
        return visible(text[part["start"] : part["stop"]])
    return f"phrase {number + 1} (characters {part['start']} to {part['stop']})"


def ranked(one: Mapping[str, Any]) -> list[tuple[int, Mapping[str, Any]]]:
    """The parts of a sample with their numbers, the largest effect first."""
    return sorted(enumerate(one["effects"]), key=lambda pair: -pair[1]["effect"])


def _bars(one: Mapping[str, Any]) -> str:
    """A bar per phrase, the largest effect on top; of many those that move the answer most, either way."""
    far = sorted(ranked(one), key=lambda pair: -abs(pair[1]["effect"]))[:_MOST]
    shown = sorted(far, key=lambda pair: -pair[1]["effect"])
    names = [part_name(part, number, one.get("text")) for number, part in shown]
    effects = [part["effect"] for _, part in shown]
    with style():
        figure = new_figure(6.5, 0.6 + 0.22 * len(shown))
        axes = figure.subplots()
        axes.barh(range(len(shown)), effects, color=[BLUE if effect >= 0 else VERMILION for effect in effects])
        axes.set_yticks(range(len(shown)), [name if len(name) <= 48 else f"{name[:47]}\u2026" for name in names])
        axes.invert_yaxis()
        axes.axvline(0, color="#999999", linewidth=0.8)
        axes.set_xlabel("effect, nats")
        return as_svg(figure)


def _heat_map(one: Mapping[str, Any], grid: int) -> str:
    """The grid in colours, over the image where that is shown."""
    values = [[one["effects"][row * grid + column]["effect"] for column in range(grid)] for row in range(grid)]
    largest = max((abs(value) for row in values for value in row), default=0.0) or 1.0
    image = _image(one)
    with style():
        figure = new_figure(4.2, 3.4)
        axes = figure.subplots()
        width, height = image.size if image is not None else (grid, grid)
        extent = (0, width, height, 0)
        if image is not None:
            axes.imshow(image, extent=extent)
        colours = axes.imshow(
            values,
            extent=extent,
            cmap="RdBu",
            vmin=-largest,
            vmax=largest,
            alpha=0.5 if image is not None else 1.0,
            interpolation="nearest",
        )
        axes.set_xticks([])
        axes.set_yticks([])
        figure.colorbar(colours, ax=axes, label="effect, nats")
        return as_svg(figure)


def _image(one: Mapping[str, Any]) -> Any:
    if "image" not in one:
        return None
    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(one["image"])))


def _marked(one: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The text in pieces, each with the strength of its mark in [-1, 1]; 0 between the phrases."""
    text, at = one["text"], 0
    largest = max(abs(part["effect"]) for part in one["effects"]) or 1.0
    pieces: list[tuple[str, float]] = []
    for part in one["effects"]:
        pieces.append((visible(text[at : part["start"]], keep="\n"), 0.0))
        at = part["stop"]
        pieces.append((visible(text[part["start"] : at], keep="\n"), round(part["effect"] / largest, 2)))
    return [*pieces, (visible(text[at:], keep="\n"), 0.0)]


def page(content: Mapping[str, Any], check: str) -> str:
    """A page of its own, self-contained, without script."""
    return template("report", "explain_page.html.jinja").render(
        title=f"Why the student answers so: {visible(content['task'])}",
        explained=chapter(content, check),
        cautions=of_adapter(simulated=content["simulated"], quick=content.get("quick", False)),
        left_out=[{key: visible(value) for key, value in one.items()} for one in content["left_out"]],
    )


def rows(content: Mapping[str, Any], texts: Mapping[str, str]) -> list[tuple[str, list[list[str]]]]:
    """Tables for a terminal: a title per sample, and its parts with their effects, the largest first.

    Args:
        content: Content of explain.json.
        texts: What may be shown, by sample id.
    """
    tables = []
    for one in content["samples"]:
        title = f"{one['id']}: {one['label']} (log p {one['log_prob']:.2f})"
        text = texts.get(one["id"]) if content["parts"] == "phrases" else None
        lines = [[part_name(part, number, text), f"{part['effect']:+.3f}"] for number, part in ranked(one)]
        tables.append((title, lines))
    return tables
