"""The aligner `orpo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mint_core.aligners.settings import PRESETS, TrainingConfig
from mint_core.errors import ConfigError
from mint_core.interfaces import Aligner, AlignmentJob, AlignmentResult

if TYPE_CHECKING:
    from torch import Tensor

    from mint_core.aligners.batches import GroupLogProbs


class OrpoConfig(TrainingConfig):
    """Options of `orpo`."""

    weight: float | None = Field(None, ge=0, description="lambda, the weight of the odds-ratio term.")
    nll: Literal["response", "all"] = Field(
        "response", description="What the SFT term covers: the response, or prompt and response as TRL does."
    )

    def reads_prompts(self) -> bool:
        """`nll: all` does."""
        return self.nll == "all"


class Orpo(Aligner):
    """ORPO on preference groups: L = L_SFT + lambda * -log sigmoid(log odds(y_w) - log odds(y_l)).

    The SFT term is the mean over the group's chosen responses, the odds-ratio term the mean over all k' x q' pairs,
    both weighted where the group carries weights.
    Source: Hong et al. 2024 (equations 6, 7); MINT, section "Align". Numbers are comparable with those of TRL only with
    `nll: all`.
    """

    name = "orpo"
    Config = OrpoConfig
    config: OrpoConfig

    def align(self, job: AlignmentJob) -> AlignmentResult:
        """Trains and saves the adapter."""
        from mint_core.aligners.losses import orpo_loss, set_mean
        from mint_core.aligners.trainer import train

        weight = PRESETS[self.config.preset].orpo_weight if self.config.weight is None else self.config.weight
        whole = self.config.nll == "all"
        if self.config.engine == "trl":
            return self._align_by_trl(job, weight)

        def loss(group: GroupLogProbs) -> dict[str, Tensor]:
            chosen, rejected = group.chosen.average, group.rejected.average
            nll = group.whole_nll if whole else -chosen
            parts = orpo_loss(chosen[:, None], rejected[None, :], nll[:, None], weight)
            w, v = group.chosen_weights, group.rejected_weights
            return {
                "loss": set_mean(parts.loss, w, v),  # (k', q') -> ()
                "nll": w @ nll,
                "odds_ratio": set_mean(parts.odds_ratio, w, v),
                "margin": (w @ chosen - v @ rejected).detach(),
            }

        return train(job, self.config, loss, whole=whole, extra={"weight": weight})

    def _align_by_trl(self, job: AlignmentJob, weight: float) -> AlignmentResult:
        from mint_core.aligners.trl_engine import ORPO, train_by_trl

        if self.config.nll != "all":
            raise ConfigError(
                "TRL's ORPO takes its SFT term over prompt and response; add --set aligner.nll=all, or leave "
                "aligner.engine out."
            )
        options = {"beta": weight, "disable_dropout": False}
        return train_by_trl(job, self.config, ORPO, options, {"weight": weight})
