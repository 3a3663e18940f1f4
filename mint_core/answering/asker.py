"""Answers for samples in their order: what is asked, what is retrieved, who answers, what is combined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from mint_core.answering.asking import Passages, Wording, questions
from mint_core.answering.engine import Answered, Engine
from mint_core.answering.engines import Who, open_engine
from mint_core.answering.fused import Fusion
from mint_core.answering.setting import Setting
from mint_core.config import StudentConfig
from mint_core.errors import DataError
from mint_core.files import storage_errors
from mint_core.interfaces import Context, Retriever, Task, Unreadable
from mint_core.observer import Observer
from mint_core.retrieval.passages import Augmented
from mint_core.students.load import fingerprint
from mint_core.types import Prediction, Sample, Variant

_AT_ONCE = 4096
"""Samples whose prompts are made at a time, where nothing is retrieved for them."""


@dataclass(frozen=True, slots=True)
class Asker:
    """An engine with all that stands between a sample and its answer."""

    task: Task
    engine: Engine
    """Its answers come in the order of the samples."""
    wording: Wording
    passages: Passages | None = None
    fusion: Fusion | None = None

    def answers(self, samples: Sequence[Sample]) -> Iterator[Answered]:
        """One answer, or the reason why there is none, for each sample in order.

        Args:
            samples: What the student reads of them.
        """
        alone = self.passages is None and self.fusion is None
        size = _AT_ONCE if alone else self.engine.asking.batch_size
        for start in range(0, len(samples), size):
            some = samples[start : start + size]
            answers = self._answers(some)
            yield from answers if self.fusion is None else self._combined(self.fusion, some, list(answers))

    def _answers(self, samples: Sequence[Sample]) -> Iterator[Answered]:
        asked = self._asked(samples)
        prompts = {i: one.prompts[i] for i, one in asked.items() if not isinstance(one, Unreadable)}
        answered = self.engine.answers(Variant("aligned").name, prompts)
        answers = (answer for some in answered for answer in some)
        for sample_id, one in asked.items():
            if isinstance(one, Unreadable):
                yield one
                continue
            answer = next(answers)
            yield replace(answer, passages=one.sources[sample_id]) if isinstance(answer, Prediction) else answer

    def _asked(self, samples: Sequence[Sample]) -> dict[str, Augmented | Unreadable]:
        """By sample id what is asked, or why nothing can be: one by one where a sample of them is refused."""
        try:
            asked = questions(self.task, samples, self.engine.asking.n, self.wording, self.passages)
        except DataError as error:
            if len(samples) == 1:
                return {samples[0].id: Unreadable(samples[0].id, str(error))}
            return {key: one for sample in samples for key, one in self._asked([sample]).items()}
        return dict.fromkeys((sample.id for sample in samples), asked)

    def _combined(self, fusion: Fusion, samples: Sequence[Sample], answers: Sequence[Answered]) -> list[Answered]:
        """The answers combined with the retriever's ranking; one by one where it cannot rank one of the samples."""
        pairs = [(s, answer) for s, answer in zip(samples, answers, strict=True) if isinstance(answer, Prediction)]
        if not pairs:
            return list(answers)
        try:
            combined = fusion.combined([sample for sample, _ in pairs], [answer for _, answer in pairs])
        except DataError as error:
            if len(samples) == 1:
                return [Unreadable(samples[0].id, str(error))]
            both = zip(samples, answers, strict=True)
            return [one for sample, answer in both for one in self._combined(fusion, [sample], [answer])]
        found = {prediction.sample_id: prediction for prediction in combined}
        return [found[one.sample_id] if isinstance(one, Prediction) else one for one in answers]


def open_asker(setting: Setting, observer: Observer) -> Asker:
    """Loads what a setting names: the student with its adapter or a server, and the retriever.

    Args:
        setting: Who answers what.
        observer: Hears what the user must know.

    Raises:
        ModelError: Student or adapter cannot be loaded, or they do not fit.
        ConfigError: The engine cannot do what the options ask for.
        StorageError: The retriever's index cannot be written.
    """
    asking = setting.asking
    who = Who(setting.student, setting.student_path, setting.adapter, setting.task.modality)
    engine = open_engine(asking, who, observer.message, isolate=True)
    if asking.config.engine != "endpoint":
        _tell_of_another(setting, observer)
        if setting.adapter is not None:
            engine.put_on(setting.adapter)
    wording = Wording(None, asking.config.reason)
    if setting.retriever is None:
        return Asker(setting.task, engine, wording)
    with storage_errors(setting.cache):
        setting.cache.mkdir(parents=True, exist_ok=True)
        retriever = setting.retriever.make(Context(labels=setting.labels, n=setting.n, cache=setting.cache))
        retriever.build()
    passages = Passages(retriever, engine.counter, setting.retrieval.tokens, asking.reserve(engine.counter))
    return Asker(setting.task, engine, wording, passages, _fusion(setting, retriever))


def _fusion(setting: Setting, retriever: Retriever) -> Fusion | None:
    how = setting.retrieval
    if how.fuse == "none":
        return None
    weight = how.weight if how.fuse == "weighted" else None
    taught = cast(frozenset[str], setting.taught)
    return Fusion(retriever, setting.labels, setting.task.header, taught, weight, setting.asking.listed)


def _tell_of_another(setting: Setting, observer: Observer) -> None:
    """Says that the student is not the one of the training."""
    student = cast(StudentConfig, setting.student)
    source = setting.student_path or student.model
    if fingerprint(source, student.revision) != setting.trained_on:
        observer.message(
            f"The student {source} is not, file by file, the one that the adapter was trained on; if its weights "
            "differ, so do the answers."
        )
