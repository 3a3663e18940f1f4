"""What explanations are written as: explain.json, its summary of the deletion check, its text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mint_core.evaluation.statistics import paired, told_p
from mint_core.explaining.effects import Effects
from mint_core.explaining.parts import Parts
from mint_core.files import remove, storage_errors
from mint_core.students.adapter_files import read_about

CONTENT = "explain.json"
FORMAT = 1
_DRAWS, _CONFIDENCE = 2000, 0.95


def sample_record(parts: Parts, label: str, chosen_by: str, found: Effects) -> dict[str, Any]:
    """One sample as explain.json has it, without its text or image.

    Args:
        parts: The sample's.
        label: Canonical name of the explained label.
        chosen_by: `answer`, `likelihood` or `user`.
        found: What was measured.
    """
    effects = [
        {**parts.place(number), "effect": round(float(effect), 5)} for number, effect in enumerate(found.effects)
    ]
    return {
        "id": parts.sample.id,
        "label": label,
        "label_from": chosen_by,
        "log_prob": round(found.log_prob, 5),
        "effects": effects,
        "check": {"m": check.m, "top": round(check.top, 5), "random": [round(one, 5) for one in check.random]}
        if (check := found.check)
        else None,
    }


def deletion_check(records: Sequence[Mapping[str, Any]], groups: Sequence[str | None], seed: int) -> dict[str, Any]:
    """Fall of log p without the ranked parts minus that without random ones, paired over samples.

    Args:
        records: From `sample_record`; those without a check do not count.
        groups: What the bootstrap draws together, per record.
        seed: Of the bootstrap and of the sign flips.
    """
    top = [one["check"] and one["check"]["top"] for one in records]
    random = [one["check"] and sum(one["check"]["random"]) / len(one["check"]["random"]) for one in records]
    test = asdict(paired(top, random, groups, draws=_DRAWS, confidence=_CONFIDENCE, seed=seed))
    both = [(one, other) for one, other in zip(top, random, strict=True) if one is not None and other is not None]
    means = [sum(side) / len(both) if both else None for side in zip(*both, strict=True)] or [None, None]
    return {"confidence": _CONFIDENCE, "top": means[0], "random": means[1], **test}


def told_check(content: Mapping[str, Any]) -> str:
    """The deletion check in one sentence; empty where no sample has one."""
    check, what = content["check"], content["parts"]
    one = check["difference"]
    if not one["n"]:
        return ""
    level, p = round(100 * check["confidence"]), "" if check["p_value"] is None else f", {told_p(check)}"
    interval = f" [{one['low']:+.2f}, {one['high']:+.2f}]" if one["n"] > 1 else ""
    how = f" ({level} % interval{p})" if interval else ""
    return (
        f"Deletion check: without the top {what} log p falls by {check['top']:.2f}, without as many at random by "
        f"{check['random']:.2f}; difference {one['mean']:+.2f}{interval} nats{how}, "
        f"n = {one['n']} sample{'s' if one['n'] > 1 else ''}, {content['draws']} random draws each."
    )


def read_explained(folder: Path, adapter: Path) -> dict[str, Any] | None:
    """The content of a run's explain.json; None where there is none, or where it is about another adapter.

    Args:
        folder: The run folder.
        adapter: The adapter that lies there now, or would lie.
    """
    return read_about(folder / CONTENT, adapter, _check)


def _check(content: Mapping[str, Any]) -> None:
    if content["format"] != FORMAT:
        raise ValueError(content["format"])
    _ = told_check(content), [one["effects"] for one in content["samples"]]


def withdraw_explained(folder: Path) -> None:
    """Removes what explains an adapter that is about to be made anew."""
    with storage_errors(folder):
        remove(folder / CONTENT)
