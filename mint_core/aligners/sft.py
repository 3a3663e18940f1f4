"""The aligner `sft`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mint_core.aligners.settings import TrainingConfig
from mint_core.interfaces import Aligner, AlignmentJob, AlignmentResult

if TYPE_CHECKING:
    from torch import Tensor

    from mint_core.aligners.batches import GroupLogProbs


class SftConfig(TrainingConfig):
    """Options of `sft`."""

    def phase_rejected(self) -> tuple[bool, ...]:
        """The rejected responses are not read."""
        return (False,)


def sft_group_loss(group: GroupLogProbs) -> dict[str, Tensor]:
    """L = -log p(y_w | x), the weighted mean over the group's chosen responses of the mean over their tokens."""
    return {"loss": group.chosen_weights @ -group.chosen.average}


class Sft(Aligner):
    """Supervised fine-tuning on the chosen responses: L = -log p(y_w | x), a mean over the response tokens.

    The rejected responses are not read. With weights, a response counts by its share. Source: MINT, section "Align".
    """

    name = "sft"
    Config = SftConfig
    config: SftConfig

    def align(self, job: AlignmentJob) -> AlignmentResult:
        """Trains and saves the adapter."""
        if self.config.engine == "trl":
            from mint_core.aligners.trl_engine import SFT, train_by_trl

            return train_by_trl(job, self.config, SFT, {}, {})
        from mint_core.aligners.trainer import train

        return train(job, self.config, sft_group_loss, rejected=False, extra={})
