"""The aligner `kl`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from mint_core.aligners.base import LoraAligner
from mint_core.aligners.settings import TrainingConfig

if TYPE_CHECKING:
    from torch import Tensor

    from mint_core.aligners.batches import GroupLogProbs


class KlConfig(TrainingConfig):
    """Options of `kl`."""

    sft_weight: float = Field(
        0.0, ge=0, le=1e6, description="Weight of an SFT term on the chosen responses, which keeps the format alive."
    )


class Kl(LoraAligner):
    """KL(teacher || student) over a group's responses as candidates: plain distillation, the baseline of the losses.

    The student's distribution is the softmax of the responses' log-probabilities, summed over their tokens. The
    teacher's is the group's `chosen_weights`, and 0 for the rejected responses. It means most for single labels with
    the teacher's confidence: `strategy: {name: pairwise, weights: teacher}`. Source: Hinton et al. 2015, with the
    candidate labels as classes.
    """

    name = "kl"
    Config = KlConfig
    config: KlConfig

    def group_loss(self, group: GroupLogProbs) -> dict[str, Tensor]:
        """The loss of one group; the divergence is at least 0."""
        import torch

        from mint_core.aligners.losses import candidate_loss

        w = group.chosen_weights
        entropy = torch.special.entr(w).sum()
        divergence = candidate_loss(group.chosen.total, group.rejected.total, w) - entropy
        nll = w @ -group.chosen.average
        return {"loss": divergence + self.config.sft_weight * nll, "kl": divergence.detach(), "nll": nll.detach()}
