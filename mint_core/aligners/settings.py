"""Training options that all aligners share, and the presets of the sources (design, section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from mint_core.interfaces import ComponentConfig

SMALL_DATA_WARMUP = 0.1
"""Share of all steps, as in the published scripts, where a preset's steps are more than half of the training."""
PresetName = Literal["icml", "arxiv", "scripts"]


@dataclass(frozen=True, slots=True)
class Preset:
    """The hyperparameters of one source."""

    orpo_weight: float
    learning_rate: float
    warmup: float
    """Steps where it is 1 or more, share of all steps below 1."""
    clip: float
    epochs: float
    lora_targets: Literal["attention", "all-linear"]
    large_rank_below: float
    """Students with fewer parameters get rank 256 / alpha 128, larger ones 128 / 64."""
    dpo_sft_epochs: float = 5
    """Epochs of the SFT phase before DPO."""
    dpo_epochs: float = 2
    dpo_beta: float = 0.1


PRESETS: dict[PresetName, Preset] = {
    # Workshop paper: 256 / 128 for the 1B student, 128 / 64 for 3B and 11B.
    "icml": Preset(1.0, 5e-5, 500, 1.0, 5, "attention", 2e9),
    # Preprint: 256 / 128 for 1B to 3B, 128 / 64 from 8B on; the optimiser is that of the workshop paper.
    "arxiv": Preset(1.0, 5e-5, 500, 1.0, 5, "attention", 5e9),
    # Published scripts: all linear layers, no rank given for small students; rank 128 / alpha 64 throughout.
    "scripts": Preset(0.1, 3e-5, 0.1, 0.3, 10, "all-linear", 0),
}


class TrainingConfig(ComponentConfig):
    """Options of every aligner that trains a LoRA adapter; null = what the preset says."""

    neutral: ClassVar[frozenset[str]] = frozenset(
        {"save_steps", "save_minutes", "report_to", "on_oom", "validate_samples"}
    )

    preset: PresetName = Field("icml", description="Hyperparameters of a source: icml, arxiv or scripts.")
    epochs: float | None = Field(None, gt=0, le=100_000, description="Passes over the preference groups.")
    learning_rate: float | None = Field(None, gt=0, le=10, description="Peak learning rate.")
    warmup: float | None = Field(
        None,
        ge=0,
        le=100_000_000,
        description="Warm-up: steps from 1 on, share of all steps below 1; null = the preset's, or 10 % where that is "
        "more than half of the training.",
    )
    clip: float | None = Field(None, gt=0, le=1e9, description="Largest gradient norm.")
    batch_size: int = Field(8, ge=1, le=65_536, description="Preference groups per device and batch.")
    token_budget: int | None = Field(
        16_384,
        ge=1,
        le=1_000_000_000,
        description="Most tokens of one forward pass, padding included: a larger batch is computed in parts, with the "
        "same result; null = no limit.",
    )
    on_oom: Literal["shrink", "stop"] = Field(
        "shrink",
        description="Where the memory does not suffice for a batch: shrink = halve token_budget until it does, with "
        "the same result; stop = end with an error.",
    )
    accumulation: int = Field(1, ge=1, le=65_536, description="Batches per optimiser step.")
    weight_decay: float = Field(0.0, ge=0, le=10, description="AdamW weight decay.")
    share_prompt: bool = Field(
        True,
        description="Compute a prompt once for all its responses, where a check at the start finds the same "
        "log-probabilities; off = one row per response.",
    )
    gradient_checkpointing: bool = Field(False, description="Trade time for memory.")
    lora_rank: int | None = Field(None, ge=1, le=65_536, description="LoRA rank r.")
    lora_alpha: float | None = Field(None, gt=0, le=1e6, description="LoRA alpha.")
    lora_dropout: float = Field(0.05, ge=0, lt=1, description="LoRA dropout.")
    lora_targets: Literal["attention", "all-linear"] | None = Field(
        None, description="attention = query, key, value and output projections; all-linear = every linear layer."
    )
    lora_vision: bool = Field(False, description="Adapt the vision tower and the projector too.")
    save_steps: int = Field(
        200, ge=1, le=1_000_000_000, description="Steps between checkpoints, from which an interrupted run goes on."
    )
    save_minutes: float | None = Field(
        10, gt=0, le=1_000_000, description="Minutes after which a checkpoint is written in any case; null = never."
    )
    log_steps: int = Field(10, ge=1, le=1_000_000_000, description="Steps between two lines of the training history.")
    validate_samples: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Samples that the student answers at the start and behind each epoch, for a curve of the metrics: "
        "of the val split where it is not reported, else training samples; 0 = none.",
    )
    report_to: tuple[str, ...] = Field(
        (), description="Trackers: tensorboard, wandb or others of transformers; one, or several joined by commas."
    )

    @field_validator("report_to", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        """`wandb`, `tensorboard,wandb` and `none` are lists too."""
        if not isinstance(value, str):
            return () if value is None else value
        return tuple(name for part in value.split(",") if (name := part.strip()) not in ("", "none"))


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """A TrainingConfig with its preset filled in."""

    epochs: float
    learning_rate: float
    warmup: float
    clip: float
    lora_rank: int
    lora_alpha: float
    lora_targets: Literal["attention", "all-linear"]


def settle(config: TrainingConfig, parameters: int, epochs: float | None = None) -> TrainingSettings:
    """Fills a config's gaps from its preset.

    Args:
        config: What the user asked for.
        parameters: Size of the student; it decides the rank.
        epochs: What the preset says for the method at hand; None = its `epochs`.
    """
    preset = PRESETS[config.preset]
    rank, alpha = (256, 128.0) if parameters < preset.large_rank_below else (128, 64.0)

    def pick(value: Any, default: Any) -> Any:
        return default if value is None else value

    return TrainingSettings(
        epochs=pick(config.epochs, pick(epochs, preset.epochs)),
        learning_rate=pick(config.learning_rate, preset.learning_rate),
        warmup=pick(config.warmup, preset.warmup),
        clip=pick(config.clip, preset.clip),
        lora_rank=pick(config.lora_rank, rank),
        lora_alpha=pick(config.lora_alpha, alpha if config.lora_rank is None else config.lora_rank / 2),
        lora_targets=pick(config.lora_targets, preset.lora_targets),
    )
