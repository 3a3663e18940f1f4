"""From preference groups to batches, and from batches to log-probabilities.

A group is one row that holds its prompt once (`shared.py`), or one row per response behind the same prompt: the latter
where there is one response only, where the likelihood of the prompt is asked for, and for students for which the two
are not proven equal. All rows of a group stand in one batch.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from accelerate.utils import send_to_device
from torch import Tensor

from mint_core.aligners.losses import ResponseLogProbs, response_log_probs
from mint_core.aligners.rows import TrainingRows
from mint_core.aligners.shared import PromptRow, shared_batch, shared_log_probs
from mint_core.errors import ContractError, DataError
from mint_core.interfaces import Student
from mint_core.students.encoding import append_response, check_length, stack
from mint_core.types import PreferenceGroup, Response

References = Mapping[tuple[str, Response], float]
"""By sample id and response: the log-probability under the frozen reference, summed over the response tokens."""


@dataclass(frozen=True, slots=True)
class GroupLogProbs:
    """One group's responses as the loss sees them."""

    chosen: ResponseLogProbs
    """(k',)"""
    rejected: ResponseLogProbs
    """(q',); no rows where the method does not read them."""
    chosen_weights: Tensor
    """(k',) fp32, summing to 1."""
    rejected_weights: Tensor
    """(q',) fp32, summing to 1."""
    whole_nll: Tensor
    """(k',): mean negative log-likelihood over prompt and response of the chosen rows; only filled for `nll: all`."""
    chosen_reference: Tensor
    """(k',) fp32: summed log-probability under the reference; no rows where the method has none."""
    rejected_reference: Tensor
    """(q',), the same."""


class Scored(NamedTuple):
    """What one forward pass says of the rows of a batch."""

    log_probs: ResponseLogProbs
    whole_nll: Tensor
    """(rows,); only filled where it was asked for."""


@dataclass(frozen=True, slots=True)
class GroupRows:
    """One group's place in a batch. No tuple: the Trainer takes tuples apart."""

    sample_id: str
    start: int
    """Number of its first response in the batch: the chosen ones, then the rejected ones."""
    chosen_weights: tuple[float, ...]
    rejected_weights: tuple[float, ...]
    chosen_reference: tuple[float, ...]
    rejected_reference: tuple[float, ...]

    def pick(self, scored: Scored) -> GroupLogProbs:
        """This group's part of a batch."""
        middle = self.start + len(self.chosen_weights)
        chosen, rejected = slice(self.start, middle), slice(middle, middle + len(self.rejected_weights))
        total = scored.log_probs.total
        return GroupLogProbs(
            chosen=ResponseLogProbs(*(values[chosen] for values in scored.log_probs)),
            rejected=ResponseLogProbs(*(values[rejected] for values in scored.log_probs)),
            chosen_weights=total.new_tensor(self.chosen_weights),
            rejected_weights=total.new_tensor(self.rejected_weights),
            whole_nll=scored.whole_nll[chosen],
            chosen_reference=total.new_tensor(self.chosen_reference),
            rejected_reference=total.new_tensor(self.rejected_reference),
        )


@dataclass(frozen=True, slots=True)
class Tokens:
    """How many tokens a forward pass reads."""

    real: int
    computed: int
    """With padding."""


