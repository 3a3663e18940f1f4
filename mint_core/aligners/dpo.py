"""The aligners `dpo` and `mult-dpo`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field

from mint_core.aligners.base import LoraAligner
from mint_core.aligners.settings import PRESETS, TrainingConfig, TrainingSettings, settle
from mint_core.aligners.sft import SFT, Sft, SftConfig, sft_group_loss
from mint_core.errors import ConfigError
from mint_core.files import digest_of_path
from mint_core.interfaces import Aligner, TrainingPhase
from mint_core.students.adapter import adapter_config

if TYPE_CHECKING:
    from torch import Tensor

    from mint_core.aligners.batches import GroupLogProbs
    from mint_core.aligners.trainer import GroupLoss

_FREE = TrainingConfig.neutral | {"warmup", "log_steps", "share_prompt"}
"""Options in which a run of `sft` may differ from the phase that it stands for."""


class DpoConfig(TrainingConfig):
    """Options of `dpo`; `epochs` and `learning_rate` are those of the DPO phase."""

    beta: float | None = Field(
        None, gt=0, le=1e6, description="How far the student may move from the reference; null = 0.1."
    )
    sft_epochs: float | None = Field(
        None, gt=0, le=100_000, description="Epochs of the SFT phase before DPO; null = 5."
    )
    sft_learning_rate: float | None = Field(
        None, gt=0, le=10, description="Peak learning rate of the SFT phase; null = that of the DPO phase."
    )
    sft_adapter: Path | None = Field(
        None, description="Begin from the adapter of an `sft` run instead of training one: its adapter/ folder."
    )


class Dpo(LoraAligner):
    """SFT first, then DPO with the SFT model as frozen reference, on the same LoRA adapter.

    L = -log sigmoid(b * log(p(y_w) / p_ref(y_w)) - b * log(p(y_l) / p_ref(y_l))), with sums over the response tokens
    and the mean over all k' x q' pairs of a group, weighted where the group carries weights. The reference's
    log-probabilities are computed once per distinct response of a prompt. Source: Rafailov et al. 2023, equation 7;
    MINT, section "Align".
    """

    name = "dpo"
    Config = DpoConfig
    config: DpoConfig
    first: ClassVar[type[LoraAligner]] = Sft
    """The aligner that the first phase is."""

    def phases(self, parameters: int) -> tuple[TrainingPhase, ...]:
        """SFT on the chosen responses, unless an adapter stands for it, then DPO."""
        preset = PRESETS[self.config.preset]
        own = settle(self.config, 0, preset.dpo_epochs).epochs
        dpo = self.phase("dpo", epochs=own, reads_reference=True)
        if self.config.sft_adapter is not None:
            return (dpo,)
        sft_epochs = self.config.sft_epochs or preset.dpo_sft_epochs
        return self.phase(SFT, epochs=sft_epochs, rejected=False), dpo

    def start_option(self, other: Aligner) -> str | None:
        """`sft_adapter`, where the other is an SFT run that trains what this one's first phase would.

        `sft_epochs: 20` asks for another phase than a run of `sft` with 8 epochs; `sft_epochs: null` asks for none.
        """
        if type(other) is not self.first or self.config.sft_adapter is not None:
            return None
        own = {"epochs": self.config.sft_epochs, "learning_rate": self.config.sft_learning_rate}
        for option in SftConfig.model_fields.keys() - _FREE:
            found = getattr(other.config, option)
            if option in own:
                if own[option] not in (None, found):
                    return None
            elif getattr(self.config, option) != found:
                return None
        return "sft_adapter"

    def shortened(self, epochs: float) -> Self:
        """The same with so many epochs in both phases."""
        return super().shortened(epochs).changed(sft_epochs=epochs)

    @property
    def start(self) -> Path | None:
        """The option `sft_adapter`."""
        return self.config.sft_adapter

    @property
    def sft_adapter_digest(self) -> str | None:
        """What names the weights that training begins from; None where it trains them itself."""
        return None if self.start is None else digest_of_path(self.start / "adapter_model.safetensors")

    @property
    def beta(self) -> float:
        """The option, or what the preset says."""
        return PRESETS[self.config.preset].dpo_beta if self.config.beta is None else self.config.beta

    def settings(self, parameters: int) -> TrainingSettings:
        """Hyperparameters of the DPO phase.

        Raises:
            ModelError: `sft_adapter` holds no adapter.
            ConfigError: The config asks for another shape than that of `sft_adapter`.
        """
        settings = settle(self.config, parameters, PRESETS[self.config.preset].dpo_epochs)
        return settings if self.start is None else _shaped(settings, self.config, self.start)

    def phase_settings(self, phase: TrainingPhase, settings: TrainingSettings) -> TrainingSettings:
        """The SFT phase may have a learning rate of its own."""
        rate = self.config.sft_learning_rate if phase.name == SFT else None
        return replace(settings, epochs=phase.epochs, learning_rate=rate or settings.learning_rate)

    def phase_loss(self, phase: TrainingPhase) -> GroupLoss:
        """SFT, then the method's own."""
        return sft_group_loss if phase.name == SFT else self.group_loss

    def phase_folder(self, phase: TrainingPhase) -> str:
        """The checkpoints of a training that began elsewhere are never taken for this one's."""
        return SFT if phase.name == SFT else f"dpo{self.sft_adapter_digest or ''}"

    def record(self, settings: TrainingSettings) -> dict[str, Any]:
        """All hyperparameters of both phases."""
        sft = next((self.phase_settings(phase, settings) for phase in self.phases(0) if phase.name == SFT), None)
        return {
            **super().record(settings),
            "lora_targets": settings.lora_targets if sft else "as sft_adapter",
            "beta": self.beta,
            "sft_epochs": sft.epochs if sft else None,
            "sft_learning_rate": sft.learning_rate if sft else None,
            "sft_adapter_digest": self.sft_adapter_digest,
            "sft_steps": 0,
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


def _shaped(settings: TrainingSettings, config: DpoConfig, adapter: Path) -> TrainingSettings:
    """The settings with the shape of the adapter that training begins from."""
    found = adapter_config(adapter)
    for name, asked, value in (
        ("lora_rank", config.lora_rank, found.r),
        ("lora_alpha", config.lora_alpha, found.lora_alpha),
    ):
        if asked is not None and asked != value:
            raise ConfigError(f"aligner.{name} is {asked:g}, but the adapter in {adapter} has {value:g}; leave it out.")
    return replace(settings, lora_rank=found.r, lora_alpha=float(found.lora_alpha))


class MultDpoConfig(DpoConfig):
    """Options of `mult-dpo`: those of `dpo`."""


class MultDpo(Dpo):
    """DPO with all chosen against all rejected responses of a group at once, instead of pair by pair.

    L = -sum_i w_i log(exp(r_i) / sum_j exp(r_j)), where i runs over the chosen and j over all responses, and r is DPO's
    reward beta * (log p - log p_ref). With one chosen response it is S-DPO (Chen et al. 2024), and with one
    of each it is DPO. Phases and reference are those of `dpo`. Source: the multinomial likelihood of Mult-DPO (arXiv
    2606.10078), as a weighted mean over the chosen responses instead of their sum.
    """

    name = "mult-dpo"
    Config = MultDpoConfig
    config: MultDpoConfig

    def group_loss(self, group: GroupLogProbs) -> dict[str, Tensor]:
        """The loss of one group, beside the figures of `dpo`."""
        from mint_core.aligners.losses import candidate_loss

        chosen = self.beta * (group.chosen.total - group.chosen_reference)
        rejected = self.beta * (group.rejected.total - group.rejected_reference)
        return {**super().group_loss(group), "loss": candidate_loss(chosen, rejected, group.chosen_weights)}
