"""Seam 5: finds passages that are put into the prompt of any student, aligned or not."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from mint_core.interfaces.component import Component, ComponentConfig
from mint_core.types import LabelSpace, Sample


@dataclass(frozen=True, slots=True)
class Passage:
    """One retrieved text."""

    source: str
    """Where it comes from, for the run record."""
    text: str = field(repr=False)


class Retriever(Component[ComponentConfig]):
    """Sample -> passages. RAG = base student + retriever; hybrid = aligned student + retriever.

    Clauses (checked by `mint_core.testing.RETRIEVER_CHECKS`):
        1. `retrieve` returns one sequence of passages per sample, in order; it may be empty.
        2. It never reads `sample.label`: the result is the same when the label is taken away.
    """

    kind = "retriever"

    def build(self, labels: LabelSpace) -> None:
        """Prepares the index. Called once before `retrieve`."""

    @abstractmethod
    def retrieve(self, samples: Sequence[Sample]) -> list[tuple[Passage, ...]]:
        """The passages of every sample, best first."""