@dataclass(kw_only=True)
class GroupCollator:
    """Encodes groups; `groups` says which responses belong together."""

    rows: TrainingRows = field(kw_only=False)
    """Prompts and responses as token ids."""
    rejected: bool = True
    """Whether the rejected responses are read too."""
    references: References | None = None
    """What the reference says of every response; None where the method has none."""
    shared: bool = False
    """One row per prompt instead of one per response."""
    budget: int | None = None
    """Most tokens of one forward pass, padding included; None = no limit."""

    @property
    def student(self) -> Student:
        """Whose rows they are."""
        return self.rows.job.student

    def __call__(self, groups: Sequence[PreferenceGroup]) -> dict[str, Any]:
        """A batch in parts, each of them one forward pass within the budget.

        Groups of like length come together where there are several parts, so that little is padding. A group is never
        torn apart, however large it is.
        """
        rows = [self.row(group) for group in groups]
        parts = _within(rows, self.budget, self.width) if self.budget else [list(range(len(rows)))]
        made = [self._batch([groups[i] for i in part], [rows[i] for i in part]) for part in parts]
        return {"parts": made, "preferences": list(groups)}

    def in_smaller_parts(self, batch: Mapping[str, Any]) -> dict[str, Any] | None:
        """The same batch with the budget halved, which holds for all that come; None where no part can be smaller."""
        widths = [part["size"].computed for part in batch["parts"] if len(part["groups"]) > 1]
        if not widths:
            return None
        self.budget = min(self.budget or max(widths), max(widths)) // 2
        return self(batch["preferences"])

    def batch(self, groups: Sequence[PreferenceGroup]) -> dict[str, Any]:
        """One forward pass, whatever its size: tensors, where the responses stand, and every group's place."""
        return self._batch(groups, [self.row(group) for group in groups])

    def width(self, rows: Sequence[PromptRow]) -> int:
        """Tokens of a forward pass over these groups, padding included."""
        if self.shared:
            return len(rows) * (max(row.prompt.length for row in rows) + max(row.tail for row in rows))
        longest = max(row.prompt.length + max(map(len, row.responses)) for row in rows)
        return sum(len(row.responses) for row in rows) * longest

    def _batch(self, groups: Sequence[PreferenceGroup], rows: Sequence[PromptRow]) -> dict[str, Any]:
        places, start = [], 0
        for group, row in zip(groups, rows, strict=True):
            places.append(self._place(group, start))
            start += len(row.responses)
        real = sum(row.prompt.length * (1 if self.shared else len(row.responses)) + row.tail for row in rows)
        common = {"groups": places, "size": Tokens(real, self.width(rows))}
        if self.shared:
            batch, tokens = shared_batch(self.student, rows)
            return {"model": batch, "tokens": tokens, **common}
        return {**_distinct_batch(self.student, rows), **common}

    def row(self, group: PreferenceGroup) -> PromptRow:
        """A group as tokens.

        Raises:
            DataError: It does not fit the student's context.
        """
        prompt = self.rows.prompt(group.sample_id)
        responses = []
        for response in (*group.chosen, *self._rejected(group)):
            ids = self.rows.response(response)
            check_length(self.student, group.sample_id, prompt.length + len(ids))
            responses.append(ids)
        return PromptRow(prompt, responses)

    def _rejected(self, group: PreferenceGroup) -> tuple[Response, ...]:
        return group.rejected if self.rejected else ()

    def _place(self, group: PreferenceGroup, start: int) -> GroupRows:
        rejected = self._rejected(group)
        return GroupRows(
            sample_id=group.sample_id,
            start=start,
            chosen_weights=group.chosen_weights or _equal_shares(len(group.chosen)),
            rejected_weights=(group.rejected_weights or _equal_shares(len(rejected))) if rejected else (),
            chosen_reference=self._reference(group.sample_id, group.chosen),
            rejected_reference=self._reference(group.sample_id, rejected),
        )

    def _reference(self, sample_id: str, responses: Sequence[Response]) -> tuple[float, ...]:
        references = self.references
        return () if references is None else tuple(references[sample_id, response] for response in responses)


def _within(rows: Sequence[PromptRow], budget: int, width: Callable[[Sequence[PromptRow]], int]) -> list[list[int]]:
    """Positions of the rows in parts whose width is at most the budget, or of one row each; in order where they fit."""
    if width(rows) <= budget:
        return [list(range(len(rows)))]
    longest_first = sorted(range(len(rows)), key=lambda i: -(rows[i].prompt.length + rows[i].tail))
    parts: list[list[int]] = []
    for i in longest_first:
        if parts and width([rows[j] for j in (*parts[-1], i)]) <= budget:
            parts[-1].append(i)
        else:
            parts.append([i])
    return parts


def _distinct_batch(student: Student, prompts: Sequence[PromptRow]) -> dict[str, Any]:
    """One row per response: tensors, `labels` that mark the response tokens, and the first response position of all."""
    rows = [append_response(row.prompt, ids) for row in prompts for ids in row.responses]
    starts = [row.prompt.length for row in prompts for _ in row.responses]
    batch: dict[str, Any] = dict(stack(rows, student.tokenizer.pad_token_id, "right"))
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    for row, start in enumerate(starts):
        labels[row, :start] = -100
    return {"model": batch, "labels": labels, "first": min(starts)}


def _equal_shares(count: int) -> tuple[float, ...]:
    return (1 / count,) * count


