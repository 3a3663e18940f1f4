"""The teacher `plip`: a CLIP that ranks tissue names for an H&E patch."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from mint_plip.clip import EMBEDDED
from mint_plip.dual_encoder import DualEncoder, DualEncoderConfig

PROMPTS = (
    "an H&E image of {} tissue",
    "an H&E image of {}",
    "a histopathology image of {} tissue",
    "a microscopic H&E stained patch of {} tissue",
)
"""The prompt ensemble."""


class PlipConfig(DualEncoderConfig):
    """Options of the teacher `plip`."""

    model: str | None = Field(
        EMBEDDED,
        description="The CLIP: `embedded` (small, knows the simulated tissues), a Hugging Face id such as `vinid/plip` "
        "or `hf-hub:owner/name`, a model folder or weights file, or an open_clip architecture with `pretrained`.",
    )
    prompts: tuple[str, ...] = Field(
        PROMPTS, min_length=1, description="Sentences around a label, one {} in each; text features are averaged."
    )


class Plip(DualEncoder):
    """CLIP on H&E patches, zero-shot or with a fitted head: the teacher `clip` with defaults of its own.

    Source: Huang et al. 2023, "A visual-language foundation model for pathology image analysis using medical Twitter".

        teacher:
          name: plip
          model: vinid/plip
          head: probe
    """

    name: ClassVar[str] = "plip"
    version: ClassVar[str] = "1"
    tasks: ClassVar[tuple[str, ...]] = ("tissue-type",)
    Config: ClassVar[type[Any]] = PlipConfig
    config: PlipConfig
