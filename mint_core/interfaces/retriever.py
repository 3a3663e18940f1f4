"""Seam 5: finds passages that are put into the prompt of any student, aligned or not."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from mint_core.interfaces.component import Component, ComponentConfig
from mint_core.types import Channel, Sample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Passage:
    """One retrieved text."""

    source: str
    """Where it comes from, for the run record: an id of the knowledge base, never a word of a patient."""
    text: str = field(repr=False)
    label: str | None = None
    """The label of the label space that it tells of, by its canonical name; None where it tells of none of them."""
    score: float = 0.0
    """How well it fits the sample; larger is better, on the retriever's own scale."""


class Retriever(Component[ComponentConfig]):
    """Sample -> passages. RAG = base student + retriever; hybrid = aligned student + retriever.

    Clauses:
        1. `retrieve` returns one sequence of passages per sample, in order; it may be empty.
        2. It never reads `sample.label` or `sample.privileged`: the result is the same when they are taken away.
        3. `label_scores` is None, or has one row per sample and one column per label, without NaN.
        4. A passage's label is in the label space, or None.
    """

    kind = "retriever"
    reads: ClassVar[tuple[Channel, ...]] = ()
    """What it searches by and cannot do without: a task whose student reads something else is refused."""

    def build(self) -> None:
        """Prepares the index from `self.labels`, in `self.context.cache`. Called once before anything is retrieved."""

    @abstractmethod
    def retrieve(self, samples: Sequence[Sample]) -> list[tuple[Passage, ...]]:
        """The passages of every sample, best first.

        Args:
            samples: What `Sample.for_student` leaves.
        """

    def label_scores(self, samples: Sequence[Sample]) -> NDArray[np.float32] | None:
        """How well every label fits every sample, shape (n_samples, n_labels); larger is better, -inf = not known.

        None where the retriever ranks no labels.

        Args:
            samples: What `Sample.for_student` leaves.
        """
        return None

    def describe(self) -> dict[str, Any]:
        """Facts for the run record, after `build`: how much it knows, from which release, what it left out."""
        return {}

    @classmethod
    def fingerprint(cls, config: Any) -> str:
        """What identifies the knowledge behind a config, so that another release runs the stage again. Quick.

        Files that the config names by a `Path` count by their content anyway.

        Args:
            config: A validated `Config`.
        """
        return ""
