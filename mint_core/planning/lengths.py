"""Token lengths, counted by the code that encodes the training rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mint_core.aligners.rows import TrainingRows
from mint_core.errors import DataError
from mint_core.interfaces import Student
from mint_core.students.encoding import EncodedPrompt, check_length
from mint_core.students.prompts import parse_response, render_prompt
from mint_core.types import PreferenceGroup, Prompt, Response, normalise_name


@dataclass(frozen=True, slots=True)
class PromptLengths:
    """Tokens of one prompt."""

    before: int
    """As the chat template writes it, an image being the token that stands for it."""
    marks: int
    """Of these, tokens that stand for an image."""
    after: int
    """As the student reads it."""
    image: int
    """Of these, image tokens."""


@dataclass(frozen=True, slots=True)
class GroupLengths:
    """Tokens of one preference group."""

    sample_id: str
    prompt: PromptLengths
    chosen: tuple[int, ...]
    """Of each response, with the end of its turn."""
    rejected: tuple[int, ...]
    """Empty where the method does not read them."""

    @property
    def longest(self) -> int:
        """Tokens of the longest row: the prompt and one response."""
        return self.prompt.after + max((*self.chosen, *self.rejected))


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of all groups."""

    groups: tuple[GroupLengths, ...]
    labels_written: int
    """Labels in the distinct responses."""
    labels_read: int
    """Of these, labels that can be read back from the tokens."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How a count is distributed."""

    min: int
    median: float
    p95: float
    max: int


def spread(values: Sequence[int]) -> Spread:
    """Minimum, median, 95 % quantile and maximum of at least one value."""
    return Spread(min(values), float(np.median(values)), float(np.quantile(values, 0.95)), max(values))


def measure(rows: TrainingRows, groups: Sequence[PreferenceGroup], advance: Callable[[int], None]) -> Lengths:
    """Counts every row that training would make, and refuses what does not fit.

    Args:
        rows: Of the whole job; the student may be without weights.
        groups: Those that are counted.
        advance: Called with 1 after every group.

    Raises:
        DataError: The longest row is longer than the student's context, or the processor cuts a prompt.
        ModelError: The student cannot read the prompts.
    """
    counter = _Counter(rows)
    counted = []
    for group in groups:
        tokens = [counter.response(response) for response in rows.responses_of(group)]
        chosen, rejected = tuple(tokens[: len(group.chosen)]), tuple(tokens[len(group.chosen) :])
        counted.append(GroupLengths(group.sample_id, counter.prompt(group.sample_id), chosen, rejected))
        advance(1)
    worst = max(counted, key=lambda group: group.longest)
    check_length(rows.job.student, worst.sample_id, worst.longest)
    return Lengths(tuple(counted), counter.labels_written, counter.labels_read)


class _Counter:
    """Counts each prompt and each distinct response once."""

    def __init__(self, rows: TrainingRows) -> None:
        self.rows = rows
        self.labels_written = 0
        self.labels_read = 0
        self._prompts: dict[str, PromptLengths] = {}
        self._responses: dict[Response, int] = {}

    def prompt(self, sample_id: str) -> PromptLengths:
        """Its tokens."""
        if sample_id not in self._prompts:
            job, encoded = self.rows.job, self.rows.prompt(sample_id)
            self._prompts[sample_id] = prompt_lengths(job.student, job.prompts[sample_id], encoded)
        return self._prompts[sample_id]

    def response(self, response: Response) -> int:
        """Its tokens."""
        if response not in self._responses:
            ids = self.rows.response(response)
            self._responses[response] = len(ids)
            self.labels_written += len(response)
            self.labels_read += self._read_back(ids, response)
        return self._responses[response]

    def _read_back(self, ids: list[int], response: Response) -> int:
        """How many of its labels the tokens still hold."""
        job = self.rows.job
        text = job.student.tokenizer.decode(ids, skip_special_tokens=True)
        found = {normalise_name(name) for name in parse_response(text, job.header).labels}
        return sum(normalise_name(name) in found for name in response)


def prompt_lengths(student: Student, prompt: Prompt, encoded: EncodedPrompt) -> PromptLengths:
    """Tokens before and after the processor, which puts the image's tokens in.

    Args:
        student: The student.
        prompt: What it reads.
        encoded: The same as tensors.

    Raises:
        DataError: Fewer text tokens come out than went in: the processor cuts.
    """
    rendered = render_prompt(prompt, student.processor, parts=student.reads_images)
    before: Any = student.tokenizer(rendered.text, add_special_tokens=False)["input_ids"]
    after = encoded.tensors["input_ids"][0].tolist()
    token = getattr(student.model.config, "image_token_id", None)
    boi = getattr(student.model.config, "boi_token_id", None)
    image = after.count(token)
    marks = before.count(token) or (before.count(boi) if prompt.image is not None else 0)
    if len(after) - image < len(before) - marks:
        raise DataError(
            f"Sample {encoded.sample_id}: the processor of {student.source} keeps {len(after) - image} of "
            f"{len(before) - marks} text tokens of the prompt; remove the length limit from its configuration."
        )
    return PromptLengths(len(before), marks, len(after), image)
