"""The prompts of a run: those of its training, and the example that its questions may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mint_core.answering.asking import Augmented, Example, Passages, example_of, with_retrieved
from mint_core.config import Configured
from mint_core.errors import ConfigError
from mint_core.stages.run import Run
from mint_core.students.encoding import StudentCounter, encode_response, response_budget
from mint_core.students.prompts import render_prompt, write_response
from mint_core.types import PreferenceGroup, Prompt, Sample

if TYPE_CHECKING:
    from mint_core.interfaces import Student


def training_prompts(run: Run, student: Student, groups: Sequence[PreferenceGroup]) -> Augmented:
    """The training prompt of every sample that the groups name, with passages where the run puts them in."""
    samples = {sample.id: sample.for_student(run.task.modality) for sample in run.data.split("train")}
    prompts = {g.sample_id: run.task.training_prompt(samples[g.sample_id], len(g.chosen[0])) for g in groups}
    retrieval = run.resolved.config.retrieval
    if run.retriever is None or not retrieval.train:
        return Augmented(prompts, {}, None)
    reserve = training_reserve(run, student, groups, prompts)
    passages = Passages(run.retriever, StudentCounter(student), retrieval.tokens, reserve)
    return with_retrieved(prompts, [samples[sample_id] for sample_id in prompts], run.task.header, passages)


def training_reserve(
    run: Run, student: Student, groups: Sequence[PreferenceGroup], prompts: Mapping[str, Prompt]
) -> int:
    """Tokens that are kept for the response in a training prompt with passages.

    That is what an answer may take, or the longest response of the groups, for a rejected list can be longer than N.
    Rejected responses count for every aligner, so that all of them read the same prompts.
    """
    budget = response_budget(StudentCounter(student), run.task.header, run.data.labels, run.n)
    if not groups:
        return budget
    first = prompts[groups[0].sample_id]
    end = render_prompt(first, student.processor, parts=student.reads_images).end_of_turn
    responses = {response for group in groups for response in (*group.chosen, *group.rejected)}
    written = (write_response(run.task.header, response) for response in responses)
    return max(budget, *(len(encode_response(student, text, end)) for text in written))


def passages_identity(run: Run) -> dict[str, Any]:
    """What decides which passages a prompt gets, and how a retriever ranks labels."""
    retriever = cast(Configured, run.resolved.retriever)
    return {**retriever.identity(), "tokens": run.resolved.config.retrieval.tokens}


def check_example(run: Run) -> None:
    """Refuses `predict.shots: 1` where no example can be shown.

    Raises:
        ConfigError: The student reads images, of which a prompt holds one, or no training sample has a label.
    """
    if run.resolved.config.predict.shots == 0:
        return
    if "image" in run.task.modality:
        raise ConfigError("predict.shots=1 needs a task of texts: a prompt holds one image, that of the sample itself.")
    if not _solved(run):
        raise ConfigError("predict.shots=1 needs a training sample with a label, and there is none.")


def _solved(run: Run) -> list[Sample]:
    return [sample for sample in run.data.split("train") if sample.label is not None and sample.cohort is None]


def examples(run: Run) -> tuple[Example, ...]:
    """The solved training sample of `predict.shots: 1`, none where it is 0; never a sample that is reported.

    It is drawn from the seed among the labelled training samples of the task's own data, and its list is the one that
    an aligned student learns: the teacher's best labels with the truth placed, down to N.
    """
    if run.resolved.config.predict.shots == 0:
        return ()
    known = _solved(run)
    sample = known[int(np.random.default_rng([run.resolved.config.seed, 23]).integers(len(known)))]
    ranking = run.rankings()[sample.id]
    top = run.strategy.top(ranking, sample.label)
    listed = (*top, *(label for label in ranking.labels if label not in top))[: run.n]
    return (example_of(run.task, sample, write_response(run.task.header, listed), run.n),)
