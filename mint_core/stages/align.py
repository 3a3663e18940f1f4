"""The stage `align`: the aligner trains an adapter on the preference groups."""

from __future__ import annotations

import gc
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from mint_core import processes
from mint_core.config import Configured
from mint_core.files import storage_errors, write_json
from mint_core.interfaces import Aligner, AlignmentJob
from mint_core.stages.by_epoch import ByEpochJudge
from mint_core.stages.card import write_card
from mint_core.stages.outputs import ADAPTER, HISTORY
from mint_core.stages.prompts import passages_identity, training_prompts
from mint_core.stages.run import Run
from mint_core.stages.stage import Facts, Stage
from mint_core.students.control import check_labels
from mint_core.students.load import load_student


class Align(Stage):
    """The adapter, its card, and the history of its training."""

    name = "align"
    writes = ("adapter", "training")
    kept = True
    lower = "lower aligner.batch_size or aligner.token_budget, or set aligner.gradient_checkpointing=true"
    reads = {"prefer": ("preferences",)}  # noqa: RUF012 - never changed
    aligns = True
    joined = True

    def inputs(self, run: Run) -> dict[str, Any]:
        """Data, task, student, aligner, seed, and the retriever where its passages stand in the training prompts."""
        return {
            **run.task_identity(),
            **run.student_identity(),
            "aligner": cast(Configured, run.resolved.aligner).identity(),
            **({"passages": passages_identity(run)} if run.resolved.config.retrieval.train else {}),
            "seed": run.resolved.config.alignment_seed,
        }

    def make(self, run: Run, work: Path, out: Path) -> Facts:
        """See `Stage.make`."""
        groups = run.preferences()
        _ = run.retriever  # a fault of its knowledge must come to light before hours of training
        student = load_student(run.resolved.config.student, run.student_path)
        check_labels(run.data.labels, student.processor, run.task.header)
        asked = training_prompts(run, student, groups)
        aligner = cast(Aligner, cast(Configured, run.resolved.aligner).make(run.context()))
        judge = ByEpochJudge(run, student)
        with storage_errors(out):
            job = AlignmentJob(
                student=student,
                groups=groups,
                prompts=asked.prompts,
                header=run.task.header,
                seed=run.resolved.config.alignment_seed,
                work=work / "checkpoints",
                adapter=out / ADAPTER,
                advance=lambda step, total, figures: run.observer.progress(step, total, "steps", figures),
                cache=run.cache,
                logs=run.logs(self.key(run)) if processes.is_first() else None,
                validate=judge,
                titles={key: metric.title(run.n) for key, metric in run.metrics.items()},
                tell=run.tell,
            )
            result = aligner.align(job)
            processes.wait()  # nobody still writes into the working folder
            write_json(out / HISTORY, {**asdict(result), **judge.facts})
            write_card(out / ADAPTER, run)
        del student, job, judge
        gc.collect()
        settings = dict(result.settings)
        return {"steps": result.steps, "final_loss": result.final_loss, "settings": settings, **asked.facts}
