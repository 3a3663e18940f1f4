"""The aligner `simpo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mint_core.aligners.settings import TrainingConfig
from mint_core.interfaces import Aligner, AlignmentJob, AlignmentResult

if TYPE_CHECKING:
    from torch import Tensor

    from mint_core.aligners.batches import GroupLogProbs


class SimpoConfig(TrainingConfig):
    """Options of `simpo`."""

    engine: Literal["mint"] = Field("mint", description="Who trains: mint.")
    beta: float = Field(2.0, gt=0, description="Scale of the reward, a mean log-probability per token.")
    margin: float = Field(1.0, ge=0, description="gamma: by how much the chosen reward should be larger.")
    sft_weight: float = Field(
        0.0, ge=0, description="Weight of an SFT term on the chosen responses; the paper has none."
    )


class Simpo(Aligner):
    """SimPO: like DPO, with mean log-probabilities as rewards, a margin, and no reference.

    The loss is the mean over all k' x q' pairs of a group, weighted where the group carries weights. Source: Meng et
    al. 2024.
    """

    name = "simpo"
    Config = SimpoConfig
    config: SimpoConfig

    def align(self, job: AlignmentJob) -> AlignmentResult:
        """Trains and saves the adapter."""
        from mint_core.aligners.trainer import train

        return train(job, self.config, self.group_loss, extra={})

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
