"""How long a run will take, told before hours begin: its tokens, at the pace of a training step that was timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from mint_core.config import Configured
from mint_core.interfaces import Aligner, Layout, Student
from mint_core.stages.run import Run
from mint_core.students.encoding import encode_response
from mint_core.students.prompts import write_response
from mint_core.types import Response

_WORTH_SAYING = 60.0
"""Seconds."""
_BACK_AND_FORTH = 3.0
"""A training step goes through the student once forward, and backward at about twice the price."""
_ONE_BY_ONE = 3.0
"""A token that is written costs about as many times one that is read: each is a pass of its own."""


def expected(run: Run, student: Student, *, pace: float, prompt: int, trains: bool, answers: bool) -> dict[str, float]:
    """Seconds by stage. Rows count as long as those of one sample, so it may be off by a factor of two.

    Args:
        run: The run, before its first stage.
        student: Encodes the answers.
        pace: Seconds per token of a training step.
        prompt: Tokens of a prompt.
        trains: An adapter will be trained.
        answers: The student will answer.
    """
    found = {}
    if trains and (tokens := _trained(run, student, prompt)):
        found["align"] = pace * tokens
    if answers:
        found["predict"] = pace / _BACK_AND_FORTH * _answered(run, student, prompt)
    return found


def told(seconds: dict[str, float]) -> str:
    """One sentence; empty for a run that takes less than a minute.

    Args:
        seconds: By stage.
    """
    whole = sum(seconds.values())
    if whole < _WORTH_SAYING:
        return ""
    parts = f" ({', '.join(f'{stage} {_rounded(own)}' for stage, own in seconds.items())})" if len(seconds) > 1 else ""
    return (
        f"It will take roughly {_rounded(whole)}{parts}, judging by one training step; --quick tries all stages first."
    )


def _rounded(seconds: float) -> str:
    """To what such a guess is worth."""
    minutes = seconds / 60
    if minutes < 1:
        return "less than a minute"
    if minutes < 90:
        return f"{minutes:.0f} min" if minutes < 10 else f"{5 * round(minutes / 5)} min"
    return f"{minutes / 60:.1f} h" if minutes < 600 else f"{minutes / 60:.0f} h"


def _length(run: Run, student: Student, names: Response) -> int:
    """Tokens of a response."""
    return len(encode_response(student, write_response(run.task.header, names), ""))


def _trained(run: Run, student: Student, prompt: int) -> float:
    """Tokens of the whole training."""
    aligner = cast(Aligner, cast(Configured, run.resolved.aligner).make(run.context()))
    train = run.data.split("train")
    groups = run.even_groups(labelled=train[0].label is not None)
    chosen = [[_length(run, student, names) for names in group.chosen] for group in groups]
    rejected = [[_length(run, student, names) for names in group.rejected] for group in groups]
    total = 0.0
    for phase in aligner.phases(sum(parameter.numel() for parameter in student.model.parameters())):
        others = rejected if phase.rejected else [[] for _ in groups]
        total += phase.epochs * sum(_of_group(prompt, *both, phase.layout) for both in zip(chosen, others, strict=True))
    return total * len(train)


def _of_group(prompt: int, chosen: Sequence[int], rejected: Sequence[int], layout: Layout) -> int:
    """Tokens that a group's rows hold, see `mint_core.interfaces.aligner.Layout`."""
    if layout == "shared":
        return prompt + sum(chosen) + sum(rejected)
    if layout == "distinct" or not rejected:
        return (len(chosen) + len(rejected)) * prompt + sum(chosen) + sum(rejected)
    return sum(2 * prompt + one + other for one in chosen for other in rejected)


def _answered(run: Run, student: Student, prompt: int) -> float:
    """Tokens that are read for all answers, those that are written counted by what they cost."""
    config = run.resolved.config.predict
    aligned = run.resolved.aligner is not None
    students = int(config.base or not aligned) + int(aligned)
    asked = len(run.asked) * students
    if aligned and config.shuffled and run.task.modality != "text":
        asked += len(run.reported)
    labels = run.data.labels.names
    if config.decode == "score":
        return asked * (prompt + sum(_length(run, student, (name,)) for name in labels))
    usual = sum(_length(run, student, (name,)) for name in labels) / len(labels)
    ways = 2 if config.decode == "constrained" and config.free_beside else 1
    return asked * ways * (prompt + _ONE_BY_ONE * run.n * usual)
