"""Answers of the student on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from mint_core.config import PredictConfig, StudentConfig
from mint_core.errors import ModelError
from mint_core.interfaces import RetrieverContext
from mint_core.prediction.fused import Fusion
from mint_core.prediction.predict import Answer, Answered, isolated
from mint_core.prediction.retrieved import Retrieval
from mint_core.prediction.setting import Setting
from mint_core.runs.folder import storage_errors
from mint_core.runs.observer import Observer
from mint_core.types import Prediction, Prompt, Sample

VARIANT = "aligned"
CACHE = Path("runs", ".cache")
"""Where `mint run` keeps a retriever's index too."""


def load(setting: Setting, config: PredictConfig, listed: int, observer: Observer) -> Answer:
    """Loads the student with its adapter.

    Args:
        setting: With an adapter.
        config: How the student answers.
        listed: Labels per response.
        observer: Hears that the student is not the one of the training.

    Raises:
        ModelError: Student or adapter cannot be loaded, or they do not fit.
        StorageError: The retriever's index cannot be written.
    """
    from mint_core.aligners.lora import load_adapter
    from mint_core.inference.answer import answers
    from mint_core.inference.generate import response_budget
    from mint_core.students.student import fingerprint, load_student

    assert setting.adapter is not None  # noqa: S101 - the caller has chosen this way
    chosen = cast(StudentConfig, setting.student)
    task, labels = setting.task, setting.labels
    source = setting.student_path or chosen.model
    student = load_student(chosen, setting.student_path)
    if task.modality == "image" and not student.reads_images:
        raise ModelError(f"The task shows images, but the student {source} reads text only.")
    if fingerprint(source, chosen.revision) != setting.trained_on:
        observer.message(
            f"The student {source} is not, file by file, the one that the adapter was trained on; if its weights "
            "differ, so do the answers."
        )
    model = load_adapter(student.model, setting.adapter)
    longest = response_budget(student, task.header, labels, setting.n)
    budget = config.max_new_tokens or longest

    fuse, weight = setting.retrieval.fuse, setting.retrieval.weight
    n = len(labels) if fuse != "none" and config.decode == "score" else listed

    def answer(prompts: Mapping[str, Prompt]) -> Iterator[Prediction]:
        return answers(student, VARIANT, prompts, labels, task.header, n=n, config=config, budget=budget, model=model)

    careful = isolated(answer, config.batch_size)
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
    reserve = budget if config.decode == "free" else max(budget, longest)
    retrieval = Retrieval(setting.retriever, student, task.header, tokens, reserve=reserve, fusion=fusion)

    def answer_with_passages(samples: Sequence[Sample], prompts: Mapping[str, Prompt]) -> Iterator[Answered]:
        return retrieval.answers(samples, prompts, careful, config.batch_size)

    return answer_with_passages
