"""Batched greedy generation with transformers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mint_core.students.encoding import check_length, encode_prompt, encode_response, end_token, stack
from mint_core.students.prompts import write_response
from mint_core.types import LabelSpace, Prompt

if TYPE_CHECKING:
    import torch

    from mint_core.interfaces import Student


def response_budget(student: Student, header: str, labels: LabelSpace, n: int) -> int:
    """Tokens that the longest list of N labels takes, and half again.

    Args:
        student: Its tokenizer counts.
        header: First line of a response.
        labels: The label space; the N names with the most tokens make the longest list.
        n: Labels per response.
    """
    tokens = {name: len(student.tokenizer(name, add_special_tokens=False)["input_ids"]) for name in labels.names}
    longest = tuple(sorted(labels.names, key=lambda name: -tokens[name])[:n])
    return int(1.5 * len(encode_response(student, write_response(header, longest), ""))) + 4


def generate(
    student: Student, prompts: Mapping[str, Prompt], *, max_new_tokens: int, batch_size: int, model: Any = None
) -> Iterator[tuple[str, str]]:
    """Answers prompts greedily, batch by batch.

    Args:
        student: Processor and device; its model answers unless `model` is given.
        prompts: Prompt per sample id.
        max_new_tokens: Length limit of a response.
        batch_size: Prompts per batch.
        model: The student with an adapter.

    Yields:
        Sample id and response text, in the order of `prompts`.

    Raises:
        DataError: A prompt and its response do not fit the student's context.
    """
    model = student.model if model is None else model
    ids = list(prompts)
    for start in range(0, len(ids), batch_size):
        chunk = ids[start : start + batch_size]
        encoded = [encode_prompt(student, sample_id, prompts[sample_id]) for sample_id in chunk]
        for prompt in encoded:
            check_length(student, prompt.sample_id, prompt.length + max_new_tokens)
        rows = [prompt.tensors for prompt in encoded]
        answers = greedy(student, model, rows, encoded[0].end_of_turn, max_new_tokens=max_new_tokens)
        yield from zip(chunk, student.tokenizer.batch_decode(answers, skip_special_tokens=True), strict=True)


def greedy(
    student: Student,
    model: Any,
    rows: Sequence[Mapping[str, torch.Tensor]],
    end_of_turn: str,
    *,
    max_new_tokens: int,
    processors: Any = None,
) -> torch.Tensor:
    """Goes on from rows with the most likely token at each step, and with no other constraint than `processors`.

    Args:
        student: Processor and device.
        model: The student, perhaps with an adapter.
        rows: Encoded prompts.
        end_of_turn: What the chat format writes after a response.
        max_new_tokens: Length limit of a response.
        processors: transformers' logits processors.

    Returns:
        (rows, tokens): what was written, padded behind its end.
    """
    import torch

    tensors = stack(rows, student.tokenizer.pad_token_id, "left")
    inputs = {key: value.to(student.device) for key, value in tensors.items()}
    with torch.inference_mode():
        output: torch.Tensor = model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,  # some students bring one of their own, which would be a constraint
            no_repeat_ngram_size=0,
            pad_token_id=student.tokenizer.pad_token_id,
            eos_token_id=stop_tokens(student, end_of_turn),
            temperature=None,
            top_p=None,
            top_k=None,
            logits_processor=processors,
        )
    return output[:, inputs["input_ids"].shape[1] :]


def stop_tokens(student: Student, end_of_turn: str) -> list[int]:
    """Tokens that end a response: those of the generation config and the one that ends a turn in the chat format."""
    declared = student.model.generation_config.eos_token_id
    stops: Sequence[int] = [declared] if isinstance(declared, int) else declared or []
    found = {*stops, student.tokenizer.eos_token_id, end_token(student, end_of_turn)}
    return sorted(token for token in found if token is not None)
