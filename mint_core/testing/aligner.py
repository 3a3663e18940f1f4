"""The clauses of an aligner. Each check takes an aligner and an empty folder, and trains a tiny student two steps."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mint_core.errors import DataError, TrainingError
from mint_core.interfaces import Aligner, AlignmentJob
from mint_core.testing.clauses import Check, require
from mint_core.testing.material import LABELS
from mint_core.testing.student import tiny_student
from mint_core.types import Message, PreferenceGroup, Prompt

HEADER = "ORGANS:"
_MOST_GROUPS = 64
_WEIGHTS = "adapter_model.safetensors"
_PICKLES = (b"\x80", b"PK")
"""How a pickle begins, and the archive in which torch writes one."""


def shortest(aligner: Aligner) -> Aligner:
    """The same with one epoch per phase, where it can be shortened."""
    return aligner.shortened(1) or aligner


def little_job(aligner: Aligner, folder: Path) -> AlignmentJob:
    """Two optimiser steps of its first phase, on a tiny text student.

    Args:
        aligner: Says how many groups make a step.
        folder: Student, checkpoints and adapter go here.
    """
    phases = aligner.phases(0)
    count = min(2 * phases[0].per_step, _MOST_GROUPS) if phases else 4
    names = LABELS.names
    groups = [
        PreferenceGroup(f"kit-{number}", ((names[number % 3], names[(number + 1) % 3]),), ((names[5], names[4]),))
        for number in range(count)
    ]
    prompts = {
        group.sample_id: Prompt((Message("user", f"Case {number}. Name two organs."),))
        for number, group in enumerate(groups)
    }
    corpus = ["Case 0123456789. Name two organs.", HEADER, *(f"\n{n}. {name}" for n in (1, 2) for name in names)]
    return AlignmentJob(
        student=tiny_student(folder / "student", corpus),
        groups=groups,
        prompts=prompts,
        header=HEADER,
        seed=0,
        work=folder / "work",
        adapter=folder / "adapter",
        advance=lambda *_: None,
    )


def aligner_1_files(aligner: Aligner, folder: Path) -> None:
    """The adapter is PEFT's layout, without a pickle."""
    aligner = shortest(aligner)
    job = little_job(aligner, folder)
    aligner.align(job)
    for name in ("adapter_config.json", _WEIGHTS):
        require((job.adapter / name).is_file(), "aligner 1", f"align did not write {name}")
    for path in (path for path in job.adapter.rglob("*") if path.is_file()):
        pickled = path.read_bytes()[:2].startswith(_PICKLES)
        require(not pickled, "aligner 1", f"align left {path.name}, which is a pickle")


def aligner_2_not_finite(aligner: Aligner, folder: Path) -> None:
    """A student whose weights are NaN ends the training, and no adapter is left."""
    aligner = shortest(aligner)
    job = little_job(aligner, folder)
    job.student.model.get_output_embeddings().weight.data.fill_(float("nan"))
    try:
        with warnings.catch_warnings(action="ignore"):  # it may well warn of such a student
            aligner.align(job)
    except TrainingError:
        stopped = True
    else:
        stopped = False
    require(stopped, "aligner 2", "a loss of NaN raised no TrainingError")
    require(not (job.adapter / _WEIGHTS).exists(), "aligner 2", "an adapter was saved after a loss of NaN")


def aligner_3_empty_response(aligner: Aligner, folder: Path) -> None:
    """A group whose chosen response has no label is refused."""
    aligner = shortest(aligner)
    job = little_job(aligner, folder)
    first, *others = job.groups
    try:
        aligner.align(replace(job, groups=[replace(first, chosen=((),)), *others]))
    except DataError:
        return
    except Exception as error:
        raise AssertionError(f"aligner 3: an empty response raised {type(error).__name__}, no DataError") from error
    raise AssertionError("aligner 3: an empty response was accepted")


def aligner_4_steps(aligner: Aligner, folder: Path) -> str | None:
    """Progress counts the steps of the phases."""
    aligner = shortest(aligner)
    phases = aligner.phases(0)
    if not phases:
        return "it names no phases"
    told: list[tuple[int, int]] = []

    def advance(step: int, total: int, _: Mapping[str, float]) -> None:
        told.append((step, total))

    job = little_job(aligner, folder)
    aligner.align(replace(job, advance=advance))
    steps = sum(phase.steps(phase.units(job.groups)) for phase in phases)
    expected = [(step, steps) for step in range(1, steps + 1)]
    sentence = f"the phases have {steps} steps, and advance was told {told[-1:] or 'nothing'}"
    require(told == expected, "aligner 4", sentence)
    return None


ALIGNER_CHECKS: tuple[Check, ...] = (
    aligner_1_files,
    aligner_2_not_finite,
    aligner_3_empty_response,
    aligner_4_steps,
)
