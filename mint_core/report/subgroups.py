"""The report's chapter on subgroups: cells with intervals, and the worst gap of each field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mint_core.characters import visible
from mint_core.drawing import COLOURS, GREY, as_svg, dots, new_figure, style
from mint_core.evaluation.failures import is_students
from mint_core.evaluation.statistics import told
from mint_core.report.table import columns_of
from mint_core.types import VARIANTS

_FIRST = ("aligned", "base")


def between(gap: Mapping[str, Any]) -> str:
    """The two cells of a worst gap."""
    return f"{gap['best']} over {gap['worst']}"


def gaps_told(metrics: Mapping[str, Any]) -> list[str]:
    """One sentence per field on the worst gap of the student that the conclusion is about; empty without cells.

    Args:
        metrics: Content of metrics.json.
    """
    key = next((key for key, claim in reversed(metrics["claims"].items()) if claim), None)
    lines = []
    for name, field in _first_set(metrics).items():
        who = next((one for one in _FIRST if one in field["gaps"]), None)
        if key is None or who is None or key not in field["gaps"][who]:
            continue
        gap = field["gaps"][who][key]
        means = {cell["cell"]: cell["rows"][who][key]["mean"] for cell in field["cells"]}
        best, worst = (f"{100 * means[gap[end]]:.0f} % of '{gap[end]}'" for end in ("best", "worst"))
        ends = f"{100 * gap['low']:.0f} to {100 * gap['high']:.0f}"
        level = round(100 * metrics["confidence"])
        lines.append(
            f"Worst gap by {name}: the {VARIANTS[who].title} {metrics['claims'][key]} in {best} and {worst}, "
            f"{100 * gap['mean']:.0f} percentage points apart ({level} % interval {ends})."
        )
    return [visible(line) for line in lines]


def _first_set(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of the task's own samples."""
    sets: Mapping[str, Mapping[str, Any]] = metrics.get("subgroups", {}).get("sets", {})
    return next(iter(sets.values()), {})


def chapter(metrics: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the template needs; None where no field has two cells that are large enough.

    Args:
        metrics: Content of metrics.json.
    """
    columns = columns_of(metrics)
    parts = []
    for name, fields in metrics.get("subgroups", {}).get("sets", {}).items():
        shown = {field: one for field, one in fields.items() if len(one["cells"]) > 1}
        tables = [_table(field, one, [column.key for column in columns]) for field, one in shown.items()]
        if shown:
            few = [f"{field} ({_counted(one)})" for field, one in fields.items() if field not in shown]
            parts.append({"set": name, "tables": tables, "few": few, "figure": _figure(shown, metrics)})
    if not parts:
        return None
    smallest = metrics["subgroups"]["smallest"]
    return {"parts": parts, "headings": [column.heading for column in columns], "smallest": smallest}


def _counted(field: Mapping[str, Any]) -> str:
    return f"{len(field['cells'])} shown, {field['not_shown']} too small"


def _table(name: str, field: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The parts of one field: a cell each, then the gaps; a row's values are told with what stands below them."""
    parts = [
        (f"{cell['cell']} (n = {cell['n']})", [_row(row, [(told(of[key]), "") for key in keys]) for row, of in rows])
        for cell in field["cells"]
        if (rows := cell["rows"].items())
    ]
    gaps = [
        _row(row, [(told(gap[key]), between(gap[key])) if key in gap else ("-", "") for key in keys])
        for row, gap in field["gaps"].items()
    ]
    return {"field": name, "parts": [*parts, ("worst gap", gaps)] if gaps else parts, "not_shown": field["not_shown"]}


def _row(variant: str, cells: Sequence[tuple[str, str]]) -> tuple[str, Sequence[tuple[str, str]]]:
    return VARIANTS[variant].title, cells


def _figure(fields: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """One panel per field: the metric that the conclusion tells, else the last one, by cell."""
    key = next((key for key, claim in reversed(metrics["claims"].items()) if claim), list(metrics["titles"])[-1])
    rows = [row for row in next(iter(fields.values()))["cells"][0]["rows"] if is_students(row) or row == "teacher"]
    heights = [0.5 + 0.16 * len(rows) * len(one["cells"]) for one in fields.values()]
    with style():
        figure = new_figure(6.5, 0.5 + sum(heights))
        panels = figure.subplots(len(fields), 1, squeeze=False, height_ratios=heights, sharex=True)[:, 0]
        for axes, (name, one) in zip(panels, fields.items(), strict=True):
            cells = one["cells"]
            for at, row in enumerate(rows):
                places = [place + 0.7 * (at + 0.5) / len(rows) - 0.35 for place in range(len(cells))]
                colour = GREY if row == "teacher" else COLOURS[at % len(COLOURS)]
                dots(axes, [cell["rows"][row][key] for cell in cells], places, colour, VARIANTS[row].title)
            axes.set_yticks(range(len(cells)), [f"{cell['cell']} ({cell['n']})" for cell in cells])
            axes.set_ylim(len(cells) - 0.4, -0.6)
            axes.set_title(name, loc="left")
        panels[0].set_xlim(-2, 102)
        panels[-1].set_xlabel(f"{metrics['titles'][key]}, percent")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
        return as_svg(figure)
