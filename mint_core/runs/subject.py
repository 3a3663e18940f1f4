"""Whose answers are explained, for which samples: from an adapter and new samples, or from a run and its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mint_core.answering.asker import Asker, open_asker, open_engine
from mint_core.answering.asking import Wording, questions
from mint_core.answering.engine import Engine
from mint_core.answering.score import score
from mint_core.answering.setting import Setting
from mint_core.answering.transformers import TransformersEngine
from mint_core.config import PredictConfig
from mint_core.errors import ConfigError, ContractError, DataError, nearest_name
from mint_core.explaining.effects import Explainer
from mint_core.interfaces import Task, Unreadable
from mint_core.names import recognise
from mint_core.observer import Observer
from mint_core.stages.outputs import ADAPTER
from mint_core.stages.predict import asking_of, passages_of
from mint_core.stages.prompts import examples
from mint_core.stages.run import Run
from mint_core.students.adapter_files import describe_files
from mint_core.types import LabelSpace, Prediction, Prompt, Sample, Variant


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is explained, and what there is to explain."""

    task: Task
    engine: TransformersEngine
    explainer: Explainer
    samples: Sequence[Sample]
    """As the student may read them."""
    adapter: Path | None
    simulated: bool
    quick: bool
    groups: Mapping[str, str | None] = field(default_factory=dict)
    """What the bootstrap draws together, by sample id."""
    unreadable: Sequence[Unreadable] = ()

    @property
    def labels(self) -> LabelSpace:
        """The label space."""
        return self.explainer.labels

    def answers(self, samples: Sequence[Sample]) -> dict[str, tuple[str, str] | Unreadable]:
        """By sample id, the label of the student's first answer and how it was found, or why there is none.

        It is `answer` where the first entry of the student's list is a known label; else the label that is the most
        likely first entry, and `likelihood`.
        """
        prompts = dict(self.explainer.ask(samples))
        found: dict[str, tuple[str, str] | Unreadable] = {}
        for some in self.engine.answers(Variant("aligned").name, prompts):
            for one in some:
                if isinstance(one, Prediction):
                    found[one.sample_id] = self._first(one, prompts)
                else:
                    found[one.id] = one
        return found

    def _first(self, answer: Prediction, prompts: Mapping[str, Prompt]) -> tuple[str, str]:
        known = recognise(answer.labels[:1], self.labels)
        if known and known[0] is not None:
            return known[0], "answer"
        how: dict[str, Any] = {"batch_size": 1, "model": self.engine.model}
        own = {answer.sample_id: prompts[answer.sample_id]}
        scored = score(self.engine.student, own, self.labels, self.explainer.header, **how)
        return self.labels.names[int(np.argmax(next(scored)[1]))], "likelihood"

    @property
    def adapter_files(self) -> dict[str, Any] | None:
        """Size and digest of the adapter's files; None without one."""
        return None if self.adapter is None else describe_files(self.adapter)


def of_adapter(setting: Setting, place: Path, observer: Observer) -> Subject:
    """New samples, read by an adapter's student.

    Args:
        setting: The adapter's, see `mint_core.answering.setting`.
        place: File or folder of the samples.
        observer: Hears what the user must know.

    Raises:
        MintError: The samples, the student or the adapter cannot be used.
    """
    check_explainable(setting.predict)
    facts: Counter[str] = Counter()
    inputs = list(setting.task.read_inputs(place, facts))
    repeated = next((one for one, count in Counter(each.id for each in inputs).items() if count > 1), None)
    if repeated is not None:
        raise DataError(f"Two samples have the id '{repeated}'; give every sample an id of its own.")
    if not inputs:
        raise DataError(f"{place} holds no sample; check the path after --input.")
    for fact, count in facts.items():
        if count:
            observer.message(f"{fact}: {count}")
    samples = [one.for_student(setting.task.modality) for one in inputs if isinstance(one, Sample)]
    unreadable = [one for one in inputs if isinstance(one, Unreadable)]
    asker = open_asker(setting, observer)

    def ask(some: Sequence[Sample]) -> Mapping[str, Prompt]:
        return _prompts_of(asker, some)

    engine, explainer = _explainer(asker.engine, ask)
    return Subject(
        setting.task,
        engine,
        explainer,
        samples,
        setting.adapter,
        setting.simulated,
        setting.quick,
        unreadable=unreadable,
    )


