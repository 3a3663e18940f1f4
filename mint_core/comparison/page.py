"""The HTML page of a comparison, beside its Markdown table."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from mint_core.answering.endpoint import without_queries
from mint_core.characters import visible
from mint_core.comparison import breakdown
from mint_core.comparison.table import columns_of, grids
from mint_core.drawing import read_svg
from mint_core.files import storage_errors
from mint_core.report.citing import how_to_cite
from mint_core.report.frame import render
from mint_core.stages.outputs import REPORT

_AGAIN = """cd {folder}    # the folder of this page
mint {kind} --config {kind}.json    # makes what is not there, and this page
mint report .    # this page, the table and the figure alone"""


def write_page(content: Mapping[str, Any], path: Path) -> Path:
    """Writes the page beside the figure, which must be there.

    Args:
        content: Content of compare.json or sweep.json.
        path: Where to, without a suffix.

    Returns:
        The page.
    """
    page = path.with_suffix(".html")
    text = render_comparison(content, path.parent.name, read_svg(path.with_suffix(".svg")))
    with storage_errors(page):
        page.write_text(text, encoding="utf-8")
    return page


def render_comparison(content: Mapping[str, Any], name: str, figure: str) -> str:
    """Renders the page; all text is escaped.

    Args:
        content: Content of compare.json or sweep.json.
        name: Of the comparison.
        figure: An `<svg>` element.
    """
    students = [row for row in content["rows"] if row["kind"] == "student"]
    config = yaml.safe_dump(without_queries(content["config"]), sort_keys=False, allow_unicode=True)
    return render(
        "compare.html.jinja",
        title=name,
        simulated=content["simulated"],
        quick=content.get("quick"),
        content=content,
        figure=figure,
        grids=[
            {"heading": heading, "text": text, **grid._asdict()}
            for place, grid in enumerate([*grids(content), *breakdown.grids(content)])
            for heading, text in [_split(grid.title, first=not place)]
        ],
        rules=[(heading, content["rules"][key]) for key, heading in columns_of(content)],
        rows=[
            {
                "name": visible(row["name"]),
                "settings": [_without_home(line) for line in _settings(without_queries(row["overlay"]))],
                "runs": [(run, quote(f"{run}/{REPORT}")) for run in row["runs"]],
            }
            for row in students
        ],
        cite=how_to_cite({row["aligner"] for row in students if row["aligner"]}, preserved="preserved" in content),
        again=_AGAIN.format(folder=shlex.quote(name), kind=content["kind"]),
        config=_without_home(config),
    )


def _split(title: str, *, first: bool) -> list[str]:
    """A heading and the rest of a table's title."""
    return ["Results", title] if first else [*re.split("[:,] ", visible(title), maxsplit=1), ""][:2]


def _settings(overlay: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """What a row sets, one option a line, as `aligner.weight: 0.5`."""
    for key, value in overlay.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{path}{key}.")
        else:
            yield visible(f"{path}{key}: {value}")


def _without_home(text: str) -> str:
    return text.replace(str(Path.home()), "~")
