"""The stage `label`: the teacher ranks all labels for every sample."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from mint_core import processes
from mint_core.config import Configured
from mint_core.errors import ContractError
from mint_core.files import storage_errors, write_json
from mint_core.interfaces import Teacher
from mint_core.stages.outputs import RANKINGS, TEACHER, RankingsWriter
from mint_core.stages.parts import SIZE, Parts
from mint_core.stages.run import Run
from mint_core.stages.stage import Facts, Stage
from mint_core.teachers.accuracy import Top1
from mint_core.types import Part, Sample

_GROUP = 16
"""Parts that are a row group of the file."""


class Label(Stage):
    """Rankings of all samples. The reported split changes nothing of what a teacher says."""

    name = "label"
    writes = ("rankings",)
    kept = True
    joined = True
    lower = "lower the teacher's batch size (teacher.batch_size)"

    def inputs(self, run: Run) -> dict[str, Any]:
        """Data, teacher and seed, and the task where the teacher asks its question."""
        teacher, seed = run.resolved.teacher, run.resolved.config.seed
        with teacher.registered.guarded("asks"):
            asks = cast(type[Teacher], teacher.registered.component).asks(teacher.config)
        asked = {"task": _wording(run)} if asks else {}
        return {"data": run.data_fingerprint, "teacher": teacher.identity(), "seed": seed, **asked}

    def make(self, run: Run, work: Path, out: Path) -> Facts:
        """See `Stage.make`."""
        data = run.data
        progress = _Progress()
        teacher = cast(Teacher, run.resolved.teacher.make(run.context(progress)))
        alone = teacher.together or not teacher.shares_work
        if alone and not processes.is_first():
            return {}
        with storage_errors(out):
            parts = Parts(work / "parts", len(data.samples), len(data.samples) if teacher.together else SIZE)
            missing = parts.all if alone else parts.missing  # a teacher that is fitted anew ranks all of them anew
            processes.wait(alone=alone)  # all know what is missing before the first one writes
            mine = missing if alone else processes.share(missing)
            count = sum(part.stop - part.start for part in mine)
            if not teacher.together:
                progress.now = run.advance(count, "samples read")
                for part in mine:
                    teacher.extract(_blind(data.samples[part]))
                processes.wait(alone=alone)
            progress.now = _unheard
            train = data.split("train")
            teacher.fit(train.each(Sample.for_teacher) if isinstance(train, Part) else _blind(train))
            progress.now = run.advance(count, "samples")
            for part in mine:
                log_probs = teacher.log_probs(_blind(data.samples[part]))
                _check_log_probs(run.resolved.teacher, log_probs, (part.stop - part.start, len(data.labels)))
                parts.write(part, log_probs)
            processes.wait(alone=alone)
            if not processes.is_first():
                return {}
            facts = {"teacher": teacher.describe(), "top_1": _write(run, parts, out / RANKINGS).by_split()}
            write_json(out / TEACHER, facts)
        del teacher
        gc.collect()
        return facts


def _write(run: Run, parts: Parts, path: Path) -> Top1:
    """All rankings in one file; returns how often the truth stands first."""
    data = run.data
    path.parent.mkdir(exist_ok=True)
    hits = Top1(data.labels)
    with RankingsWriter(path, data.labels) as writer:
        for place, log_probs in parts.read(_GROUP):
            some = data.samples[place]
            writer.write(some, log_probs)
            hits.add(some, log_probs)
    return hits


class _Progress:
    """Tells what is counted now: a teacher is given one counter for all that it does."""

    def __init__(self) -> None:
        self.now: Callable[[int], None] = _unheard

    def __call__(self, count: int) -> None:
        self.now(count)


def _unheard(count: int) -> None:
    """Nobody counts."""


def _blind(samples: Sequence[Sample]) -> list[Sample]:
    return [sample.for_teacher() for sample in samples]


def _wording(run: Run) -> dict[str, Any]:
    """What decides the task's question, N aside: a teacher is asked for one name."""
    task = run.resolved.task.identity()
    return {**task, "config": {option: value for option, value in task["config"].items() if option != "n"}}


def _check_log_probs(teacher: Configured, log_probs: Any, shape: tuple[int, int]) -> None:
    who = f"The teacher '{teacher.name}' of {teacher.registered.distribution}"
    found = getattr(log_probs, "shape", None)
    if found != shape:
        raise ContractError(f"{who} returned shape {found} from log_probs, not {shape}.")
    if np.isnan(log_probs).any() or np.isposinf(log_probs).any():
        raise ContractError(f"{who} returned log-probabilities that are not finite.")
    sums = np.exp(log_probs.astype(np.float64)).sum(axis=1)
    worst = float(sums[np.abs(sums - 1).argmax()])
    if abs(worst - 1) > 1e-2:
        raise ContractError(
            f"{who} returned a row whose exponentials add up to {worst:.4g}, not to 1; `log_probs` must return natural "
            "logarithms of probabilities."
        )
