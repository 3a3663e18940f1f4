"""What a model is asked about a sample: the task's question, a solved example, reasons first, retrieved passages."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mint_core.errors import ContractError, DataError
from mint_core.interfaces import Retriever, Task
from mint_core.students.encoding import TokenCounter
from mint_core.students.prompts import with_passages
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
    """A solved training sample that stands in a prompt."""

    question: str
    """What the student reads of the sample, as the training prompt words it."""
    response: str
    """A response in the task's format."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How the task's prompt is put to a model."""

    examples: tuple[Example, ...] = ()
    reason: bool = False
    """Ask for a chain of thought before the list."""

    def put(self, prompt: Prompt) -> Prompt:
        """The task's own prompt with what is asked beside it."""
        content = question_of(prompt).content
        if self.examples:
            case, answer, now = _HEADINGS
            solved = (f"{case}\n{_without_headings(e.question)}\n\n{answer}\n{e.response}\n\n" for e in self.examples)
            content = f"{''.join(solved)}{now}\n{_without_headings(content)}"
        if self.reason:
            content = f"{content}\n\n{_REASON}"
        return with_question(prompt, content)


def question_of(prompt: Prompt) -> Message:
    """The first turn of the user."""
    return next(message for message in prompt.messages if message.role == "user")


def with_question(prompt: Prompt, content: str) -> Prompt:
    """The same prompt with another question."""
    question = question_of(prompt)
    messages = (replace(one, content=content) if one is question else one for one in prompt.messages)
    return replace(prompt, messages=tuple(messages))


def example_of(task: Task, sample: Sample, response: str, n: int) -> Example:
    """A labelled training sample, with the answer that it teaches, as an example that lists n labels."""
    return Example(question_of(task.training_prompt(sample.for_student(task.modality), n)).content, response)


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


@dataclass(frozen=True, slots=True)
class Augmented:
    """Prompts with what was retrieved for them."""

    prompts: dict[str, Prompt]
    """By sample id."""
    sources: dict[str, tuple[str, ...]]
    """Where the passages of a prompt come from, best first, by sample id."""
    left_out: int | None
    """Passages that were retrieved and did not fit; None where nothing was to be retrieved."""

    @property
    def facts(self) -> dict[str, Any]:
        """Counts for the run record; none where nothing was to be retrieved."""
        if self.left_out is None:
            return {}
        total = sum(map(len, self.sources.values()))
        counts = {
            "passages": total,
            "passages_per_prompt": round(total / max(len(self.sources), 1), 2),
            "prompts_without_passages": sum(not found for found in self.sources.values()),
            "passages_left_out": self.left_out,
        }
        return {"retrieval": counts}


def questions(
    task: Task, samples: Sequence[Sample], n: int, wording: Wording, passages: Passages | None = None
) -> Augmented:
    """What is asked about samples; only what the student may read of them reaches a prompt or a retriever.

    Raises:
        DataError: Not even the best passage of a sample fits.
    """
    blind = [sample.for_student(task.modality) for sample in samples]
    prompts = {sample.id: wording.put(task.inference_prompt(sample, n)) for sample in blind}
    return with_retrieved(prompts, blind, task.header, passages)


def with_retrieved(
    prompts: dict[str, Prompt], samples: Sequence[Sample], header: str, passages: Passages | None
) -> Augmented:
    """Prompts with what is retrieved for samples, as the student reads them; as they are without a retriever."""
    if passages is None:
        return Augmented(prompts, {sample.id: () for sample in samples}, None)
    retriever, counter, tokens = passages.retriever, passages.counter, passages.tokens
    return add_passages(prompts, samples, retriever, counter, header, tokens=tokens, reserve=passages.reserve)


def add_passages(
    prompts: Mapping[str, Prompt],
    samples: Sequence[Sample],
    retriever: Retriever,
    counter: TokenCounter,
    header: str,
    *,
    tokens: int,
    reserve: int,
) -> Augmented:
    """Puts whole passages into every prompt, best first, up to the first that does not fit.

    They add at most `tokens` to a prompt, fence included (0 = no passages), and leave `reserve` for the response.
    Neither label nor privileged field of a sample is shown to the retriever.

    Raises:
        DataError: Not even the best passage of a sample fits.
        ContractError: The retriever did not answer once per sample.
    """
    if tokens == 0:
        return Augmented(dict(prompts), {sample.id: () for sample in samples}, 0)
    found = retriever.retrieve(samples)
    if len(found) != len(samples):
        raise ContractError(f"Retriever '{retriever.name}' returned {len(found)} answers for {len(samples)} samples.")
    augmented, left_out = dict(prompts), 0
    sources: dict[str, tuple[str, ...]] = {sample.id: () for sample in samples}
    for sample, passages in zip(samples, found, strict=True):
        if not passages:
            continue
        prompt, texts = prompts[sample.id], [passage.text for passage in passages]
        left = counter.left(sample.id, prompt)
        room = tokens if left is None else min(tokens, left - reserve)
        kept = _fitting(counter, prompt, texts, header, room)
        if kept == 0:
            needed = counter.prompt(with_passages(prompt, texts[:1], header)) - counter.prompt(prompt)
            raise DataError(_too_long(sample.id, needed, room, tokens))
        augmented[sample.id] = with_passages(prompt, texts[:kept], header)
        sources[sample.id] = tuple(passage.source for passage in passages[:kept])
        left_out += len(passages) - kept
    return Augmented(augmented, sources, left_out)


def _fitting(counter: TokenCounter, prompt: Prompt, texts: Sequence[str], header: str, room: int) -> int:
    """How many of the best passages add no more tokens than there is room for."""
    most = counter.prompt(prompt) + room
    numbers = range(1, len(texts) + 1)
    return bisect_right(numbers, most, key=lambda number: counter.prompt(with_passages(prompt, texts[:number], header)))


def _too_long(sample_id: str, needed: int, room: int, tokens: int) -> str:
    if room == tokens:
        return (
            f"Sample {sample_id}: the best passage takes {needed} tokens, and retrieval.tokens is {tokens}; raise it "
            f"with --set retrieval.tokens={needed}, or choose shorter passages."
        )
    return (
        f"Sample {sample_id}: the best passage takes {needed} tokens, and prompt and response leave {max(room, 0)} of "
        "the student's context; choose a student with a longer context, shorter passages, or none with --set "
        "retrieval.tokens=0."
    )
