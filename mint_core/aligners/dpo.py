"""The aligner `dpo`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from mint_core import processes
from mint_core.aligners.settings import PRESETS, TrainingConfig, TrainingSettings, settle
from mint_core.aligners.sft import sft_group_loss
from mint_core.errors import ConfigError
from mint_core.files import digest_of_path
from mint_core.interfaces import Aligner, AlignmentJob, AlignmentResult

if TYPE_CHECKING:
    from torch import Tensor

    from mint_core.aligners.batches import GroupLogProbs


class DpoConfig(TrainingConfig):
    """Options of `dpo`; `epochs` and `learning_rate` are those of the DPO phase."""

    beta: float | None = Field(None, gt=0, description="How far the student may move from the reference; null = 0.1.")
    sft_epochs: float | None = Field(None, gt=0, description="Epochs of the SFT phase before DPO; null = 5.")
    sft_learning_rate: float | None = Field(
        None, gt=0, description="Peak learning rate of the SFT phase; null = that of the DPO phase."
    )
    sft_adapter: Path | None = Field(
        None, description="Begin from the adapter of an `sft` run instead of training one: its adapter/ folder."
    )

    def phase_epochs(self) -> tuple[float, ...]:
        """Epochs of the SFT phase, where there is one, and of the DPO phase."""
        preset = PRESETS[self.preset]
        own = settle(self, parameters=0, epochs=preset.dpo_epochs).epochs
        return (own,) if self.sft_adapter else (self.sft_epochs or preset.dpo_sft_epochs, own)

    def phase_rejected(self) -> tuple[bool, ...]:
        """The SFT phase reads the chosen responses only."""
        return (True,) if self.sft_adapter else (False, True)


class Dpo(Aligner):
    """SFT first, then DPO with the SFT model as frozen reference, on the same LoRA adapter.

    L = -log sigmoid(b * log(p(y_w) / p_ref(y_w)) - b * log(p(y_l) / p_ref(y_l))), with sums over the response tokens
    and the mean over all k' x q' pairs of a group, weighted where the group carries weights. The reference's
    log-probabilities are computed once per distinct response of a prompt. Source: Rafailov et al. 2023, equation 7;
    MINT, section "Align".
    """

    name = "dpo"
    Config = DpoConfig
    config: DpoConfig

    def align(self, job: AlignmentJob) -> AlignmentResult:
        """Trains and saves the adapter."""
        if self.config.engine == "trl":
            return self._align_by_trl(job)
        from mint_core.aligners.batches import check_groups, check_lengths
        from mint_core.aligners.reference import reference_log_probs
        from mint_core.aligners.trainer import adapted_layers, count_parameters, fit, plan, save

        check_groups(job.groups)
        check_lengths(job)
        settings = self.settings(count_parameters(job.student))
        # The checkpoints of a training that began elsewhere are never taken for this one's.
        work = job.work / f"dpo{self.sft_adapter_digest or ''}"
        dpo = plan(job, self.config, settings, self.group_loss, work)
        sft = None
        if self.config.sft_adapter is None:
            first = self.sft_settings(settings)
            sft = plan(job, self.config, first, sft_group_loss, job.work / "sft", rejected=False)
        before = sft.steps if sft else 0
        total = before + dpo.steps
        model = self._begin(job, settings)
        history = fit(job, model, sft, total=total).history if sft else ()
        reference = reference_log_probs(
            job,
            model,
            self.config.batch_size,
            share_prompt=self.config.share_prompt,
            budget=self.config.token_budget,
        )
        done = fit(job, model, dpo, references=reference.log_probs, before=before, total=total)
        save(model, job.adapter)
        return AlignmentResult(
            steps=before + done.steps,
            final_loss=done.history[-1]["loss"],
            history=(*history, *done.history),
            settings={
                **self.record(settings),
                "sft_steps": before,
                "reference": reference.digest,
                "reference_responses": len(reference.log_probs),
                "processes": processes.count(),
                "trainable_layers": adapted_layers(model),
            },
        )

    @property
    def sft_adapter_digest(self) -> str | None:
        """What names the weights that training begins from; None where it trains them itself."""
        adapter = self.config.sft_adapter
        return None if adapter is None else digest_of_path(adapter / "adapter_model.safetensors")

    @property
    def beta(self) -> float:
        """The option, or what the preset says."""
        return PRESETS[self.config.preset].dpo_beta if self.config.beta is None else self.config.beta

    def settings(self, parameters: int) -> TrainingSettings:
        """Hyperparameters of the DPO phase.

        Args:
            parameters: Size of the student.

        Raises:
            ModelError: `sft_adapter` holds no adapter.
            ConfigError: The config asks for another shape than that of `sft_adapter`.
        """
        settings = settle(self.config, parameters, PRESETS[self.config.preset].dpo_epochs)
        adapter = self.config.sft_adapter
        return settings if adapter is None else _shaped(settings, self.config, adapter)

    def sft_settings(self, settings: TrainingSettings) -> TrainingSettings:
        """Hyperparameters of the SFT phase.

        Args:
            settings: Those of the DPO phase.
        """
        epochs = self.config.sft_epochs or PRESETS[self.config.preset].dpo_sft_epochs
        return replace(settings, epochs=epochs, learning_rate=self.config.sft_learning_rate or settings.learning_rate)

    def record(self, settings: TrainingSettings) -> dict[str, Any]:
        """All hyperparameters of both phases.

        Args:
            settings: Those of the DPO phase.
        """
        own = self.sft_settings(settings) if self.config.sft_adapter is None else None
        return {
            **self.config.model_dump(mode="json"),
            **asdict(settings),
            "lora_targets": settings.lora_targets if own else "as sft_adapter",
            "beta": self.beta,
            "sft_epochs": own.epochs if own else None,
            "sft_learning_rate": own.learning_rate if own else None,
            "sft_adapter_digest": self.sft_adapter_digest,
        }

    def group_loss(self, group: GroupLogProbs) -> dict[str, Tensor]:
        """The loss of one group, and what shows whether the chosen responses rise or everything falls."""
        from mint_core.aligners.losses import dpo_loss, set_mean

        parts = dpo_loss(
            group.chosen.total[:, None],
            group.rejected.total[None, :],
            group.chosen_reference[:, None],
            group.rejected_reference[None, :],
            self.beta,
        )
        w, v = group.chosen_weights, group.rejected_weights
        gap = (parts.chosen_reward - parts.rejected_reward).detach()  # (k', q')
        return {
            "loss": set_mean(parts.loss, w, v),
            "nll": (w @ -group.chosen.average).detach(),
            "margin": set_mean(gap, w, v),
            "accuracy": set_mean((gap > 0).float(), w, v),
            "chosen_reward": (w @ parts.chosen_reward.squeeze(1)).detach(),
            "rejected_reward": (parts.rejected_reward.squeeze(0) @ v).detach(),
        }

    def _align_by_trl(self, job: AlignmentJob) -> AlignmentResult:
        """Both phases by TRL's trainers; its DPO computes the reference anew in every step, and without dropout."""
        from mint_core.aligners.trainer import adapted_layers, count_parameters, save
        from mint_core.aligners.trl_engine import DPO, SFT, fit_trl, plan_trl, trl_record

        settings = self.settings(count_parameters(job.student))
        work = job.work / f"dpo{self.sft_adapter_digest or ''}"
        dpo = plan_trl(job, self.config, settings, DPO, work=work, options={"beta": self.beta})
        sft = None
        if self.config.sft_adapter is None:
            first = self.sft_settings(settings)
            sft = plan_trl(job, self.config, first, SFT, work=job.work / "sft", options={})
        before = sft.steps if sft else 0
        total = before + dpo.steps
        model = self._begin(job, settings)
        history = fit_trl(model, sft, total=total).history if sft else ()
        done = fit_trl(model, dpo, before=before, total=total)
        save(model, job.adapter)
        return AlignmentResult(
            steps=before + done.steps,
            final_loss=done.history[-1]["loss"],
            history=(*history, *done.history),
            settings={
                **self.record(settings),
                **trl_record(dpo),
                "sft_steps": before,
                "dpo_dropout": 0.0,
                "trainable_layers": adapted_layers(model),
            },
        )

    def _begin(self, job: AlignmentJob, settings: TrainingSettings) -> Any:
        """The student with a fresh adapter, or with that of an earlier `sft` run."""
        from mint_core.aligners.trainer import fresh_adapter
        from mint_core.students.adapter import continue_adapter

        if self.config.sft_adapter is None:
            return fresh_adapter(job, self.config, settings)
        return continue_adapter(job.student.model, self.config.sft_adapter, self.config.lora_dropout)


def _shaped(settings: TrainingSettings, config: DpoConfig, adapter: Path) -> TrainingSettings:
    """The settings with the shape of the adapter that training begins from."""
    from mint_core.students.adapter import adapter_config

    found = adapter_config(adapter)
    for name, asked, value in (
        ("lora_rank", config.lora_rank, found.r),
        ("lora_alpha", config.lora_alpha, found.lora_alpha),
    ):
        if asked is not None and asked != value:
            raise ConfigError(f"aligner.{name} is {asked:g}, but the adapter in {adapter} has {value:g}; leave it out.")
    return replace(settings, lora_rank=found.r, lora_alpha=float(found.lora_alpha))
