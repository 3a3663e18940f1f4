"""Ranks the whole label space by the likelihood that a student gives to each label as its first entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from mint_core.students.encoding import (
    EncodedPrompt,
    append_response,
    check_length,
    encode_prompt,
    encode_response,
    stack,
)
from mint_core.students.prompts import write_response
from mint_core.types import LabelSpace, Prompt

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from mint_core.students.student import Student


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The labels as tokens behind what all responses begin with."""

    shared: list[int]
    """Header and number of the first entry."""
    tails: list[list[int]]
    """Per label: its own tokens."""
    ends: list[list[int]]
    """Per label: the tokens of which one may follow, because the response or the entry ends there."""


def score(
    student: Student,
    prompts: Mapping[str, Prompt],
    labels: LabelSpace,
    header: str,
    *,
    batch_size: int,
    model: Any = None,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Scores every label for every prompt: log p(the first entry is this label and ends there | prompt, header).

    Probabilities of different labels are comparable without length normalisation, because each includes its end. They
    sum to at most 1 over the label space; what is missing is what the student would rather write.

    Args:
        student: Processor and device; its model scores unless `model` is given.
        prompts: Prompt per sample id.
        labels: The label space.
        header: First line of a response.
        batch_size: Labels per forward pass.
        model: The student with an adapter.

    Yields:
        Sample id and natural logarithms, shape (n_labels,), in the order of `prompts`.

    Raises:
        DataError: A prompt and its longest label do not fit the student's context.
    """
    import torch

    model = student.model if model is None else model
    candidates: _Candidates | None = None
    for sample_id, prompt in prompts.items():
        encoded = encode_prompt(student, sample_id, prompt)
        candidates = candidates or _candidates(student, labels, header, encoded.end_of_turn)
        longest = len(candidates.shared) + max(map(len, candidates.tails)) + 1
        check_length(student, sample_id, encoded.length + longest)
        way = _with_images if prompt.image is not None else _with_cache
        with torch.inference_mode():
            yield sample_id, way(student, model, encoded, candidates, batch_size).cpu().numpy()


def _candidates(student: Student, labels: LabelSpace, header: str, end_of_turn: str) -> _Candidates:
    alone = [encode_response(student, write_response(header, (name,)), end_of_turn) for name in labels.names]
    longer = [encode_response(student, write_response(header, (name, "x")), "") for name in labels.names]
    # Where the list goes on, the tokens are the same up to the end of the name, unless the tokenizer merges across it.
    stems = [_common(one, two) for one, two in zip(alone, longer, strict=True)]
    ends = [sorted({one[len(s)], two[len(s)]}) for one, two, s in zip(alone, longer, stems, strict=True)]
    shared = reduce(_common, stems)
    return _Candidates(shared, [stem[len(shared) :] for stem in stems], ends)


def _common(one: list[int], two: list[int]) -> list[int]:
    """What both begin with."""
    return [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False))]


def _with_cache(
    student: Student, model: Any, prompt: EncodedPrompt, candidates: _Candidates, batch_size: int
) -> torch.Tensor:
    """The prompt once, then the labels behind its cache; for prompts without an image."""
    import torch

    start = append_response(prompt, candidates.shared)
    first = model(**{key: value.to(student.device) for key, value in start.items()}, use_cache=True)
    before = first.logits[:, -1].float().log_softmax(-1)  # (1, vocabulary): predicts the first own token
    length = int(start["input_ids"].shape[1])
    results = []
    for begin in range(0, len(candidates.tails), batch_size):
        tails = candidates.tails[begin : begin + batch_size]
        ends = candidates.ends[begin : begin + batch_size]
        ids, lengths = _padded(tails, student)
        cache = _repeated(first.past_key_values, len(tails))
        mask = torch.ones(len(tails), length + ids.shape[1], dtype=torch.long, device=student.device)
        logits = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True).logits
        after = torch.cat([before.expand(len(tails), 1, -1), logits.float().log_softmax(-1)], dim=1)
        results.append(_totals(after, ids, lengths, ends))
    return torch.cat(results)


def _repeated(cache: Any, count: int) -> Any:
    from copy import deepcopy

    own = deepcopy(cache)
    own.batch_repeat_interleave(count)
    return own


def _with_images(
    student: Student, model: Any, prompt: EncodedPrompt, candidates: _Candidates, batch_size: int
) -> torch.Tensor:
    """One row per label, image and prompt in each."""
    import torch

    results = []
    for begin in range(0, len(candidates.tails), batch_size):
        tails = candidates.tails[begin : begin + batch_size]
        rows = [append_response(prompt, [*candidates.shared, *tail]) for tail in tails]
        batch = stack(rows, student.tokenizer.pad_token_id, "right")
        logits = model(**{key: value.to(student.device) for key, value in batch.items()}, use_cache=False).logits
        ids, lengths = _padded(tails, student)
        begin_of_tail = prompt.length + len(candidates.shared)
        after = logits[:, begin_of_tail - 1 : begin_of_tail + ids.shape[1]].float().log_softmax(-1)
        results.append(_totals(after, ids, lengths, candidates.ends[begin : begin + batch_size]))
    return torch.cat(results)


def _padded(tails: Sequence[Sequence[int]], student: Student) -> tuple[torch.Tensor, list[int]]:
    import torch

    width = max(1, *map(len, tails))
    ids = torch.full((len(tails), width), student.tokenizer.pad_token_id, device=student.device)
    for row, tail in enumerate(tails):
        ids[row, : len(tail)] = torch.tensor(tail, dtype=torch.long)
    return ids, [len(tail) for tail in tails]


def _totals(
    after: torch.Tensor, ids: torch.Tensor, lengths: Sequence[int], ends: Sequence[Sequence[int]]
) -> torch.Tensor:
    """(rows,): log p of each label's tokens and of its end.

    Args:
        after: (rows, 1 + width, vocabulary): log-probabilities of the next token, from before the first own token on.
        ids: (rows, width): own tokens, padded on the right.
        lengths: Own tokens per row.
        ends: Tokens of which one may follow, per row.
    """
    import torch

    steps = after[:, :-1].gather(-1, ids[..., None])[..., 0]  # (rows, width)
    counted = torch.arange(ids.shape[1], device=ids.device) < torch.tensor(lengths, device=ids.device)[:, None]
    closing = [after[row, lengths[row], list(end)].logsumexp(0) for row, end in enumerate(ends)]
    return (steps * counted).sum(1) + torch.stack(closing)
