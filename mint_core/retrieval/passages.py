"""Puts retrieved passages into prompts, as many as the token budget and the student's context hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from mint_core.errors import ContractError, DataError
from mint_core.students.encoding import context_length, encode_prompt
from mint_core.students.prompts import fence_passages, passage_line, with_passages
from mint_core.types import Prompt, Sample

if TYPE_CHECKING:
    from mint_core.interfaces import Passage, Retriever
    from mint_core.students.student import Student


@dataclass(frozen=True, slots=True)
class Augmented:
    """Prompts with what was retrieved for them."""

    prompts: dict[str, Prompt]
    """By sample id."""
    sources: dict[str, tuple[str, ...]]
    """Where the passages of a prompt come from, best first, by sample id."""
    left_out: int
    """Passages that were retrieved and did not fit."""

    def facts(self) -> dict[str, Any]:
        """Counts for the run record."""
        total = sum(map(len, self.sources.values()))
        return {
            "passages": total,
            "passages_per_prompt": round(total / max(len(self.sources), 1), 2),
            "prompts_without_passages": sum(not found for found in self.sources.values()),
            "passages_left_out": self.left_out,
        }


def add_passages(
    prompts: Mapping[str, Prompt],
    samples: Sequence[Sample],
    retriever: Retriever,
    student: Student,
    header: str,
    *,
    tokens: int,
    reserve: int,
) -> Augmented:
    """Puts whole passages into every prompt, best first, up to the first that does not fit.

    Args:
        prompts: Prompt per sample id.
        samples: What is retrieved for; neither label nor privileged field is shown to the retriever.
        retriever: After `build`.
        student: Its tokenizer counts, and its context bounds prompt and response.
        header: First line of a response.
        tokens: Most tokens that the passages of one prompt take, fence included; 0 = no passages.
        reserve: Tokens that are kept for the response.

    Raises:
        DataError: Not even the best passage of a sample fits.
        ContractError: The retriever did not answer once per sample.
    """
    if tokens == 0:
        return Augmented(dict(prompts), {sample.id: () for sample in samples}, 0)
    found = retriever.retrieve(samples)
    if len(found) != len(samples):
        raise ContractError(f"Retriever '{retriever.name}' returned {len(found)} answers for {len(samples)} samples.")
    count = _counter(student)
    augmented, sources, left_out = dict(prompts), {}, 0
    for sample, passages in zip(samples, found, strict=True):
        room = _room(student, sample.id, prompts[sample.id], tokens, reserve) if passages else 0
        kept = _fitting(passages, header, count, room)
        if passages and not kept:
            needed = count(fence_passages([passages[0].text], header))
            raise DataError(_too_long(sample.id, needed, room, tokens))
        augmented[sample.id] = with_passages(prompts[sample.id], [passage.text for passage in kept], header)
        sources[sample.id] = tuple(passage.source for passage in kept)
        left_out += len(passages) - len(kept)
    return Augmented(augmented, sources, left_out)


def _counter(student: Student) -> Callable[[str], int]:
    """Counts tokens; passages recur from sample to sample."""
    return cache(lambda text: len(student.tokenizer(text, add_special_tokens=False)["input_ids"]))


def _room(student: Student, sample_id: str, prompt: Prompt, tokens: int, reserve: int) -> int:
    """Tokens that passages may take: the budget, or what prompt and response leave of the student's context."""
    limit = context_length(student)
    if limit is None:
        return tokens
    return min(tokens, limit - reserve - encode_prompt(student, sample_id, prompt).length)


def _fitting(passages: Sequence[Passage], header: str, count: Callable[[str], int], room: int) -> Sequence[Passage]:
    """The best passages, up to the first that does not fit."""
    taken = count(fence_passages((), header))
    for position, passage in enumerate(passages):
        taken += count(passage_line(position + 1, passage.text, header) + "\n")
        if taken > room:
            return passages[:position]
    return passages


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
