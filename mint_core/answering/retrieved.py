"""What a retriever does for new samples: passages in their prompts, and its ranking beside the student's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from mint_core.answering.fused import Fusion
from mint_core.answering.predict import Answered, Careful
from mint_core.errors import DataError
from mint_core.interfaces import Retriever, Unreadable
from mint_core.types import Prediction, Prompt, Sample

if TYPE_CHECKING:
    from mint_core.interfaces import Student


@dataclass(frozen=True, slots=True)
class _Asked:
    """A prompt, and where its passages come from."""

    prompt: Prompt
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How passages come into a prompt (`mint_core.retrieval.passages.add_passages`), and rankings together."""

    retriever: Retriever
    """After `build`."""
    student: Student
    header: str
    tokens: int
    reserve: int
    fusion: Fusion | None = None

    def answers(
        self, samples: Sequence[Sample], prompts: Mapping[str, Prompt], answer: Careful, batch_size: int
    ) -> Iterator[Answered]:
        """Answers with passages, batch by batch; predictions say where their passages come from.

        Args:
            samples: What the student reads of them.
            prompts: Prompt per sample id.
            answer: Answers prompts.
            batch_size: Samples that are retrieved for at a time.
        """
        for start in range(0, len(samples), batch_size):
            batch = samples[start : start + batch_size]
            found = self._found(batch, prompts)
            answered = answer({key: one.prompt for key, one in found.items() if not isinstance(one, Unreadable)})
            got = {key: one if isinstance(one, Unreadable) else next(answered) for key, one in found.items()}
            if self.fusion is not None:
                got |= self._fused([sample for sample in batch if isinstance(got[sample.id], Prediction)], got)
            for key, one in got.items():
                asked = found[key]
                if isinstance(one, Prediction) and isinstance(asked, _Asked):
                    yield replace(one, passages=asked.sources)
                else:
                    yield one

    def _found(self, batch: Sequence[Sample], prompts: Mapping[str, Prompt]) -> dict[str, _Asked | Unreadable]:
        """Per sample its prompt with passages, or why there is none."""
        try:
            return {**self._add(batch, prompts)}
        except DataError:
            found: dict[str, _Asked | Unreadable] = {}
            for sample in batch:
                try:
                    found |= self._add([sample], prompts)
                except DataError as error:
                    found[sample.id] = Unreadable(sample.id, str(error))
            return found

    def _fused(self, samples: Sequence[Sample], got: Mapping[str, Answered]) -> dict[str, Answered]:
        """The answers combined with the retriever's ranking; one by one where it cannot rank one of the samples."""
        fusion = cast(Fusion, self.fusion)
        if not samples:
            return {}
        try:
            own = [cast(Prediction, got[sample.id]) for sample in samples]
            return {one.sample_id: one for one in fusion.combined(samples, own)}
        except DataError as error:
            if len(samples) == 1:
                return {samples[0].id: Unreadable(samples[0].id, str(error))}
            return {key: one for sample in samples for key, one in self._fused([sample], got).items()}

    def _add(self, samples: Sequence[Sample], prompts: Mapping[str, Prompt]) -> dict[str, _Asked]:
        from mint_core.retrieval.passages import add_passages

        own = {sample.id: prompts[sample.id] for sample in samples}
        added = add_passages(
            own, samples, self.retriever, self.student, self.header, tokens=self.tokens, reserve=self.reserve
        )
        return {key: _Asked(prompt, added.sources[key]) for key, prompt in added.prompts.items()}
