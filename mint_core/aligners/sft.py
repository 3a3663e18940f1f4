"""The aligner `sft`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mint_core.aligners.base import LoraAligner
from mint_core.aligners.settings import TrainingConfig
from mint_core.interfaces import TrainingPhase

if TYPE_CHECKING:
    from torch import Tensor

    from mint_core.aligners.batches import GroupLogProbs


SFT = "sft"
"""Name of the phase."""


class SftConfig(TrainingConfig):
    """Options of `sft`."""


def sft_group_loss(group: GroupLogProbs) -> dict[str, Tensor]:
    """L = -log p(y_w | x), the weighted mean over the group's chosen responses of the mean over their tokens."""
    return {"loss": group.chosen_weights @ -group.chosen.average}


class Sft(LoraAligner):
    """Supervised fine-tuning on the chosen responses: L = -log p(y_w | x), a mean over the response tokens.

    The rejected responses are not read. With weights, a response counts by its share. Source: MINT, section "Align".
    """

    name = "sft"
    Config = SftConfig
    config: SftConfig

    def phases(self, parameters: int) -> tuple[TrainingPhase, ...]:
        """The rejected responses are not read."""
        return (self.phase(SFT, rejected=False),)

    def group_loss(self, group: GroupLogProbs) -> dict[str, Tensor]:
        """The loss of one group."""
        return sft_group_loss(group)
