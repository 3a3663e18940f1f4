"""The aligners `trl-sft`, `trl-dpo` and `trl-orpo`: mint's methods and options, trained by TRL."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from mint_core.plugin import AlignmentJob, AlignmentResult, Dpo, LoraAligner, Orpo, OrpoConfig, Sft, TrainingPhase


class ByTrl(LoraAligner):
    """The same method, trained by TRL; `batch_size` counts pairs.

    `share_prompt`, `token_budget` and `on_oom` do nothing.
    """

    def phases(self, parameters: int) -> tuple[TrainingPhase, ...]:
        """TRL computes every pair in rows of its own."""
        own = super().phases(parameters)
        return tuple(replace(phase, layout="expanded", token_budget=None) for phase in own)

    def check(self, job: AlignmentJob) -> None:
        """Refuses what TRL cannot train: image-text students and weights of responses."""
        from mint_trl.engine import check

        super().check(job)
        check(job, self)

    def align(self, job: AlignmentJob) -> AlignmentResult:
        """Trains and saves the adapter."""
        from mint_trl.engine import train

        return train(job, self)


class TrlSft(ByTrl, Sft):
    """Supervised fine-tuning on the chosen responses by TRL's SFTTrainer.

    Its loss is a mean over the tokens of a batch, so that long responses weigh more than in `sft`.
    """

    name = "trl-sft"


class TrlDpo(ByTrl, Dpo):
    """SFT first, then DPO, by TRL's SFTTrainer and DPOTrainer.

    The reference is computed anew in every step, and DPO is trained without dropout. Otherwise it is `dpo`.
    """

    name = "trl-dpo"
    first = TrlSft


class TrlOrpoConfig(OrpoConfig):
    """Options of `trl-orpo`."""

    nll: Literal["all"] = Field("all", description="What the SFT term covers: prompt and response, as in TRL.")


class TrlOrpo(ByTrl, Orpo):
    """ORPO by TRL's ORPOTrainer, whose SFT term covers the prompt too: it is `orpo` with `nll: all`."""

    name = "trl-orpo"
    Config = TrlOrpoConfig
    config: TrlOrpoConfig
