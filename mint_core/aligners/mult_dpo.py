"""The aligner `mult-dpo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mint_core.aligners.dpo import Dpo, DpoConfig

if TYPE_CHECKING:
    from torch import Tensor

    from mint_core.aligners.batches import GroupLogProbs


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