def of_run(run: Run, batch_size: int | None) -> Subject:
    """The reported samples of a run, read by its student with its adapter where it has one.

    Raises:
        MintError: The data, the student or the adapter cannot be used.
    """
    resolved = run.resolved
    check_explainable(resolved.config.predict)
    adapter = run.path / ADAPTER if resolved.aligner else None
    asking = asking_of(run)
    if batch_size:
        asking = replace(asking, config=asking.config.model_copy(update={"batch_size": batch_size}))
    modality, tell = run.task.modality, run.observer.message
    engine = open_engine(asking, modality, resolved.config.student, run.student_path, adapter, tell=tell, isolate=True)
    if adapter is not None:
        engine.put_on(adapter)
    wording = Wording(examples(run))
    passages = passages_of(run, engine)

    def ask(some: Sequence[Sample]) -> Mapping[str, Prompt]:
        return questions(run.task, some, run.n, wording, passages).prompts

    whole, explainer = _explainer(engine, ask)
    samples = [sample.for_student(modality) for sample in run.reported]
    groups = {sample.id: sample.group for sample in run.reported}
    return Subject(run.task, whole, explainer, samples, adapter, run.data.simulated, resolved.config.quick, groups)


def check_explainable(predict: PredictConfig) -> None:
    """Refuses answers whose probabilities cannot be looked at.

    Raises:
        ConfigError: They come from another program, or reasons stand in front of them.
    """
    if predict.engine != "transformers":
        where = "a server" if predict.engine == "endpoint" else "vLLM"
        raise ConfigError(
            f"`mint explain` looks at the student's own probabilities, which {where} does not give; explain an adapter "
            "whose student lies here, with predict.engine=transformers."
        )
    if predict.reason:
        raise ConfigError(
            "With predict.reason the answer depends on reasons that the student writes first, and their words change "
            "with every phrase; leave predict.reason out."
        )


def _prompts_of(asker: Asker, samples: Sequence[Sample]) -> Mapping[str, Prompt]:
    asked = asker.asked(samples)
    return {sample.id: asked[sample.id].prompts[sample.id] for sample in samples}


def _explainer(engine: Engine, ask: Any) -> tuple[TransformersEngine, Explainer]:
    if not isinstance(engine, TransformersEngine):
        raise ContractError("Only a student whose weights are here can be explained; use predict.engine=transformers.")
    asking = engine.asking
    return engine, Explainer(engine.student, engine.model, asking.labels, asking.header, asking.batch_size, ask)


def chosen(samples: Sequence[Sample], ids: Sequence[str], number: int | None, seed: int) -> list[Sample]:
    """The samples that are explained: those of the ids, or so many at random, or all.

    Raises:
        DataError: An id is not there.
    """
    known = {sample.id: sample for sample in samples}
    for one in ids:
        if one not in known:
            near = nearest_name(one, known)
            hint = f"; did you mean '{near}'?" if near else f"; there are {len(known)} samples."
            raise DataError(f"There is no sample '{one}' to explain{hint}")
    if ids:
        return [known[one] for one in dict.fromkeys(ids)]
    if number is None or number >= len(samples):
        return list(samples)
    picked = np.random.default_rng([seed, 31]).choice(len(samples), number, replace=False)
    return [samples[int(place)] for place in sorted(picked)]


def label_named(labels: LabelSpace, name: str) -> str:
    """The canonical name of a label that the user wrote.

    Raises:
        ConfigError: There is none.
    """
    found = labels.find(name)
    if found is None:
        near = nearest_name(name, labels.names)
        hint = f"did you mean '{near}'?" if near else f"there are {len(labels)}, for example '{labels.names[0]}'."
        raise ConfigError(f"--label: '{name}' is no label of this student; {hint}")
    return found
