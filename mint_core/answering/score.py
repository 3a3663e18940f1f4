"""Ranks the whole label space by the likelihood that a student gives to each label as its first entry."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mint_core.answering.engine import batches
from mint_core.answering.trie import Branches, Candidates, candidates, once, tries
from mint_core.students.encoding import EncodedPrompt, append_response, check_length, encode_prompt, stack
from mint_core.students.prompts import render_prompt
from mint_core.types import LabelSpace, Prompt

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from mint_core.interfaces import Student

_TOKENS = 4096
"""Nodes of all rows in one pass."""
_FEWEST, _MOST = 64, 512
"""Nodes of one row in one pass: attention grows with their square."""


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

    Probabilities of different labels are comparable without length normalisation, because each includes its end: that
    of the turn or of the line, with what the tokenizer joins to it. They sum to at most 1 over the label space; what is
    missing is what the student would rather write. Every prompt is computed once, and so is what several labels begin
    with. That this gives what rows of their own would give is checked on a few labels first; students for which it
    does not hold get a row per label, and a warning.

    Args:
        student: Processor and device; its model scores unless `model` is given.
        prompts: Prompt per sample id.
        labels: The label space.
        header: First line of a response.
        batch_size: Prompts per forward pass; labels per forward pass where each has a row of its own.
        model: The student with an adapter.

    Yields:
        Sample id and natural logarithms, shape (n_labels,), in the order of `prompts`.

    Raises:
        DataError: A prompt and its longest label do not fit the student's context.
    """
    import torch

    model = student.model if model is None else model
    for batch in batches(prompts, batch_size, ordered=True):
        encoded = [encode_prompt(student, sample_id, prompt) for sample_id, prompt in batch.items()]
        end = encoded[0].end_of_turn
        known = candidates(student, labels, header, end)
        for prompt in encoded:
            check_length(student, prompt.sample_id, prompt.length + known.longest)
        with torch.inference_mode():
            choose = partial(_choose_way, student, model, encoded, known)
            way = once(model, ("way", student.tokenizer, labels, header, end), choose)
            scores = way(student, model, encoded, known, batch_size).cpu().numpy()
        yield from zip(batch, scores, strict=True)


def label_tokens(student: Student, labels: LabelSpace, header: str, prompt: Prompt) -> list[int]:
    """Tokens of each label, its end included: what `predict.normalise: tokens` divides by.

    Any prompt of the task will do: it tells how a turn ends.
    """
    end_of_turn = render_prompt(prompt, student.processor, parts=student.reads_images).end_of_turn
    return candidates(student, labels, header, end_of_turn).tokens


def _choose_way(student: Student, model: Any, prompts: Sequence[EncodedPrompt], known: Candidates) -> Any:
    """Tries, where they give what a row per label gives; proven on the batch's shortest and longest prompt."""
    import torch

    some = known.some(_telling(known))
    two = sorted(prompts, key=lambda prompt: prompt.length)
    two = [two[0], two[-1]] if len(two) > 1 else two
    expected = with_rows(student, model, two, some, 2)
    if not bool(torch.isfinite(expected).all()):  # nothing to compare: the samples fail, and one by one is safe
        return with_rows
    reason = why_not(partial(with_tries, student, model, two, some, 2), expected, model.dtype)
    if not reason:
        return with_tries
    warnings.warn(
        f"The labels are scored with one row each, because {student.source} cannot share what they have in common "
        f"({reason}); this takes longer.",
        stacklevel=3,
    )
    return with_rows


def why_not(way: Callable[[], torch.Tensor], expected: torch.Tensor, dtype: torch.dtype) -> str:
    """Why a way to score labels is not taken: it fails, or it gives other scores; empty where it is as good.

    Args:
        way: Scores some labels of some prompts.
        expected: The same scores from rows of their own.
        dtype: The student's precision.
    """
    import torch

    try:
        worst = float((way() - expected).abs().max())
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        return type(error).__name__
    # Of a label's summed log-probability, in nats; half precision rounds each of its tokens.
    return "" if worst <= (1e-2 if dtype == torch.float32 else 1.0) else f"scores differ by {worst:.2g}"


def _telling(known: Candidates) -> list[int]:
    """A few labels: neighbours that share most, the shortest, the longest, one with the longest end."""
    order = sorted(range(len(known.tails)), key=lambda column: known.tails[column])
    lengths = sorted(order, key=lambda column: len(known.tails[column]))
    middle = len(order) // 2
    ended = max(order, key=lambda column: max(map(len, known.ends[column])))
    return list(dict.fromkeys([*order[middle : middle + 2], lengths[0], lengths[-1], ended]))


def with_tries(
    student: Student, model: Any, prompts: Sequence[EncodedPrompt], known: Candidates, batch_size: int
) -> torch.Tensor:
    """(prompts, labels): all prompts in one batch, the labels as tries behind them."""
    import torch

    from mint_core.answering.branches import begin, path_log_probs

    innermost = model.get_base_model() if hasattr(model, "get_base_model") else model
    begun = begin(student, innermost, prompts, known.shared)
    branches = known.branches
    found = torch.zeros(len(prompts), len(branches.paths), device=student.device)
    budget = min(_MOST, max(_FEWEST, _TOKENS // len(prompts)))
    for trie in tries(branches.paths, budget):
        closers = [branches.closers[column] for column in trie.columns]
        found[:, trie.columns] = path_log_probs(student, innermost, begun, trie, closers)
    return of_labels(found, branches)


def with_rows(
    student: Student, model: Any, prompts: Sequence[EncodedPrompt], known: Candidates, batch_size: int
) -> torch.Tensor:
    """(prompts, labels): one row per label and way to end it, prompt and image in each."""
    import torch

    branches = known.branches
    found = torch.zeros(len(prompts), len(branches.paths), device=student.device)
    for place, prompt in enumerate(prompts):
        for start in range(0, len(branches.paths), batch_size):
            some = slice(start, start + batch_size)
            found[place, some] = _row_scores(student, model, prompt, known, some)
    return of_labels(found, branches)


def of_labels(found: torch.Tensor, branches: Branches) -> torch.Tensor:
    """(prompts, labels) from (prompts, branches): a label may be written in any of its ways."""
    import torch

    if len(branches.of_label[0]) == 1:
        return found
    found = torch.cat([found, found.new_full((len(found), 1), float("-inf"))], dim=1)
    return found[:, torch.tensor(branches.of_label, device=found.device)].logsumexp(-1)


def _row_scores(student: Student, model: Any, prompt: EncodedPrompt, known: Candidates, some: slice) -> torch.Tensor:
    """(branches,): log p of the tokens of some branches and of what closes them, from one batch of rows."""
    import torch

    paths, closers = known.branches.paths[some], known.branches.closers[some]
    rows = [append_response(prompt, [*known.shared, *path]) for path in paths]
    batch = stack(rows, student.tokenizer.pad_token_id, "right")
    logits = model(**{key: value.to(student.device) for key, value in batch.items()}, use_cache=False).logits
    first = prompt.length + len(known.shared) - 1  # predicts the first own token
    totals = []
    for row, (path, last) in enumerate(zip(paths, closers, strict=True)):
        after = logits[row, first : first + len(path) + 1].float().log_softmax(-1)
        steps = after[:-1].gather(1, torch.tensor(path, dtype=torch.long, device=after.device)[:, None])
        totals.append(steps.sum() + after[-1, last].logsumexp(0))
    return torch.stack(totals)
