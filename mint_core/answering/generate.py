"""Batched greedy generation with transformers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from mint_core.answering.engine import batches
from mint_core.errors import ModelError
from mint_core.students.encoding import EncodedPrompt, append_response, check_length, encode_prompt, end_token, stack
from mint_core.types import Prompt

if TYPE_CHECKING:
    import torch

    from mint_core.interfaces import Student


@dataclass(frozen=True, slots=True)
class Begun:
    """A response that has been begun: its prompt with what was written so far."""

    prompt: EncodedPrompt
    written: list[int] = field(default_factory=list)
    """Tokens of the response, without its end."""
    ended: bool = False
    broken: bool = False
    """The student's numbers were not finite, so that what was written means nothing."""


def not_finite(sample_id: str) -> str:
    """One sentence on a sample for which a student computes NaN or infinity."""
    return (
        f"Sample {sample_id}: the student's scores are not finite, so that it has no answer; use student.dtype=fp32, "
        "or train the adapter again with a lower learning rate."
    )


def begin(student: Student, prompts: Mapping[str, Prompt], max_new_tokens: int) -> list[Begun]:
    """Encodes prompts whose responses may take so many tokens.

    Raises:
        DataError: A prompt and its response do not fit the student's context.
    """
    encoded = [encode_prompt(student, sample_id, prompt) for sample_id, prompt in prompts.items()]
    for prompt in encoded:
        check_length(student, prompt.sample_id, prompt.length + max_new_tokens)
    return [Begun(prompt) for prompt in encoded]


def go_on(student: Student, model: Any, begun: Sequence[Begun], max_new_tokens: int) -> list[Begun]:
    """Goes on greedily with one batch of responses that have not ended, by `max_new_tokens` each at most."""
    rows = [append_response(one.prompt, one.written) if one.written else one.prompt.tensors for one in begun]
    end_of_turn = begun[0].prompt.end_of_turn
    stops = set(stop_tokens(student, end_of_turn))
    added = greedy(student, model, rows, end_of_turn, max_new_tokens=max_new_tokens)
    result = []
    for one, tokens, broken in zip(begun, added.tokens.tolist(), added.broken, strict=True):
        end = next((place for place, token in enumerate(tokens) if token in stops), None)
        ended = broken or end is not None
        result.append(replace(one, written=[*one.written, *tokens[:end]], ended=ended, broken=broken))
    return result


def texts(student: Student, begun: Sequence[Begun]) -> list[str]:
    """What was written."""
    return list(student.tokenizer.batch_decode([one.written for one in begun], skip_special_tokens=True))


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
        ModelError: The student's scores are not finite.
    """
    model = student.model if model is None else model
    for batch in batches(prompts, batch_size, ordered=True):
        answers = go_on(student, model, begin(student, batch, max_new_tokens), max_new_tokens)
        for one in answers:
            if one.broken:
                raise ModelError(not_finite(one.prompt.sample_id))
        yield from zip(batch, texts(student, answers), strict=True)


class Written(NamedTuple):
    """What one batch wrote."""

    tokens: torch.Tensor
    """(rows, tokens), padded behind its end."""
    broken: list[bool]
    """Per row whether a score was not finite before the row ended."""


class _Watch:
    """A logits processor that changes nothing and remembers rows whose best score is not finite.

    Args:
        stops: Tokens that end a row; what is computed behind them does not count.
        width: Tokens of the prompts.
    """

    def __init__(self, stops: Sequence[int], width: int) -> None:
        self._stops, self._width = stops, width
        self._seen: torch.Tensor | None = None
        self._ended: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """See transformers' LogitsProcessor."""
        import torch

        bad = ~torch.isfinite(scores.amax(-1))  # NaN and +inf win every maximum
        if self._seen is None or self._ended is None:
            self._seen, self._ended = torch.zeros_like(bad), torch.zeros_like(bad)
        if input_ids.shape[1] > self._width:
            stops = torch.tensor(self._stops, device=input_ids.device)
            self._ended |= torch.isin(input_ids[:, -1], stops)
        self._seen |= bad & ~self._ended
        return scores

    @property
    def broken(self) -> list[bool]:
        """Per row, read from the device once."""
        return [] if self._seen is None else [bool(one) for one in self._seen.tolist()]


def greedy(
    student: Student,
    model: Any,
    rows: Sequence[Mapping[str, torch.Tensor]],
    end_of_turn: str,
    *,
    max_new_tokens: int,
    processors: Sequence[Any] = (),
) -> Written:
    """Goes on from rows with the most likely token at each step, and with no other constraint than `processors`."""
    import torch
    from transformers import LogitsProcessorList

    tensors = stack(rows, student.tokenizer.pad_token_id, "left")
    inputs = {key: value.to(student.device) for key, value in tensors.items()}
    stops = stop_tokens(student, end_of_turn)
    watch = _Watch(stops, inputs["input_ids"].shape[1])
    with torch.inference_mode():
        output: torch.Tensor = model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,  # some students bring one of their own, which would be a constraint
            no_repeat_ngram_size=0,
            pad_token_id=student.tokenizer.pad_token_id,
            eos_token_id=stops,
            temperature=None,
            top_p=None,
            top_k=None,
            logits_processor=LogitsProcessorList([watch, *processors]),
        )
    return Written(output[:, inputs["input_ids"].shape[1] :], watch.broken)


def stop_tokens(student: Student, end_of_turn: str) -> list[int]:
    """Tokens that end a response: those of the generation config and the one that ends a turn in the chat format."""
    declared = student.model.generation_config.eos_token_id
    stops: Sequence[int] = [declared] if isinstance(declared, int) else declared or []
    found = {*stops, student.tokenizer.eos_token_id, end_token(student, end_of_turn)}
    return sorted(token for token in found if token is not None)
