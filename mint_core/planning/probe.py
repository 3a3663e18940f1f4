"""A few real training steps in a folder that is thrown away: how long a step takes, and what memory it really took."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from mint_core.aligners.settings import TrainingConfig
from mint_core.config import Configured
from mint_core.interfaces import Aligner, AlignmentJob, Student
from mint_core.observer import Observer
from mint_core.runs.pipeline import peak_memory
from mint_core.types import PreferenceGroup

STEPS = 3


@dataclass(frozen=True, slots=True)
class Probe:
    """What the steps took."""

    seconds_per_step: tuple[float, ...]
    """Per phase of the training, without the first step, which also warms up."""
    peak_memory: int
    """Bytes: on a GPU what torch held at most, elsewhere the peak of this process."""


def probe(
    aligner: Configured, job: AlignmentJob, student: Student, *, groups_per_step: int, seed: int, observer: Observer
) -> Probe:
    """Trains for STEPS steps per phase with the run's own aligner and throws the result away.

    Args:
        aligner: The run's aligner.
        job: Groups and prompts.
        student: With weights.
        groups_per_step: Preference groups per optimiser step.
        seed: Draws the groups.
        observer: Hears of the progress.

    Raises:
        TrainingError: The loss or a gradient is not finite; the run itself would stop too.
    """
    config = cast(TrainingConfig, aligner.config)
    groups = _some(job.groups, STEPS * groups_per_step, seed)
    phases = len(config.phase_epochs())
    short = config.model_copy(update=_short(config, len(groups), groups_per_step))
    times: list[tuple[int, float]] = []
    total_steps = 0

    def advance(step: int, total: int, figures: Mapping[str, float]) -> None:
        nonlocal total_steps
        total_steps = total
        times.append((step, time.perf_counter()))
        observer.progress(step, total, "steps", figures)

    _reset_peak(student)
    with TemporaryDirectory(prefix="mint-probe-") as folder:
        work = Path(folder)
        small = replace(
            job, student=student, groups=groups, work=work / "work", adapter=work / "adapter", advance=advance
        )
        cast(Aligner, aligner.registered.component(short)).align(small)
    gc.collect()
    return Probe(_per_phase(times, phases, max(1, total_steps // phases)), _peak(student))


def _some(groups: Sequence[PreferenceGroup], count: int, seed: int) -> list[PreferenceGroup]:
    order = np.random.default_rng([seed, 17]).permutation(len(groups))
    return [groups[place] for place in order[:count]]


def _short(config: TrainingConfig, groups: int, groups_per_step: int) -> dict[str, Any]:
    """Every phase just long enough, no warm-up that would not fit, no trackers."""
    epochs = float(math.ceil(STEPS / math.ceil(groups / groups_per_step)))
    phases = {name: epochs for name in type(config).model_fields if name == "epochs" or name.endswith("_epochs")}
    return {**phases, "warmup": 0.0, "report_to": (), "save_steps": 10**9}


def _per_phase(times: Sequence[tuple[int, float]], phases: int, steps: int) -> tuple[float, ...]:
    """Median time between two steps of one phase."""
    gaps: list[list[float]] = [[] for _ in range(phases)]
    for (before, begin), (step, end) in pairwise(times):
        phase = min((step - 1) // steps, phases - 1)
        if (before - 1) // steps == phase:
            gaps[phase].append(end - begin)
    return tuple(median(gap) if gap else math.nan for gap in gaps)


def _reset_peak(student: Student) -> None:
    import torch

    if student.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(student.device)


def _peak(student: Student) -> int:
    import torch

    if student.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(student.device))
    return peak_memory()
