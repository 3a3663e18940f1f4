"""What the aligners share that train a LoRA adapter with mint's engine: a method is a loss, and what it reads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mint_core.aligners.settings import SMALL_DATA_WARMUP, TrainingConfig, TrainingSettings, settle
from mint_core.interfaces import AdapterShape, Aligner, AlignmentJob, AlignmentResult, TrainingPhase
from mint_core.students.adapter import check_start

if TYPE_CHECKING:
    from torch import Tensor

    from mint_core.aligners.batches import GroupLogProbs
    from mint_core.aligners.trainer import GroupLoss


class LoraAligner(Aligner):
    """An aligner on mint's engine; `name`, `Config` (a TrainingConfig) and `group_loss` make one.

    A method that reads less than everything, or has several phases, says so in `phases`.
    """

    Config: ClassVar[type[Any]] = TrainingConfig
    config: TrainingConfig

    @abstractmethod
    def group_loss(self, group: GroupLogProbs) -> dict[str, Tensor]:
        """The loss of one group under `loss`, beside what else the training history shall show; all scalars."""

    def align(self, job: AlignmentJob) -> AlignmentResult:
        """Trains and saves the adapter."""
        from mint_core.aligners.trainer import train

        return train(job, self)

    def check(self, job: AlignmentJob) -> None:
        """Refuses groups that cannot be trained on, a GPU that is not the first, and an adapter of another student."""
        from mint_core.aligners.batches import check_groups
        from mint_core.aligners.trainer import check_device

        check_groups(job.groups, rejected=any(phase.rejected for phase in self.phases(0)))
        check_device(job.student)
        if self.start is not None:
            check_start(job.student.model, self.start)

    def check_installed(self) -> None:
        """Refuses trackers that are unknown or not installed."""
        if self.config.report_to:
            from mint_core.aligners.trackers import check

            check(self.config.report_to)

    def trackers(self) -> tuple[str, ...]:
        """The option `report_to`."""
        return self.config.report_to

    def publish(self, figures: Mapping[str, float], logs: Path, step: int) -> None:
        """Sends the figures where the last phase was tracked."""
        if self.config.report_to:
            from mint_core.aligners.trackers import send

            send(self.config.report_to, logs / self.phases(0)[-1].name, figures, step)

    def phases(self, parameters: int) -> tuple[TrainingPhase, ...]:
        """One phase that reads all responses, and not the likelihood of the prompt."""
        return (self.phase(self.name),)

    def phase(self, name: str, **other: Any) -> TrainingPhase:
        """A phase with what the config and its preset say, and `other` fields of TrainingPhase in which it differs."""
        config = self.config
        settings = settle(config, parameters=0)  # the student's size decides the LoRA rank only
        usual = TrainingPhase(
            name,
            epochs=settings.epochs,
            batch_size=config.batch_size,
            accumulation=config.accumulation,
            warmup=settings.warmup,
            warmup_share=SMALL_DATA_WARMUP if config.warmup is None else None,
            layout="shared" if config.share_prompt and not other.get("reads_prompt") else "distinct",
            token_budget=config.token_budget,
            gradient_checkpointing=config.gradient_checkpointing,
        )
        return replace(usual, **other)

    def shape(self, parameters: int) -> AdapterShape:
        """Rank, alpha and targets of the config and its preset."""
        settings, config = self.settings(parameters), self.config
        return AdapterShape(
            settings.lora_rank, settings.lora_alpha, settings.lora_targets, config.lora_dropout, config.lora_vision
        )

    def shortened(self, epochs: float) -> Self:
        """The same with so many epochs."""
        return self.changed(
            epochs=epochs, warmup=0.0, report_to=(), validate_samples=0, save_steps=10**9, save_minutes=None
        )

    def changed(self, **options: Any) -> Self:
        """The same with other options."""
        return type(self)(self.config.model_copy(update=options), self.context)

    def settings(self, parameters: int) -> TrainingSettings:
        """The config with its preset filled in for a student of so many parameters, as the last phase is trained."""
        return settle(self.config, parameters)

    def phase_settings(self, phase: TrainingPhase, settings: TrainingSettings) -> TrainingSettings:
        """The settings of one phase, from those of the last."""
        return replace(settings, epochs=phase.epochs)

    def phase_loss(self, phase: TrainingPhase) -> GroupLoss:
        """The loss of one phase."""
        return self.group_loss

    def phase_folder(self, phase: TrainingPhase) -> str:
        """Name of the folder of a phase's checkpoints, which no other phase may share."""
        return ""

    @property
    def start(self) -> Path | None:
        """Folder of the adapter that training begins from; None = a fresh one."""
        return None

    def record(self, settings: TrainingSettings) -> dict[str, Any]:
        """All hyperparameters, for the run record, from the settings of the last phase."""
        return {**self.config.model_dump(mode="json"), **asdict(settings)}
