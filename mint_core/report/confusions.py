"""The report's chapter on confusions: a matrix per student, and the ranks of labels that are easily confused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mint_core.characters import visible
from mint_core.drawing import BLUE, VERMILION, as_svg, new_figure, style
from mint_core.evaluation.failures import is_students
from mint_core.evaluation.statistics import told_plain
from mint_core.types import VARIANTS

_MOST = 40
"""Labels of a matrix; of more the most confused ones are shown."""
_LONGEST = 32


def chapter(metrics: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the template needs; None where there is no student's answer.

    Args:
        metrics: Content of metrics.json.
    """
    found = metrics.get("confusions", {"counts": {}})
    students = [one for one in found["counts"] if is_students(one) and not VARIANTS[one].free]
    if not students:
        return None
    matrices = [_matrix(VARIANTS[one].title, found["labels"], found["counts"][one]) for one in students]
    pairs = metrics["pairs"]
    sides = [side for pair in pairs["pairs"] for side in pair["sides"] if side["n"]]
    listed = [VARIANTS[one].title for one in found["counts"] if one not in pairs["full"]]
    return {
        "matrices": matrices,
        "reduced": len(found["labels"]) > _MOST and _MOST,
        "pairs": list(map(_side, sides)),
        "figure": _ranks(sides, students) if sides else "",
        "rule": pairs["rule"],
        "absent": pairs["absent_rank"],
        "listed": listed,
    }


def _side(side: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        (VARIANTS[row].title, told_plain(one["truth"], 1), told_plain(one["confuser"], 1))
        for row, one in side["rows"].items()
    ]
    return {"truth": visible(side["truth"]), "confuser": visible(side["confuser"]), "n": side["n"], "rows": rows}


def _ranks(sides: Sequence[Mapping[str, Any]], rows: Sequence[str]) -> str:
    """Mean ranks as SVG: a panel per student, a line per side of a pair."""
    with style():
        figure = new_figure(2.2 + 2.4 * len(rows), 0.9 + 0.28 * len(sides))
        panels = figure.subplots(1, len(rows), squeeze=False, sharex=True, sharey=True)[0]
        for axes, row in zip(panels, rows, strict=True):
            for what, colour, shift in (("truth", BLUE, -0.12), ("confuser", VERMILION, 0.12)):
                there = [(at, side["rows"][row][what]) for at, side in enumerate(sides) if row in side["rows"]]
                means = [one["mean"] for _, one in there]
                errors = [[abs(one[end] - one["mean"]) for _, one in there] for end in ("low", "high")]
                places = [at + shift for at, _ in there]
                axes.errorbar(means, places, xerr=errors, fmt="o", markersize=4, color=colour, capsize=2, label=what)
            axes.set_title(VARIANTS[row].title)
            axes.set_xlabel("mean rank")
        panels[0].set_yticks(range(len(sides)), [f"{_short(s['truth'])} (n = {s['n']})" for s in sides])
        panels[0].set_ylim(len(sides) - 0.4, -0.6)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
        return as_svg(figure)


class Matrix(NamedTuple):
    """A confusion matrix: each truth's samples by their first answer."""

    title: str
    names: list[str]
    rows: list[list[tuple[int, float]]]
    """Per truth: samples with each first answer, the last one no label, and their share of the truth's samples."""


def _matrix(title: str, names: Sequence[str], counts: Sequence[Sequence[Any]]) -> Matrix:
    shown = _most_confused(len(names), counts)
    of_truth: Counter[int] = Counter()
    for truth, _, n in counts:
        of_truth[truth] += n
    cells = {(truth, answer): (n, n / of_truth[truth]) for truth, answer, n in counts}
    rows = [[cells.get((truth, answer), (0, 0.0)) for answer in (*shown, None)] for truth in shown]
    return Matrix(title, [_short(names[label]) for label in shown], rows)


def _most_confused(n: int, counts: Sequence[Sequence[Any]]) -> list[int]:
    """The labels that are shown, in the order of the label space."""
    if n <= _MOST:
        return list(range(n))
    wrong: Counter[int] = Counter()
    for truth, answer, count in counts:
        if truth != answer:
            wrong[truth] += count
            if answer is not None:
                wrong[answer] += count
    return sorted(sorted(range(n), key=lambda label: (-wrong[label], label))[:_MOST])


def _short(name: str) -> str:
    told = visible(name)
    return told if len(told) <= _LONGEST else f"{told[: _LONGEST - 1]}…"
