"""Seam 4: aligns a student on preference groups."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mint_core.interfaces.component import Component, ComponentConfig
from mint_core.types import PreferenceGroup, Prompt

if TYPE_CHECKING:
    from mint_core.interfaces import Student


@dataclass(frozen=True, slots=True)
class AlignmentJob:
    """What an aligner is given."""

    student: Student
    groups: Sequence[PreferenceGroup]
    prompts: Mapping[str, Prompt]
    """The training prompt of every sample id that occurs in the groups."""
    header: str
    """First line of every response."""
    seed: int
    work: Path
    """Checkpoints go here; a run that was interrupted finds them again."""
    adapter: Path
    """Where the adapter is saved: plain PEFT layout, safetensors."""
    advance: Callable[[int, int, Mapping[str, float]], None]
    """Call it with step, total steps and the latest figures."""


@dataclass(frozen=True, slots=True)
class AlignmentResult:
    """What a run record says of the training."""

    steps: int
    final_loss: float
    history: tuple[Mapping[str, float], ...]
    settings: Mapping[str, Any]
    """All hyperparameters after presets were resolved."""


class Aligner(Component[ComponentConfig]):
    """Trains an adapter on preference groups.

    Clauses:
        1. `align` writes `adapter_config.json` and `adapter_model.safetensors` into `job.adapter`, and no pickle.
        2. A loss or a gradient that is not finite raises TrainingError with the sample ids, and nothing is saved.
        3. An empty response raises DataError.
    """

    kind = "aligner"

    @abstractmethod
    def align(self, job: AlignmentJob) -> AlignmentResult:
        """Trains and saves the adapter.

        Raises:
            TrainingError: The loss or a gradient is not finite.
        """
