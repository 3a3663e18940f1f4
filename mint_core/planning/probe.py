"""A few real training steps in a folder that is thrown away: how long a step takes, and what memory it really took."""

from __future__ import annotations

import gc
import math
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mint_core import processes
from mint_core.errors import ConfigError
from mint_core.interfaces import Aligner, AlignmentJob, Student
from mint_core.observer import Observer
from mint_core.planning.groups import some
from mint_core.runs.record import peak_memory

STEPS = 3


@dataclass(frozen=True, slots=True)
class Probe:
    """What the steps took."""

    seconds_per_step: tuple[float, ...]
    """Per phase of the training, without the first step, which also warms up."""
    peak_memory: int
    """Bytes: on a GPU what torch held at most, elsewhere the peak of this process."""


def probe(aligner: Aligner, job: AlignmentJob, student: Student, *, seed: int, observer: Observer) -> Probe:
    """Trains the student, with weights, for STEPS steps per phase with the run's aligner; throws the result away.

    Raises:
        ConfigError: The aligner cannot be shortened.
        TrainingError: The loss or a gradient is not finite; the run itself would stop too.
    """
    per_step = max(phase.per_step for phase in aligner.phases(0))
    groups = some(job.groups, STEPS * per_step, [seed, 17])
    short = aligner.shortened(float(math.ceil(STEPS / math.ceil(len(groups) / per_step))))
    if short is None:
        raise ConfigError(f"The aligner '{aligner.name}' cannot be shortened to a few steps; leave --probe out.")
    ends = list(accumulate(phase.steps(phase.units(groups), processes.count()) for phase in short.phases(0)))
    times: list[tuple[int, float]] = []

    def advance(step: int, total: int, figures: Mapping[str, float]) -> None:
        times.append((step, time.perf_counter()))
        observer.progress(step, total, "steps", figures)

    on_gpu = student.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(student.device)
    with TemporaryDirectory(prefix="mint-probe-") as folder:
        work = Path(folder)
        places: Any = {"work": work / "work", "adapter": work / "adapter", "cache": work / "cache"}
        short.align(replace(job, student=student, groups=groups, advance=advance, **places))
    gc.collect()
    peak = int(torch.cuda.max_memory_allocated(student.device)) if on_gpu else peak_memory()
    return Probe(_per_phase(times, ends), peak)


def _per_phase(times: Sequence[tuple[int, float]], ends: Sequence[int]) -> tuple[float, ...]:
    """Median time between two steps of one phase; `times` by step, and the last step of each phase."""
    gaps: list[list[float]] = [[] for _ in ends]
    for (before, begin), (step, end) in pairwise(times):
        phase = bisect_left(ends, step)
        if phase < len(gaps) and bisect_left(ends, before) == phase:
            gaps[phase].append(end - begin)
    return tuple(median(gap) if gap else math.nan for gap in gaps)
