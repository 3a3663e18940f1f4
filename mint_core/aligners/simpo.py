"""The aligner `simpo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from mint_core.aligners.base import LoraAligner
from mint_core.aligners.settings import TrainingConfig

if TYPE_CHECKING:
    from torch import Tensor

    from mint_core.aligners.batches import GroupLogProbs


class SimpoConfig(TrainingConfig):
    """Options of `simpo`."""

    beta: float = Field(2.0, gt=0, le=1e6, description="Scale of the reward, a mean log-probability per token.")
    margin: float = Field(1.0, ge=0, le=1e6, description="gamma: by how much the chosen reward should be larger.")
    sft_weight: float = Field(
        0.0, ge=0, le=1e6, description="Weight of an SFT term on the chosen responses; the paper has none."
    )


class Simpo(LoraAligner):
    """SimPO: like DPO, with mean log-probabilities as rewards, a margin, and no reference.

    The loss is the mean over all k' x q' pairs of a group, weighted where the group carries weights. Source: Meng et
    al. 2024.
    """

    name = "simpo"
    Config = SimpoConfig
    config: SimpoConfig

    def group_loss(self, group: GroupLogProbs) -> dict[str, Tensor]:
        """The loss of one group."""
        from mint_core.aligners.losses import set_mean, simpo_loss

        chosen, rejected = group.chosen.average, group.rejected.average
        w, v = group.chosen_weights, group.rejected_weights
        nll = w @ -chosen
        pairs = simpo_loss(chosen[:, None], rejected[None, :], self.config.beta, self.config.margin)
        return {
            "loss": set_mean(pairs, w, v) + self.config.sft_weight * nll,
            "nll": nll.detach(),
            "margin": (w @ chosen - v @ rejected).detach(),
        }
