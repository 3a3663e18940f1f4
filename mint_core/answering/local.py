"""Answers of the student on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mint_core.answering.fused import Fusion
from mint_core.answering.predict import Answer, Answered, Careful, isolated
from mint_core.answering.retrieved import Retrieval
from mint_core.answering.setting import Setting
from mint_core.config import PredictConfig, StudentConfig
from mint_core.errors import ModelError
from mint_core.files import storage_errors
from mint_core.interfaces import RetrieverContext
from mint_core.observer import Observer
from mint_core.types import Prediction, Prompt, Sample

if TYPE_CHECKING:
    from mint_core.interfaces import Student

VARIANT = "aligned"
CACHE = Path("runs", ".cache")
"""Where `mint run` keeps a retriever's index too."""


def load(
    setting: Setting, config: PredictConfig, listed: int, observer: Observer, vllm: Mapping[str, Any] | None = None
) -> Answer:
    """Loads the student with its adapter.

    Args:
        setting: With an adapter.
        config: How the student answers.
        listed: Labels per response.
        observer: Hears that the student is not the one of the training.
        vllm: Options of vLLM's engine, which then writes the answers; None = transformers does.

    Raises:
        ModelError: Student or adapter cannot be loaded, or they do not fit.
        ConfigError: vLLM cannot do what the options ask for.
        StorageError: The retriever's index cannot be written.
    """
    task, labels = setting.task, setting.labels
    fuse, weight = setting.retrieval.fuse, setting.retrieval.weight
    n = len(labels) if fuse != "none" and config.decode == "score" else listed
    if vllm is None:
        student, careful = _with_transformers(setting, config, n, observer)
    else:
        student, careful = _with_vllm(setting, config, vllm, observer)
    if setting.retriever is None:
        return lambda _, prompts: careful(prompts)
    with storage_errors(CACHE):
        CACHE.mkdir(parents=True, exist_ok=True)
        setting.retriever.build(RetrieverContext(labels, CACHE))
    fusion = None
    if fuse != "none":
        taught = cast(frozenset[str], setting.taught)
        fusion = Fusion(
            setting.retriever, labels, task.header, taught, weight if fuse == "weighted" else None, listed=listed
        )
    tokens = setting.retrieval.tokens
    budget, longest = _budget(setting, config, student)
    reserve = budget if config.decode == "free" else max(budget, longest)
    retrieval = Retrieval(setting.retriever, student, task.header, tokens, reserve=reserve, fusion=fusion)

    def answer_with_passages(samples: Sequence[Sample], prompts: Mapping[str, Prompt]) -> Iterator[Answered]:
        return retrieval.answers(samples, prompts, careful, config.batch_size)

    return answer_with_passages


def _with_transformers(setting: Setting, config: PredictConfig, n: int, observer: Observer) -> tuple[Student, Careful]:
    from mint_core.answering.answer import answers
    from mint_core.students.adapter import load_adapter
    from mint_core.students.load import load_student

    task, labels = setting.task, setting.labels
    student = load_student(cast(StudentConfig, setting.student), setting.student_path)
    if task.modality == "image" and not student.reads_images:
        raise ModelError(f"The task shows images, but the student {student.source} reads text only.")
    _tell_of_another(student, setting, observer)
    model = load_adapter(student.model, cast(Path, setting.adapter))
    budget = _budget(setting, config, student).budget

    def answer(prompts: Mapping[str, Prompt]) -> Iterator[Prediction]:
        return answers(student, VARIANT, prompts, labels, task.header, n=n, config=config, budget=budget, model=model)

    return student, isolated(answer, config.batch_size)


def _with_vllm(
    setting: Setting, config: PredictConfig, options: Mapping[str, Any], observer: Observer
) -> tuple[Student, Careful]:
    from mint_core.answering.vllm import VllmEngine

    task, adapter = setting.task, cast(Path, setting.adapter)
    engine = VllmEngine(
        cast(StudentConfig, setting.student),
        setting.student_path,
        adapter,
        shows_images=task.modality == "image",
        options=options,
    )
    _tell_of_another(engine.student, setting, observer)
    if not engine.whole:
        observer.message(
            "This version of vLLM does not tell whether it uses the whole adapter; compare a few answers with those of "
            "--engine transformers."
        )
    budget = _budget(setting, config, engine.student).budget
    return engine.student, partial(
        engine.answers, VARIANT, header=task.header, budget=budget, batch_size=config.batch_size
    )


def _tell_of_another(student: Student, setting: Setting, observer: Observer) -> None:
    from mint_core.students.load import fingerprint

    if fingerprint(student.source, cast(StudentConfig, setting.student).revision) != setting.trained_on:
        observer.message(
            f"The student {student.source} is not, file by file, the one that the adapter was trained on; if its "
            "weights differ, so do the answers."
        )


class _Budget(NamedTuple):
    """Tokens of a response."""

    budget: int
    """What a written one may take."""
    longest: int
    """What the longest list takes, and half again."""


def _budget(setting: Setting, config: PredictConfig, student: Student) -> _Budget:
    from mint_core.answering.generate import response_budget

    longest = response_budget(student, setting.task.header, setting.labels, setting.n)
    return _Budget(config.max_new_tokens or longest, longest)
