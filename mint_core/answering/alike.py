"""One label's log-probability behind prompts that are nearly alike: what they begin with is computed once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mint_core.answering.score import of_labels, why_not, with_rows, with_tries
from mint_core.answering.trie import Candidates, candidates, common, once
from mint_core.students.encoding import PER_TOKEN, EncodedPrompt, check_length, encode_prompt
from mint_core.types import LabelSpace, Prompt

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from mint_core.interfaces import Student

_LONGER = 1.2
"""How many times longer than the shortest row of a batch the longest may be."""


def label_log_probs(
    student: Student,
    prompts: Mapping[str, Prompt],
    labels: LabelSpace,
    label: str,
    header: str,
    *,
    batch_size: int,
    model: Any = None,
) -> NDArray[np.float32]:
    """Log p(the first entry is this label and ends there | prompt, header), as `score` has it, for every prompt.

    Prompts of texts are computed as far as they differ from the first one; prompts with images wholly, one row each.
    That both ways agree is checked on the first prompts; where they do not, every prompt gets a row, with a warning.

    Args:
        student: Processor and device; its model scores unless `model` is given.
        prompts: The whole prompt first, then what resembles it.
        labels: The label space.
        label: Canonical name of the label.
        header: First line of a response.
        batch_size: Prompts per forward pass.
        model: The student with an adapter.

    Returns:
        Natural logarithms, shape (prompts,).

    Raises:
        DataError: A prompt and the label do not fit the student's context.
    """
    import torch

    model = student.model if model is None else model
    encoded = [encode_prompt(student, sample_id, prompt) for sample_id, prompt in prompts.items()]
    end = encoded[0].end_of_turn
    known = candidates(student, labels, header, end).some([labels.index(label)])
    for prompt in encoded:
        check_length(student, prompt.sample_id, prompt.length + known.longest)
    with torch.inference_mode():
        way: Any = with_tries
        if set(encoded[0].tensors) <= set(PER_TOKEN):
            way = once(model, ("alike", student.tokenizer), partial(_choose_way, student, model, encoded, known))
        parts = [encoded] if way is with_beginning else _parts(encoded, batch_size)
        scores = [way(student, model, part, known, batch_size)[:, 0] for part in parts]
    found: NDArray[np.float32] = torch.cat(scores).float().cpu().numpy()
    return found


def _parts(prompts: Sequence[EncodedPrompt], size: int) -> list[Sequence[EncodedPrompt]]:
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]


def _choose_way(student: Student, model: Any, prompts: Sequence[EncodedPrompt], known: Candidates) -> Any:
    """The common beginning once, where that gives what rows of their own give; proven on three prompts."""
    import torch

    three = list({id(one): one for one in (prompts[0], prompts[1 % len(prompts)], prompts[-1])}.values())
    expected = with_rows(student, model, three, known, 2)
    if not bool(torch.isfinite(expected).all()):  # nothing to compare
        return with_rows
    reason = why_not(partial(with_beginning, student, model, three, known, 2), expected, model.dtype)
    if not reason:
        return with_beginning
    warnings.warn(
        f"Every text without a phrase gets a row of its own, because {student.source} cannot share what they begin "
        f"with ({reason}); this takes longer.",
        stacklevel=3,
    )
    return with_rows


def _of_like_length(lengths: Sequence[int], further: int, size: int) -> Iterator[list[int]]:
    """Rows in batches in which none is much longer than the shortest: else padding would eat what sharing saves.

    Args:
        lengths: Tokens per row.
        further: Tokens that each row has besides.
        size: Rows of a batch, at most.
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if batch and (len(batch) == size or lengths[row] + further > _LONGER * (lengths[batch[0]] + further)):
            yield batch
            batch = []
        batch.append(row)
    yield batch


def with_beginning(
    student: Student, model: Any, prompts: Sequence[EncodedPrompt], known: Candidates, batch_size: int
) -> torch.Tensor:
    """(prompts, labels): the first prompt once, of the others what follows the tokens that they begin with as it does.

    What stands behind a missing phrase is computed anew for each: it has read other words.
    """
    import torch

    from mint_core.answering.branches import begin, rest_log_probs

    innermost = model.get_base_model() if hasattr(model, "get_base_model") else model
    begun = begin(student, innermost, prompts[:1], ())
    tokens = [prompt.tensors["input_ids"][0].tolist() for prompt in prompts]
    kept = [len(common(tokens[0], own)) for own in tokens]
    left = [len(own) - same for own, same in zip(tokens, kept, strict=True)]
    branches = known.branches
    found = torch.zeros(len(prompts), len(branches.paths), device=student.device)
    for column, (path, closers) in enumerate(zip(branches.paths, branches.closers, strict=True)):
        for some in _of_like_length(left, len(known.shared) + len(path), batch_size):
            rests = [[*tokens[row][kept[row] :], *known.shared, *path] for row in some]
            how: dict[str, Any] = {"kept": [kept[row] for row in some], "path": path, "closers": closers}
            found[some, column] = rest_log_probs(student, innermost, begun, rests=rests, **how)
    return of_labels(found, branches)
