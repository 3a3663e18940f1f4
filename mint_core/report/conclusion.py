"""What a run has shown, in a sentence or two, computed from its intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mint_core.types import VARIANTS, Variant

_BASE, _ALIGNED, _CHANCE, _MAJORITY = (Variant(source).name for source in ("base", "aligned", "chance", "majority"))
_SHUFFLED = Variant("aligned", shuffled=True).name


def conclusion(metrics: Mapping[str, Any]) -> str:
    """Sentences for a person who reads nothing else; empty where no metric counts samples in words.

    The last metric of the table that has a claim is told: how often the student does it, whether the difference to the
    base student is larger than chance, and what speaks against having learnt anything.

    Args:
        metrics: Content of metrics.json.
    """
    key = next((key for key, claim in reversed(metrics["claims"].items()) if claim), None)
    subset = metrics["rows"][0]["subset"]
    rows = {row["variant"]: row for row in metrics["rows"] if row["subset"] == subset}
    student = next((rows[name] for name in (_ALIGNED, _BASE) if name in rows), None)
    if key is None or student is None or student["metrics"][key]["mean"] is None:
        return ""
    level, claim = round(100 * metrics["confidence"]), metrics["claims"][key]
    begin = f"The {VARIANTS[student['variant']].title} {claim} in {_count(student, key, of=True)}"
    difference = metrics["aligned_minus_base"].get(subset, {}).get(key, {"mean": None})
    if student["variant"] == _ALIGNED and _BASE in rows and difference["mean"] is not None:
        sentence = f"{begin}, the base student in {_count(rows[_BASE], key)}; {_judged(difference, level)}"
    else:
        own = student["metrics"][key]
        sentence = f"{begin} ({level} % interval {_percent(own['low'])} to {_percent(own['high'])} %)."
    return " ".join([sentence, *_doubts(metrics, rows, student, key)])


def _judged(difference: Mapping[str, Any], level: int) -> str:
    """The paired difference in words."""
    points = f"{_percent(abs(difference['mean']))} percentage points"
    interval = f"{level} % interval {_percent(difference['low'])} to {_percent(difference['high'])}"
    if difference["low"] > 0:
        return f"the difference of {points} is larger than chance ({interval})."
    if difference["high"] < 0:
        return f"it has become worse, by {points} and more than chance ({interval})."
    if difference["mean"] == difference["low"] == difference["high"] == 0:
        return "no gain is shown."
    return f"the difference of {points} is not larger than chance ({interval}): no gain is shown."


def _doubts(metrics: Mapping[str, Any], rows: Mapping[str, Any], student: Mapping[str, Any], key: str) -> list[str]:
    """What a fair reader would ask: the format, a random list, the most frequent labels, the images."""
    own, told = student["metrics"][key], []
    never = [one for one, claim in metrics["claims"].items() if claim and student["metrics"][one]["mean"] == 0]
    if own["mean"] == 0 and never[0] != key:
        told.append(f"It {metrics['claims'][never[0]]} in {_count(student, never[0], of=True)}.")
    if _overlaps(own, rows.get(_CHANCE), key):
        told.append(f"That is not clearly better than a list drawn at random ({_count(rows[_CHANCE], key)}).")
    elif _overlaps(own, rows.get(_MAJORITY), key):
        count = _count(rows[_MAJORITY], key)
        told.append(f"That is not clearly better than always naming the most frequent training labels ({count}).")
    elif _overlaps(own, rows.get(_SHUFFLED), key):
        count = _count(rows[_SHUFFLED], key)
        told.append(f"With another sample's image it is not clearly worse ({count}): it may not look at the image.")
    return told


def _overlaps(own: Mapping[str, Any], row: Mapping[str, Any] | None, key: str) -> bool:
    """Whether the interval of a row reaches up to a student's own, or beyond it."""
    return row is not None and row["metrics"][key]["mean"] is not None and own["low"] <= row["metrics"][key]["high"]


def _count(row: Mapping[str, Any], key: str, *, of: bool = False) -> str:
    n = row["n"] - row["metrics"][key]["unscored"]
    return f"{round(row['metrics'][key]['mean'] * n):,}" + (f" of {n:,} samples" if of else "")


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
