"""The stage `label`: the teacher ranks all labels for every sample."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from mint_core.config import Configured
from mint_core.errors import ContractError
from mint_core.files import storage_errors, write_json
from mint_core.interfaces import Teacher
from mint_core.stages.outputs import RANKINGS, TEACHER, RankingsWriter
from mint_core.stages.run import Run
from mint_core.stages.stage import Facts, Stage
from mint_core.teachers.accuracy import Top1
from mint_core.types import Part, Sample

_AT_ONCE = 8192
"""Samples whose rankings are in memory at a time: a multiple of the usual batch sizes, so that no batch is cut."""


class Label(Stage):
    """Rankings of all samples. The reported split changes nothing of what a teacher says."""

    name = "label"
    writes = ("rankings",)
    kept = True
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
        teacher = cast(Teacher, run.resolved.teacher.make(run.context(run.advance(len(data.samples), "samples"))))
        with storage_errors(out):
            (out / RANKINGS).parent.mkdir(exist_ok=True)
            train = data.split("train")
            blind = Sample.for_teacher
            teacher.fit(train.each(blind) if isinstance(train, Part) else [blind(sample) for sample in train])
            hits = Top1(data.labels)
            with RankingsWriter(out / RANKINGS, data.labels) as writer:
                for some in _pieces(data.samples, len(data.samples) if teacher.together else _AT_ONCE):
                    log_probs = teacher.log_probs([sample.for_teacher() for sample in some])
                    _check_log_probs(run.resolved.teacher, log_probs, (len(some), len(data.labels)))
                    writer.write(some, log_probs)
                    hits.add(some, log_probs)
            facts = {"teacher": teacher.describe(), "top_1": hits.by_split()}
            write_json(out / TEACHER, facts)
        del teacher
        gc.collect()
        return facts


def _pieces(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    for begin in range(0, len(samples), size):
        yield samples[begin : begin + size]


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
