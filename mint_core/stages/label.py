"""The stage `label`: the teacher ranks all labels for every sample."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any, cast

import numpy as np

from mint_core.errors import ContractError
from mint_core.files import storage_errors, write_json
from mint_core.interfaces import Teacher
from mint_core.stages.outputs import RANKINGS, TEACHER, write_rankings
from mint_core.stages.run import Run
from mint_core.stages.stage import Facts, Stage
from mint_core.teachers.accuracy import top_1


class Label(Stage):
    """Rankings of all samples. The reported split changes nothing of what a teacher says."""

    name = "label"
    writes = ("rankings",)
    kept = True
    lower = "lower the teacher's batch size (teacher.batch_size)"

    def inputs(self, run: Run) -> dict[str, Any]:
        """Data, teacher and seed, and the task where the teacher asks its question."""
        teacher, seed = run.resolved.teacher, run.resolved.config.seed
        asked = {"task": _wording(run)} if teacher.registered.component.asks(teacher.config) else {}
        return {"data": run.data_fingerprint, "teacher": teacher.identity(), "seed": seed, **asked}

    def make(self, run: Run, work: Path, out: Path) -> Facts:
        """See `Stage.make`."""
        data = run.data
        teacher = cast(Teacher, run.resolved.teacher.make(run.context(run.advance(len(data.samples), "samples"))))
        with storage_errors(out):
            samples = [sample.for_teacher() for sample in data.samples]
            teacher.fit([sample for sample in samples if sample.split == "train"])
            log_probs = teacher.log_probs(samples)
            _check_log_probs(teacher, log_probs, (len(data.samples), len(data.labels)))
            (out / RANKINGS).parent.mkdir(exist_ok=True)
            write_rankings(out / RANKINGS, data.samples, log_probs, data.labels)
            facts = {"teacher": teacher.describe(), "top_1": top_1(data.samples, data.labels, log_probs)}
            write_json(out / TEACHER, facts)
        del teacher
        gc.collect()
        return facts


def _wording(run: Run) -> dict[str, Any]:
    """What decides the task's question, N aside: a teacher is asked for one name."""
    task = run.resolved.task.identity()
    return {**task, "config": {option: value for option, value in task["config"].items() if option != "n"}}


def _check_log_probs(teacher: Teacher, log_probs: Any, shape: tuple[int, int]) -> None:
    found = getattr(log_probs, "shape", None)
    if found != shape:
        raise ContractError(f"Teacher '{teacher.name}' returned shape {found}, not {shape}.")
    if np.isnan(log_probs).any() or np.isposinf(log_probs).any():
        raise ContractError(f"Teacher '{teacher.name}' returned log-probabilities that are not finite.")
    worst = float(np.abs(np.exp(log_probs.astype(np.float64)).sum(axis=1) - 1).max())
    if worst > 1e-2:
        raise ContractError(
            f"Teacher '{teacher.name}' returned rows whose exponentials add up to 1 only within {worst:.3g}; "
            "`log_probs` must return natural logarithms of probabilities."
        )
