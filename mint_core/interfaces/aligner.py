"""Seam 4: aligns a student on preference groups."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from mint_core.errors import ConfigError
from mint_core.interfaces.component import Component, ComponentConfig
from mint_core.types import PreferenceGroup, Prompt

if TYPE_CHECKING:
    from mint_core.interfaces import Student

Layout = Literal["shared", "distinct", "expanded"]
"""Rows of a group: its prompt once with all responses behind it, one row per response, or two per pair."""


def _silent(sentence: str) -> None:
    """Nobody listens."""


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
    cache: Path | None = None
    """A folder that lives longer than the run; what lies there is named by content. None = nothing is kept."""
    logs: Path | None = None
    """A folder for the files of trackers, which stays when the training is over; None = nothing is tracked."""
    validate: Callable[[Any, int], Mapping[str, float]] | None = None
    """Call it with the student as it is in training, put into evaluation mode, and a number of samples: so many that
    the run does not report are answered, and means of metrics come back by key. What it does to random numbers the
    caller undoes. None = there is nothing to ask."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """How people call the metrics of `validate`, by key."""
    tell: Callable[[str], None] = _silent
    """Call it with a sentence for the person who waits, which stands in the run's log too; never patients' text."""


@dataclass(frozen=True, slots=True)
class AlignmentResult:
    """What a run record says of the training."""

    steps: int
    final_loss: float
    history: tuple[Mapping[str, float], ...]
    settings: Mapping[str, Any]
    """All hyperparameters after presets were resolved."""
    validation: tuple[Mapping[str, float], ...] = ()
    """What `AlignmentJob.validate` said: `step`, `epoch`, and means by key; empty where it was not asked."""


@dataclass(frozen=True, slots=True)
class TrainingPhase:
    """One pass of training over the preference groups, with a learning rate schedule of its own."""

    name: str
    epochs: float
    batch_size: int
    """Groups per device and batch; pairs where the layout is `expanded`."""
    accumulation: int = 1
    """Batches per optimiser step."""
    warmup: float = 0.0
    """Steps from 1 on, share of all steps below 1."""
    warmup_share: float | None = None
    """Share of all steps that takes the place of so many `warmup` steps where they are more than half of the phase, for
    steps that nobody asked for; None = they stay, and are refused where they are as long as the phase."""
    rejected: bool = True
    """Whether the loss reads the rejected responses."""
    reads_prompt: bool = False
    """Whether the loss reads the likelihood of the prompt."""
    reads_reference: bool = False
    """Whether the loss compares with the student as it stands when the phase begins."""
    layout: Layout = "shared"
    token_budget: int | None = None
    """Most tokens of one forward pass; None = no limit."""
    gradient_checkpointing: bool = False

    @property
    def per_step(self) -> int:
        """Groups, or pairs, of one optimiser step in each process."""
        return self.batch_size * self.accumulation

    def units(self, groups: Sequence[PreferenceGroup]) -> int:
        """What an epoch consists of: the groups, or their pairs where the layout is `expanded`."""
        if self.layout != "expanded":
            return len(groups)
        return sum(len(group.chosen) * (len(group.rejected) if self.rejected else 1) for group in groups)

    def steps(self, units: int, processes: int = 1) -> int:
        """Optimiser steps for so many `units`, where so many processes share a step."""
        batches = math.ceil(units / (self.batch_size * processes))
        return math.ceil(math.ceil(batches / self.accumulation) * self.epochs)

    def warmup_steps(self, steps: int) -> int:
        """Warm-up in steps.

        Raises:
            ConfigError: It is as long as the phase, so that the learning rate would never be reached.
        """
        if self.warmup < 1 or self.shortens_warmup(steps):
            share = self.warmup if self.warmup < 1 else cast(float, self.warmup_share)
            return min(math.ceil(share * steps), steps - 1)
        if int(self.warmup) >= steps:
            raise ConfigError(
                f"The warm-up of {int(self.warmup)} steps is as long as the training ({steps} steps); "
                "set a share instead, for example --set aligner.warmup=0.1."
            )
        return int(self.warmup)

    def shortens_warmup(self, steps: int) -> bool:
        """Whether `warmup_share` takes the place of `warmup` in a phase of so many steps."""
        return self.warmup_share is not None and 2 * int(self.warmup) > steps


@dataclass(frozen=True, slots=True)
class AdapterShape:
    """The LoRA adapter that is trained."""

    rank: int
    alpha: float
    targets: Literal["attention", "all-linear"]
    """Query, key, value and output projections, or every linear layer."""
    dropout: float = 0.0
    vision: bool = False
    """Whether the vision tower and the projector are adapted too."""


class Aligner(Component[ComponentConfig]):
    """Trains an adapter on preference groups.

    `align` is all that a run and a comparison need. What an aligner says beside it lets `mint plan` and the checks
    before the first stage know what it will do, and lets a comparison train a common first phase once.

    Clauses:
        1. `align` writes `adapter_config.json` and `adapter_model.safetensors` into `job.adapter`, and no pickle.
        2. A loss or a gradient that is not finite raises TrainingError, and nothing is saved.
        3. An empty response raises DataError.
        4. Where `phases` says anything, `job.advance` counts the steps of these phases, one after the other.
    """

    kind = "aligner"

    @abstractmethod
    def align(self, job: AlignmentJob) -> AlignmentResult:
        """Trains and saves the adapter.

        Raises:
            TrainingError: The loss or a gradient is not finite; the message names the samples where they are known.
        """

    def check(self, job: AlignmentJob) -> None:
        """Refuses what it cannot train. `mint plan` calls it, and `align` should before it computes anything.

        Args:
            job: Its student may be without weights.

        Raises:
            MintError: It cannot; the message says why.
        """

    def check_installed(self) -> None:
        """Refuses what the config asks for and this machine lacks; called before the first stage.

        Raises:
            ConfigError: Something is missing; the message says how to install it.
        """

    def trackers(self) -> tuple[str, ...]:
        """The trackers that are sent figures and settings, by name; the report says so."""
        return ()

    def publish(self, figures: Mapping[str, float], logs: Path, step: int) -> None:
        """Sends the evaluation's figures to the trackers that the config names.

        Args:
            figures: By name, which begins with `eval_`.
            logs: `AlignmentJob.logs` of the training.
            step: All steps of the training.
        """

    def phases(self, parameters: int) -> tuple[TrainingPhase, ...]:
        """What it will train, in order; none = it does not say, and then `mint plan` cannot plan it.

        Args:
            parameters: Size of the student; 0 where it is not known yet. Nothing may be read or loaded for the answer.
        """
        return ()

    def shape(self, parameters: int) -> AdapterShape | None:
        """The adapter that it will train; None = it does not say, and the plan leaves its memory out.

        Raises:
            MintError: The config names an adapter to begin from that cannot be read, or that has another shape.
        """
        return None

    def shortened(self, epochs: float) -> Aligner | None:
        """The same with so many epochs in every phase, and without warm-up, checkpoints or trackers.

        `mint plan --probe` trains it for a few steps and throws the result away. None = it cannot be shortened.
        """
        return None

    def start_option(self, other: Aligner) -> str | None:
        """The option that takes the adapter of a run of another aligner, where that adapter stands for a first phase.

        In a comparison the row then begins from that run instead of training the phase once more. The two runs have
        data, labels, preferences, prompts, student and seed in common.

        Args:
            other: Another aligner, with its config.

        Returns:
            The option's name; None where it begins from no adapter of the other.
        """
        return None
