"""An aligner in one file: a loss of one preference group. Torch is not imported here, tensors come with the group."""

from pydantic import Field

from mint_core.plugin import LoraAligner, TrainingConfig, hookimpl


class SquaredGapConfig(TrainingConfig):
    """The options of every aligner on mint's engine, and two of its own."""

    gap: float = Field(1.0, gt=0, le=100, description="Wanted gap of chosen over rejected, in nats per token.")
    weight: float = Field(0.2, ge=0, le=100, description="Weight of the squared term beside the likelihood.")


class SquaredGap(LoraAligner):
    """nll + weight * (gap of the pair - wanted gap)^2, the mean over all pairs of a group."""

    name = "squared-gap"
    Config = SquaredGapConfig

    def group_loss(self, group):
        """See `mint_core.plugin.LoraAligner.group_loss`.

        `group.chosen.average` has shape (chosen,), `group.rejected.average` (rejected,): log-probabilities per token.
        """
        gaps = group.chosen.average[:, None] - group.rejected.average[None, :]
        squared = group.chosen_weights @ (gaps - self.config.gap).square() @ group.rejected_weights
        nll = group.chosen_weights @ -group.chosen.average
        return {"loss": nll + self.config.weight * squared, "nll": nll.detach(), "squared": squared.detach()}


@hookimpl
def mint_aligners():
    """What this plugin brings."""
    return [SquaredGap]
