"""One training step, one answer and its parse before hours of work: what a student cannot do is told now."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from mint_core.answering.generate import begin, go_on, not_finite
from mint_core.config import Configured
from mint_core.errors import MintError, ModelError
from mint_core.interfaces import Aligner
from mint_core.plugins import blamed
from mint_core.stages.expected import expected
from mint_core.stages.run import Run
from mint_core.students.adapter import add_lora, target_modules
from mint_core.students.control import check_labels
from mint_core.students.encoding import append_response, encode_prompt, encode_response, stack
from mint_core.students.load import load_outline, load_student
from mint_core.students.prompts import parse_response, write_response
from mint_core.types import LabelSpace, Prompt

if TYPE_CHECKING:
    from typing import Any

    from mint_core.interfaces import Student

_TOKENS = 4
"""Of the answer: enough to see that the student goes on from what it wrote."""
_LABELS = 4
"""That are scored, where labels are scored."""


def probe(run: Run, *, trains: bool, answers: bool) -> dict[str, float]:
    """Lets the student do once, on one prompt of the data, what the stages to come will have it do for hours.

    Args:
        run: The run, before the first stage that is not complete.
        trains: An adapter will be trained.
        answers: The student will answer in transformers.

    Returns:
        Seconds that the stages to come will take, by stage; see `mint_core.stages.expected`.

    Raises:
        ModelError: It cannot.
        DataError: A label cannot be written by it, or its prompt does not fit.
    """
    import torch

    config = run.resolved.config
    with torch.random.fork_rng(devices=[run.device] if run.device.startswith("cuda") else []):
        student = load_student(config.student, run.student_path)
        check_labels(run.data.labels, student.processor, run.task.header)
        prompts = _prompts(run)
        with _failures(student, "read a prompt"):
            end_of_turn = encode_prompt(student, *next(iter(prompts.items()))).end_of_turn
        _check_parse(student, run, end_of_turn)
        model = student.model
        ahead: dict[str, float] = {}
        if trains:
            _check_aligner(student, run)
            with _failures(student, "take a training step"):
                model = _step(student, run, prompts, end_of_turn)
                pace, prompt = _pace(student, model, run, prompts, end_of_turn)
            ahead = expected(run, student, pace=pace, prompt=prompt, trains=trains, answers=answers)
        if answers:
            with _failures(student, "answer"):
                _answer(student, run, prompts, model)
        del student, model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return ahead


def check_outline(run: Run) -> None:
    """What can be seen of a student without its weights, for an engine that loads them itself.

    Raises:
        ModelError: It cannot be found, or reads no images where it must.
        DataError: A label cannot be written by it, or its prompt does not fit.
    """
    student = load_outline(run.resolved.config.student, run.student_path)
    check_labels(run.data.labels, student.processor, run.task.header)
    with _failures(student, "read a prompt"):
        for sample_id, prompt in _prompts(run).items():
            encode_prompt(student, sample_id, prompt)


def _prompts(run: Run) -> dict[str, Prompt]:
    """The training prompt and the inference prompt of one sample each, whose lengths differ."""
    task, modality = run.task, run.task.modality
    train, reported = run.data.split("train"), run.reported
    found = {}
    if train:
        found[train[0].id] = task.training_prompt(train[0].for_student(modality), run.n)
    if reported:
        found[reported[0].id] = task.inference_prompt(reported[0].for_student(modality), run.n)
    return found


@contextmanager
def _failures(student: Student, what: str) -> Iterator[None]:
    """Tells a library's error as one sentence, without its words: they may quote a prompt."""
    import torch

    try:
        yield
    except (MintError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        fault = blamed(error)
        if fault is not None:
            raise fault from error
        raise ModelError(
            f"The student {student.source} cannot {what} ({type(error).__name__}), which was tried before the first "
            "stage; check that its files belong together, or choose another student. --debug shows where it stopped."
        ) from error


def _check_parse(student: Student, run: Run, end_of_turn: str) -> None:
    """Whether a perfect list comes back from the student's tokens as one."""
    names = run.data.labels.names[: run.n]
    ids = encode_response(student, write_response(run.task.header, names), end_of_turn)
    text = student.tokenizer.decode(ids, skip_special_tokens=True)
    read = parse_response(text, run.task.header)
    if not read.well_formed or len(read.labels) != len(names):
        raise ModelError(
            f"The tokenizer of {student.source} does not give back the list that it was given: of {len(names)} labels "
            f"{len(read.labels)} can be read, so that no answer could be right; choose another student."
        )


def _check_aligner(student: Student, run: Run) -> None:
    """Whether the aligner would train this student on groups of such sizes, from the adapter that it begins from."""
    sample = run.data.split("train")[0]
    groups = run.even_groups(labelled=sample.label is not None)
    if not groups:  # a sample that is left out; others need not be
        return
    prompt = run.task.training_prompt(sample.for_student(run.task.modality), len(groups[0].chosen[0]))
    job = run.outlined_job(student, groups, {sample.id: prompt})
    cast(Aligner, cast(Configured, run.resolved.aligner).make(run.context())).check(job)


def _step(student: Student, run: Run, prompts: dict[str, Prompt], end_of_turn: str) -> Any:
    """One step on two responses of different lengths; returns the student with the adapter that took it."""
    import torch

    aligner = cast(Aligner, cast(Configured, run.resolved.aligner).make())
    parameters = sum(parameter.numel() for parameter in student.model.parameters())
    shape = aligner.shape(parameters)
    targets, vision = (shape.targets, shape.vision) if shape else ("attention", False)
    model = add_lora(student.model, target_modules(student.model, targets, vision=vision), 1, 1.0, 0.0)
    model.train()
    loss = _loss(student, model, run, prompts, end_of_turn)[0]
    loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    norms = torch.stack([p.grad.float().norm() for p in trained if p.grad is not None])
    if not bool(torch.isfinite(loss)) or not bool(torch.isfinite(norms).all()):
        raise ModelError(
            f"The loss of the student {student.source}, or its gradient, is not finite in the first step; use "
            "student.dtype=fp32, or choose another student."
        )
    torch.optim.SGD(trained, lr=1e-4).step()
    return model.eval()


def _loss(student: Student, model: Any, run: Run, prompts: dict[str, Prompt], end_of_turn: str) -> tuple[Any, int, int]:
    """The loss of two responses of different lengths, the tokens of its rows, and those of the prompt."""
    import torch

    prompt = encode_prompt(student, *next(iter(prompts.items())))
    lists = (run.data.labels.names[: run.n], run.data.labels.names[-1:])
    responses = [encode_response(student, write_response(run.task.header, names), end_of_turn) for names in lists]
    batch = stack([append_response(prompt, ids) for ids in responses], student.tokenizer.pad_token_id, "right")
    logits = model(**{key: value.to(student.device) for key, value in batch.items()}, use_cache=False).logits
    loss = logits.new_zeros((), dtype=torch.float32)
    for row, ids in zip(logits, responses, strict=True):
        own = row[prompt.length - 1 : prompt.length - 1 + len(ids)].float().log_softmax(-1)
        loss = loss - own.gather(1, torch.tensor(ids, device=own.device)[:, None]).mean()
    return loss, 2 * (prompt.length + max(map(len, responses))), prompt.length


def _pace(student: Student, model: Any, run: Run, prompts: dict[str, Prompt], end_of_turn: str) -> tuple[float, int]:
    """Seconds per token of a further training step, when all is warm, and the tokens of a prompt."""
    begin = time.perf_counter()
    loss, tokens, prompt = _loss(student, model, run, prompts, end_of_turn)
    loss.backward()
    loss.item()  # a GPU works on while Python goes ahead
    model.zero_grad(set_to_none=True)
    return (time.perf_counter() - begin) / tokens, prompt


def _answer(student: Student, run: Run, prompts: dict[str, Prompt], model: Any) -> None:
    """A few tokens for each prompt, written and scored as the run will do it."""
    for one in go_on(student, model, begin(student, prompts, _TOKENS), _TOKENS):
        if one.broken:
            raise ModelError(not_finite(one.prompt.sample_id))
    labels, header = run.data.labels, run.task.header
    decode = run.resolved.config.predict.decode
    how: dict[str, Any] = {"batch_size": 1, "model": model}
    first = dict([next(iter(prompts.items()))])
    if decode == "constrained":
        from mint_core.answering.constrained import generate_constrained

        list(generate_constrained(student, first, labels, header, n=run.n, **how))
    if decode == "score":
        from mint_core.answering.score import score

        list(score(student, first, LabelSpace(labels.names[:_LABELS]), header, **how))