class Scorer:
    """Forward passes that give log-probabilities.

    Args:
        model: The student, with or without an adapter.
        whole: Also compute the likelihood of the prompt.
    """

    def __init__(self, model: Any, *, whole: bool = False) -> None:
        innermost = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.whole = whole
        self._keeps_logits = "logits_to_keep" in inspect.signature(innermost.forward).parameters
        self._image_token = getattr(innermost.config, "image_token_id", None)

    def __call__(self, model: Any, batch: Mapping[str, Any]) -> Scored:
        """Scores a part of GroupCollator's batch, on the student's device; `model` may be wrapped for several GPUs."""
        extra: dict[str, Any] = {"use_cache": False}
        if "tokens" in batch:
            tail = batch["tokens"].tail
            extra |= {"logits_to_keep": tail + 1} if self._keeps_logits else {}
            log_probs = shared_log_probs(model(**batch["model"], **extra).logits, batch["tokens"])
            return Scored(log_probs, -log_probs.average)
        labels = batch["labels"]
        if self._keeps_logits and not self.whole:
            extra["logits_to_keep"] = labels.shape[1] - batch["first"] + 1
        logits = model(**batch["model"], **extra).logits
        scored = response_log_probs(logits, labels[:, labels.shape[1] - logits.shape[1] :])
        whole = _whole_nll(logits, batch["model"], self._image_token) if self.whole else -scored.average
        return Scored(scored, whole)


def _whole_nll(logits: Tensor, batch: Mapping[str, Tensor], image_token: int | None) -> Tensor:
    """(rows,): mean negative log-likelihood over all tokens but the first, prompt included.

    Image tokens do not count: they are placeholders, and Mllama's lies outside of the vocabulary that it predicts.
    """
    uncounted = batch["attention_mask"] == 0
    if image_token is not None:
        uncounted |= batch["input_ids"] == image_token
    labels = batch["input_ids"].masked_fill(uncounted, -100)
    return -response_log_probs(logits, labels).average


def shares_prompts(rows: TrainingRows, model: Any, *, rejected: bool = True, whole: bool = False) -> bool:
    """Whether the groups can be computed with their prompt once, proven on two of the job's own groups.

    Args:
        rows: The job's, as token ids.
        model: The student with its adapter.
        rejected: Whether the rejected responses are read.
        whole: Whether the likelihood of the prompt is read, which needs a row per response.
    """
    job = rows.job
    several = [group for group in job.groups if len(group.chosen) + rejected * len(group.rejected) > 1]
    if whole or not several:
        return False
    some = [PreferenceGroup(g.sample_id, g.chosen[:2], g.rejected[:2]) for g in (several[0], several[-1])]
    training = model.training
    model.eval()
    try:
        totals = []
        for shared in (False, True):
            batch = GroupCollator(rows, rejected=rejected, shared=shared).batch(some)
            with torch.no_grad():
                totals.append(Scorer(model)(model, send_to_device(batch, job.student.device)).log_probs.total)
    except torch.OutOfMemoryError:  # no reason for rows that need more
        raise
    except (RuntimeError, ValueError, TypeError, LookupError) as error:  # an architecture that takes no 4-D mask
        reason = type(error).__name__
    else:
        worst = float((totals[0] - totals[1]).abs().max())
        # Of a response's summed log-probability, in nats; half precision rounds each of its tokens.
        tolerance = 1e-2 if job.student.model.dtype == torch.float32 else 1.0
        reason = "" if worst <= tolerance else f"log-probabilities differ by {worst:.2g}"
    model.train(training)
    if reason:
        warnings.warn(
            f"The student {job.student.source} is trained with one row per response, because its prompt cannot be "
            f"shared ({reason}).",
            stacklevel=2,
        )
    return not reason


def check_groups(groups: Sequence[PreferenceGroup], *, rejected: bool = True) -> None:
    """Refuses what cannot be trained on.

    Raises:
        DataError: There is no group, or a response is empty or occurs twice.
        ContractError: A group's weights do not fit its responses.
    """
    if not groups:
        raise DataError(
            "There is no preference group to train on: the training split is empty, or strategy.unlabelled=skip left "
            "nothing of it."
        )
    for group in groups:
        responses = (*group.chosen, *(group.rejected if rejected else ()))
        if len(set(responses)) < len(responses):
            twice = next(r for at, r in enumerate(responses) if r in responses[:at])
            raise DataError(
                f"Sample {group.sample_id} has the response '{', '.join(twice)}' twice among its chosen and rejected "
                "ones; a response can stand on one side only, once."
            )
        sides = ((group.chosen, group.chosen_weights), (group.rejected, group.rejected_weights))
        for responses, weights in sides if rejected else sides[:1]:
            if not responses or any(not any(label.strip() for label in r) for r in responses):
                raise DataError(
                    f"Sample {group.sample_id} has an empty response; an empty response has no probability."
                )
            if weights and not _are_shares(weights, len(responses)):
                raise ContractError(
                    f"The weights of sample {group.sample_id} do not fit its {len(responses)} responses: the strategy "
                    "must give one per response, none below 0, summing to 1."
                )


def _are_shares(weights: Sequence[float], count: int) -> bool:
    return len(weights) == count and all(w >= 0 for w in weights) and abs(sum(weights) - 1) < 1e-4
