"""The aligner `orpo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from mint_core.aligners.base import LoraAligner
from mint_core.aligners.settings import PRESETS, TrainingConfig, TrainingSettings
from mint_core.interfaces import TrainingPhase

if TYPE_CHECKING:
    from torch import Tensor

    from mint_core.aligners.batches import GroupLogProbs


class OrpoConfig(TrainingConfig):
    """Options of `orpo`."""

    weight: float | None = Field(None, ge=0, le=1e6, description="lambda, the weight of the odds-ratio term.")
    nll: Literal["response", "all"] = Field(
        "response", description="What the SFT term covers: the response, or prompt and response as TRL does."
    )


class Orpo(LoraAligner):
    """ORPO on preference groups: L = L_SFT + lambda * -log sigmoid(log odds(y_w) - log odds(y_l)).

    The SFT term is the mean over the group's chosen responses, the odds-ratio term the mean over all k' x q' pairs,
    both weighted where the group carries weights.
    Source: Hong et al. 2024 (equations 6, 7); MINT, section "Align". Numbers are comparable with those of TRL only with
    `nll: all`.
    """

    name = "orpo"
    Config = OrpoConfig
    config: OrpoConfig

    @property
    def weight(self) -> float:
        """The option, or what the preset says."""
        return PRESETS[self.config.preset].orpo_weight if self.config.weight is None else self.config.weight

    def phases(self, parameters: int) -> tuple[TrainingPhase, ...]:
        """With `nll: all` the loss reads the likelihood of the prompt."""
        return (self.phase("orpo", reads_prompt=self.config.nll == "all"),)

    def record(self, settings: TrainingSettings) -> dict[str, Any]:
        """All hyperparameters, lambda among them."""
        return {**super().record(settings), "weight": self.weight}

    def group_loss(self, group: GroupLogProbs) -> dict[str, Tensor]:
        """The loss of one group, its two terms, and how far apart the two sides are."""
        from mint_core.aligners.losses import orpo_loss, set_mean

        chosen, rejected = group.chosen.average, group.rejected.average
        nll = group.whole_nll if self.config.nll == "all" else -chosen
        parts = orpo_loss(chosen[:, None], rejected[None, :], nll[:, None], self.weight)
        w, v = group.chosen_weights, group.rejected_weights
        return {
            "loss": set_mean(parts.loss, w, v),  # (k', q') -> ()
            "nll": w @ nll,
            "odds_ratio": set_mean(parts.odds_ratio, w, v),
            "margin": (w @ chosen - v @ rejected).detach(),
        }
