"""The parts of a sample that are taken away one by one: phrases of its text, or regions of its image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from mint_core.errors import ContractError, DataError
from mint_core.interfaces import Task
from mint_core.occlusion import Occluded
from mint_core.phrases import Span, without
from mint_core.types import ImageRef, Sample


class Parts(ABC):
    """What a sample is made of."""

    sample: Sample
    """The whole, as the student reads it."""

    @abstractmethod
    def __len__(self) -> int:
        """How many parts."""

    @abstractmethod
    def without(self, gone: Collection[int]) -> Sample:
        """The sample without the parts of these numbers."""

    @abstractmethod
    def place(self, number: int) -> dict[str, Any]:
        """Where a part stands, as explain.json has it; never what stands there."""


class Phrases(Parts):
    """The phrases of a text.

    Args:
        sample: With a text.
        spans: Where they stand.
    """

    def __init__(self, sample: Sample, spans: Sequence[Span]) -> None:
        self.sample, self.spans, self.text = sample, spans, sample.text or ""

    def __len__(self) -> int:
        return len(self.spans)

    def without(self, gone: Collection[int]) -> Sample:
        """See `Parts.without`."""
        return replace(self.sample, text=without(self.text, self.spans, gone))

    def place(self, number: int) -> dict[str, Any]:
        """Offsets in characters."""
        return {"start": self.spans[number].start, "stop": self.spans[number].stop}


class Regions(Parts):
    """The squares of a grid over an image.

    Args:
        sample: With an image.
        image: That image.
        grid: grid x grid squares.
    """

    def __init__(self, sample: Sample, image: ImageRef, grid: int) -> None:
        self.sample, self.image, self.grid = sample, image, grid

    def __len__(self) -> int:
        return self.grid**2

    def without(self, gone: Collection[int]) -> Sample:
        """See `Parts.without`."""
        return replace(self.sample, image=Occluded(self.image, self.grid, gone) if gone else self.image)

    def place(self, number: int) -> dict[str, Any]:
        """Row and column, from 0."""
        return {"row": number // self.grid, "column": number % self.grid}


def parts_of(task: Task, sample: Sample, grid: int) -> Parts:
    """The parts of a sample: regions of the image where the student reads one, with its text as it is; else phrases.

    Args:
        task: Says what a text's phrases are.
        sample: What the student reads of it.
        grid: For images.

    Raises:
        DataError: It has nothing that could be taken away and leave something.
        ContractError: The task's phrases are not in order, or overlap.
    """
    if "image" in task.modality:
        if sample.image is None:
            raise DataError(f"Sample {sample.id} has no image; leave it out.")
        return Regions(sample, sample.image, grid)
    spans = [Span(*span) for span in task.phrases(sample)]
    bounds = [place for span in spans for place in span]
    whole = len(sample.text or "")
    if bounds != sorted(bounds) or any(start >= stop for start, stop in spans) or (bounds and bounds[-1] > whole):
        raise ContractError(
            f"The task '{task.name}' named phrases of sample {sample.id} that overlap, are empty or lie outside of its "
            "text; tell the plugin's authors."
        )
    if len(spans) < 2:
        raise DataError(
            f"Sample {sample.id} has {'one phrase' if spans else 'no phrase'}, and without it nothing would be left to "
            "compare with; give a text of two or more phrases."
        )
    return Phrases(sample, spans)
