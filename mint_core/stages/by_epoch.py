"""What a student in training answers for a few samples that the run does not report, judged by the run's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mint_core.answering.asking import Wording, questions
from mint_core.interfaces import EvaluationSample, Student
from mint_core.stages.predict import asking_of, passages_of
from mint_core.stages.prompts import examples
from mint_core.stages.run import Run
from mint_core.types import Prediction, Prompt, Sample, Variant

if TYPE_CHECKING:
    from mint_core.answering.transformers import TransformersEngine


def validation_samples(run: Run, count: int) -> list[Sample]:
    """So many labelled samples, drawn with the run's seed: of the val split, where that is not reported.

    Where there is none, of the training split: what they show is learnt, and may not be known of other samples. None of
    them is reported.
    """
    reported = {sample.id for sample in run.reported}
    for split in ("val", "train"):
        pool = [
            sample
            for sample in run.data.samples
            if sample.split == split and sample.label and sample.cohort is None and sample.id not in reported
        ]
        if pool:
            drawn = np.random.default_rng([run.resolved.config.seed, 37]).permutation(len(pool))[:count]
            return [pool[int(place)] for place in sorted(drawn)]
    return []


class ByEpochJudge:
    """Answers as the run decodes; call it with the student as it is and the number of samples.

    Args:
        run: The run.
        student: Its student, without the adapter.
    """

    def __init__(self, run: Run, student: Student) -> None:
        self.run, self.student = run, student
        self.samples: list[Sample] = []

    def __call__(self, model: Any, count: int) -> Mapping[str, float]:
        """The means of the metrics that read no teacher, by key; none where no sample is left to be asked."""
        if not self.samples:
            self.samples = validation_samples(self.run, count)
        engine, asked = self._engine, self._prompts
        engine.model = model
        name = Variant("aligned").name
        answers = [one for some in engine.answers(name, asked) for one in some]
        found = {one.sample_id: one for one in answers if isinstance(one, Prediction)}
        judged = [
            EvaluationSample(
                found.get(sample.id, Prediction(sample.id, name, "", (), 0, False)),
                str(sample.label),
                (),
                (),
                self.run.n,
                self.run.data.labels,
            )
            for sample in self.samples
        ]
        means: dict[str, float] = {}
        for key, metric in self.run.metrics.items():
            values = [] if metric.reads_teacher else [metric.score(one) for one in judged]
            scored = [float(value) for value in values if value is not None]
            if scored:
                means[key] = sum(scored) / len(scored)
        return means

    @property
    def facts(self) -> dict[str, Any]:
        """Which samples were asked, for the training's history; empty where none was."""
        if not self.samples:
            return {}
        return {"validated_on": {"split": self.samples[0].split, "n": len(self.samples)}}

    @cached_property
    def _engine(self) -> TransformersEngine:
        from mint_core.answering.transformers import TransformersEngine

        images = "image" in self.run.task.modality
        return TransformersEngine(self.student, asking_of(self.run), shows_images=images, isolate=True)

    @cached_property
    def _prompts(self) -> Mapping[str, Prompt]:
        wording = Wording(examples(self.run), self.run.resolved.config.predict.reason)
        passages = passages_of(self.run, self._engine)
        return questions(self.run.task, self.samples, self.run.n, wording, passages).prompts
