"""What a model is asked about a sample: the task's question, a solved example, reasons first, retrieved passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mint_core.interfaces import Retriever, Task
from mint_core.retrieval.passages import Augmented, add_passages
from mint_core.students.encoding import TokenCounter
from mint_core.types import Message, Prompt, Sample

_REASON = (
    "First reason step by step about this case, in a few sentences. Then write the list, exactly in the format above, "
    "as the last part of your answer."
)


_HEADINGS = ("Example case:", "Example answer:", "Now the case to answer:")


def _without_headings(text: str) -> str:
    """A case whose text can head no part of the prompt: the words stay, the colon goes."""
    for heading in _HEADINGS:
        text = text.replace(heading, heading.removesuffix(":"))
    return text


@dataclass(frozen=True, slots=True)
class Example:
    """A solved training sample that stands in the prompt of `predict.shots: 1`."""

    question: str
    """What the student reads of the sample, as the training prompt words it."""
    response: str
    """A response in the task's format."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How the task's prompt is put to a model."""

    example: Example | None = None
    reason: bool = False
    """Ask for a chain of thought before the list."""

    def put(self, prompt: Prompt) -> Prompt:
        """The prompt with what is asked beside it.

        Args:
            prompt: The task's own.
        """
        content = _question(prompt).content
        if self.example is not None:
            case, answer, now = _HEADINGS
            solved = f"{case}\n{_without_headings(self.example.question)}\n\n{answer}\n{self.example.response}"
            content = f"{solved}\n\n{now}\n{_without_headings(content)}"
        if self.reason:
            content = f"{content}\n\n{_REASON}"
        return _with_question(prompt, content)


def _question(prompt: Prompt) -> Message:
    return next(message for message in prompt.messages if message.role == "user")


def _with_question(prompt: Prompt, content: str) -> Prompt:
    own = _question(prompt)
    changed = tuple(replace(message, content=content) if message is own else message for message in prompt.messages)
    return replace(prompt, messages=changed)


def example_of(task: Task, sample: Sample, response: str, n: int) -> Example:
    """A training sample as an example.

    Args:
        task: Its training prompt is the question.
        sample: A labelled training sample.
        response: The answer that it teaches.
        n: How many labels are listed (N).
    """
    return Example(_question(task.training_prompt(sample.for_student(task.modality), n)).content, response)


@dataclass(frozen=True, slots=True)
class Passages:
    """How retrieved passages come into a prompt."""

    retriever: Retriever
    """After `build`."""
    counter: TokenCounter
    tokens: int
    """Most tokens that they add to a prompt."""
    reserve: int
    """Tokens that are kept for the response."""


def questions(
    task: Task, samples: Sequence[Sample], n: int, wording: Wording, passages: Passages | None = None
) -> Augmented:
    """What is asked about samples.

    Args:
        task: Gives the prompts.
        samples: Only what the student may read of them reaches a prompt or a retriever.
        n: How many labels are asked for (N).
        wording: Example and reasons.
        passages: What a retriever adds; None = nothing.

    Raises:
        DataError: Not even the best passage of a sample fits.
    """
    blind = [sample.for_student(task.modality) for sample in samples]
    prompts = {sample.id: wording.put(task.inference_prompt(sample, n)) for sample in blind}
    return with_retrieved(prompts, blind, task.header, passages)


def with_retrieved(
    prompts: dict[str, Prompt], samples: Sequence[Sample], header: str, passages: Passages | None
) -> Augmented:
    """Prompts with what is retrieved for them; as they are where nothing is.

    Args:
        prompts: By sample id.
        samples: As the student reads them.
        header: First line of a response.
        passages: What a retriever adds.
    """
    if passages is None:
        return Augmented(prompts, {sample.id: () for sample in samples}, None)
    how: dict[str, int] = {"tokens": passages.tokens, "reserve": passages.reserve}
    return add_passages(prompts, samples, passages.retriever, passages.counter, header, **how)
