"""The prompts of a run, with the passages that its retriever finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mint_core.runs.context import Context
from mint_core.students.prompts import write_response
from mint_core.types import PreferenceGroup, Prompt, Sample

if TYPE_CHECKING:
    from mint_core.interfaces import Student
    from mint_core.retrieval.passages import Augmented


def training_prompts(context: Context, groups: Sequence[PreferenceGroup]) -> dict[str, Prompt]:
    """The training prompt of every sample that the groups name."""
    samples = {sample.id: sample.for_student(context.task.modality) for sample in context.data.split("train")}
    return {g.sample_id: context.task.training_prompt(samples[g.sample_id], len(g.chosen[0])) for g in groups}


def training_reserve(
    context: Context, student: Student, groups: Sequence[PreferenceGroup], prompts: Mapping[str, Prompt]
) -> int:
    """Tokens that are kept for the response in a training prompt with passages.

    That is what an answer may take, or the longest response of the groups, for a rejected list can be longer than N.
    Rejected responses count for every aligner, so that all of them read the same prompts.
    """
    from mint_core.students.encoding import encode_response
    from mint_core.students.prompts import render_prompt

    budget = response_budget(student, context)
    if not groups:
        return budget
    first = prompts[groups[0].sample_id]
    end = render_prompt(first, student.processor, parts=student.reads_images).end_of_turn
    responses = {response for group in groups for response in (*group.chosen, *group.rejected)}
    written = (write_response(context.task.header, response) for response in responses)
    return max(budget, *(len(encode_response(student, text, end)) for text in written))


def response_budget(student: Student, context: Context) -> int:
    """Tokens that the longest list of the run takes, and half again."""
    from mint_core.answering import generate

    return generate.response_budget(student, context.task.header, context.data.labels, context.n)


def inference_prompts(context: Context, samples: Sequence[Sample]) -> dict[str, Prompt]:
    """What the student is asked about every sample."""
    modality = context.task.modality
    return {sample.id: context.task.inference_prompt(sample.for_student(modality), context.n) for sample in samples}


def with_passages(
    context: Context, student: Student, samples: Sequence[Sample], prompts: Mapping[str, Prompt], reserve: int
) -> Augmented:
    """The prompts with what the run's retriever finds; as they are where it has none."""
    from mint_core.retrieval.passages import Augmented, add_passages

    if context.retriever is None:
        return Augmented(dict(prompts), {sample.id: () for sample in samples}, 0)
    blind = [sample.for_student(context.task.modality) for sample in samples]
    tokens = context.resolved.config.retrieval.tokens
    how: Any = {"tokens": tokens, "reserve": reserve}
    return add_passages(prompts, blind, context.retriever, student, context.task.header, **how)
