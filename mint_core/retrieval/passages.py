"""Puts retrieved passages into prompts, as many as the token budget and the student's context hold."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mint_core.errors import ContractError, DataError
from mint_core.interfaces import Retriever
from mint_core.students.encoding import TokenCounter
from mint_core.students.prompts import with_passages
from mint_core.types import Prompt, Sample


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

    Args:
        prompts: Prompt per sample id.
        samples: What is retrieved for; neither label nor privileged field is shown to the retriever.
        retriever: After `build`.
        counter: Counts as the model does that will read them.
        header: First line of a response.
        tokens: Most tokens that passages add to a prompt, fence included; 0 = no passages.
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
    augmented, left_out = dict(prompts), 0
    sources: dict[str, tuple[str, ...]] = {sample.id: () for sample in samples}
    for sample, passages in zip(samples, found, strict=True):
        if not passages:
            continue
        prompt, texts = prompts[sample.id], [passage.text for passage in passages]
        room = _room(counter, sample.id, prompt, tokens, reserve)
        kept = _fitting(counter, prompt, texts, header, room)
        if kept == 0:
            needed = counter.prompt(with_passages(prompt, texts[:1], header)) - counter.prompt(prompt)
            raise DataError(_too_long(sample.id, needed, room, tokens))
        augmented[sample.id] = with_passages(prompt, texts[:kept], header)
        sources[sample.id] = tuple(passage.source for passage in passages[:kept])
        left_out += len(passages) - kept
    return Augmented(augmented, sources, left_out)


def _room(counter: TokenCounter, sample_id: str, prompt: Prompt, tokens: int, reserve: int) -> int:
    """Tokens that passages may add: the budget, or what prompt and response leave of the model's context."""
    left = counter.left(sample_id, prompt)
    return tokens if left is None else min(tokens, left - reserve)


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
