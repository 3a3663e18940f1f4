"""Answers for samples in their order: what is asked, what is retrieved, who answers, what is combined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, cast

import numpy as np

from mint_core.answering.asking import Augmented, Passages, Wording, questions
from mint_core.answering.endpoint import Endpoint, check_consent
from mint_core.answering.engine import Answered, Asking, Engine
from mint_core.answering.scores import retriever_scores, scores_of
from mint_core.answering.setting import Setting
from mint_core.answering.vllm import VllmEngine
from mint_core.config import StudentConfig
from mint_core.errors import ConfigError, DataError
from mint_core.files import storage_errors
from mint_core.interfaces import Context, Unreadable
from mint_core.observer import Observer
from mint_core.retrieval import fusion
from mint_core.students.load import fingerprint, load_student
from mint_core.students.prompts import write_response
from mint_core.types import Modality, Prediction, Sample, Variant

T = TypeVar("T")
_AT_ONCE = 4096
"""Samples whose prompts are made at a time, where nothing is retrieved for them."""


@dataclass(frozen=True, slots=True)
class Asker:
    """An engine with all that stands between a sample and its answer."""

    setting: Setting
    engine: Engine
    """Its answers come in the order of the samples."""
    passages: Passages | None = None

    def answers(self, samples: Sequence[Sample]) -> Iterator[Answered]:
        """One answer, or the reason why there is none, for each sample in order.

        Args:
            samples: What the student reads of them.
        """
        size = _AT_ONCE if self.passages is None else self.engine.asking.batch_size
        for start in range(0, len(samples), size):
            some = samples[start : start + size]
            answers = self._answers(some)
            if self.passages is None or self.setting.retrieval.fuse == "none":
                yield from answers
            else:
                yield from self._fused(self.passages, some, list(answers))

    def _answers(self, samples: Sequence[Sample]) -> Iterator[Answered]:
        asked = _one_by_one(self.asked, samples)
        prompts = {i: one.prompts[i] for i, one in asked.items() if not isinstance(one, Unreadable)}
        answered = self.engine.answers(Variant("aligned").name, prompts)
        answers = (answer for some in answered for answer in some)
        for sample_id, one in asked.items():
            if isinstance(one, Unreadable):
                yield one
                continue
            answer = next(answers)
            yield replace(answer, passages=one.sources[sample_id]) if isinstance(answer, Prediction) else answer

    def asked(self, samples: Sequence[Sample]) -> dict[str, Augmented]:
        """By sample id, the prompts of all of them."""
        wording = Wording(reason=self.engine.asking.config.reason)
        asked = questions(self.setting.task, samples, self.setting.n, wording, self.passages)
        return dict.fromkeys((sample.id for sample in samples), asked)

    def _fused(self, passages: Passages, samples: Sequence[Sample], answers: Sequence[Answered]) -> Iterator[Answered]:
        """The answers with the best labels of both rankings, or why the retriever cannot rank a sample."""
        predictions = {one.sample_id: one for one in answers if isinstance(one, Prediction)}

        def fuse(some: Sequence[Sample]) -> dict[str, Prediction]:
            theirs = retriever_scores(passages.retriever, some, self.setting.labels)
            if theirs is None:
                raise ConfigError("The retriever ranked no labels, so that nothing can be fused; leave --fuse out.")
            own = [predictions[sample.id] for sample in some]
            return {one.sample_id: one for one in _combined(self.setting, own, theirs)}

        answered = [sample for sample in samples if sample.id in predictions]
        found = _one_by_one(fuse, answered) if answered else {}
        return (found[one.sample_id] if isinstance(one, Prediction) else one for one in answers)


def _one_by_one(
    work: Callable[[Sequence[Sample]], Mapping[str, T]], samples: Sequence[Sample]
) -> Mapping[str, T | Unreadable]:
    """What `work` finds, by sample id; sample by sample where it refuses one of them."""
    try:
        return work(samples)
    except DataError as error:
        if len(samples) == 1:
            return {samples[0].id: Unreadable(samples[0].id, str(error))}
        return {key: one for sample in samples for key, one in _one_by_one(work, [sample]).items()}


def _combined(setting: Setting, predictions: Sequence[Prediction], theirs: fusion.Scores) -> Iterator[Prediction]:
    """The best labels of both rankings in place of the student's; docs/how-to/retrieval.md has the formulas.

    With a weight the log-probabilities are those of the combined scores, softmax over the label space; reciprocal
    ranks have none. Of a written list the text stays.
    """
    how, labels = setting.retrieval, setting.labels
    weight = how.weight if how.fuse == "weighted" else None
    taught = fusion.mask(cast(frozenset[str], setting.taught), labels)
    both = fusion.combine(scores_of(predictions, labels), theirs, taught, weight)
    for prediction, row in zip(predictions, both, strict=True):
        best = fusion.order(row)[: setting.listed]
        names = tuple(labels.names[column] for column in best)
        if prediction.scores is None:  # what the student wrote stays what it wrote
            yield replace(prediction, labels=names)
            continue
        logs = row - np.logaddexp.reduce(row)
        log_probs = () if weight is None else tuple(round(float(logs[column]), 5) for column in best)
        text = write_response(setting.task.header, names)
        scores = None if weight is None else logs.astype(np.float32)
        yield replace(prediction, text=text, labels=names, n_listed=len(names), log_probs=log_probs, scores=scores)


def open_engine(
    asking: Asking,
    modality: Modality,
    student: StudentConfig | None,
    path: str | None,
    adapter: Path | None,
    *,
    tell: Callable[[str], None],
    isolate: bool = False,
) -> Engine:
    """Loads the student, or connects to the server. The adapter is not put on yet (`Engine.put_on`).

    Args:
        asking: What is the same for all questions; its config names the engine.
        modality: What the prompts hold.
        student: None where a server is asked.
        path: A folder to load from instead of `student.model`: the embedded student.
        adapter: What the aligned student has; None where nobody is aligned.
        tell: Gets what the person who waits must know.
        isolate: A sample that cannot be answered is named as such and does not stop the others.

    Raises:
        ConfigError: The engine cannot do what is asked for.
        ModelError: The student cannot be loaded.
    """
    name, images = asking.config.engine, "image" in modality
    if name == "endpoint":
        check_consent(asking.config.endpoint, modality)
        return Endpoint(asking)
    if student is None:
        raise ConfigError("Nobody is named who could answer; name a student, or an endpoint.")
    if name == "vllm":
        return VllmEngine(student, path, adapter, asking, tell, shows_images=images)
    from mint_core.answering.transformers import TransformersEngine

    return TransformersEngine(load_student(student, path), asking, shows_images=images, isolate=isolate)


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
    asking, student, path = setting.asking, setting.student, setting.student_path
    modality = setting.task.modality
    engine = open_engine(asking, modality, student, path, setting.adapter, tell=observer.message, isolate=True)
    if asking.config.engine != "endpoint":
        _tell_of_another(setting, observer)
        if setting.adapter is not None:
            engine.put_on(setting.adapter)
    if setting.retriever is None:
        return Asker(setting, engine)
    with storage_errors(setting.cache):
        setting.cache.mkdir(parents=True, exist_ok=True)
        retriever = setting.retriever.make(Context(labels=setting.labels, n=setting.n, cache=setting.cache))
        retriever.build()
    passages = Passages(retriever, engine.counter, setting.retrieval.tokens, asking.reserve(engine.counter))
    return Asker(setting, engine, passages)


def _tell_of_another(setting: Setting, observer: Observer) -> None:
    """Says that the student is not the one of the training."""
    student = cast(StudentConfig, setting.student)
    source = setting.student_path or student.model
    if fingerprint(source, student.revision) != setting.trained_on:
        observer.message(
            f"The student {source} is not, file by file, the one that the adapter was trained on; if its weights "
            "differ, so do the answers."
        )
