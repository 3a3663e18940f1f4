"""The teacher `clip`: any dual encoder of images and texts, for any image task, with the sample's text beside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from mint_core.plugin import Sample, digest_of
from mint_plip.dual_encoder import DualEncoder, DualEncoderConfig
from mint_plip.encoder import encode_texts

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

_ENDS = re.compile(r"(?<=[.;!?])\s+|\n+")


class ClipConfig(DualEncoderConfig):
    """Options of the teacher `clip`."""

    text: bool = Field(
        False,
        description="probe: read the sample's own text too: the mean of its sentences' unit vectors stands behind the "
        "image's.",
    )

    @model_validator(mode="after")
    def _with_a_probe(self) -> Self:
        if self.text and self.head != "probe":
            raise ValueError("`text` needs head: probe, which learns what a text says about a label")
        return self


class _Seen(NamedTuple):
    pixels: NDArray[np.uint8]
    sentences: list[str]


class ClipTeacher(DualEncoder):
    """CLIP, SigLIP or another dual encoder of open_clip or transformers, zero-shot or with a fitted head.

    With `text`, a probe reads the sample's own text beside the image (late fusion): the text's sentences go through the
    text tower, each cut at its context (77 tokens in CLIP, 64 in SigLIP), and the normalised mean of their unit vectors
    is put behind the image's. A sample without a text has zeros there. All else is as `DualEncoder` says.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision"; Zhai et al.
    2023, "Sigmoid Loss for Language Image Pre-Training".

        teacher:
          name: clip
          model: openai/clip-vit-base-patch32
          head: probe
    """

    name: ClassVar[str] = "clip"
    Config: ClassVar[type[Any]] = ClipConfig
    config: ClipConfig

    @property
    def cache_name(self) -> str:
        """Another file where texts are read too."""
        name = super().cache_name
        return name.replace(".sqlite", "-text.sqlite") if self.config.text else name

    def content_key(self, sample: Sample) -> str:
        """Names the image, and the text where it is read."""
        image = super().content_key(sample)
        return digest_of([image, sample.text]) if self.config.text else image

    def prepare(self, sample: Sample) -> Any:
        """The image as the tower wants it, and the text's sentences where they are read."""
        pixels = super().prepare(sample)
        if not self.config.text:
            return pixels
        return _Seen(pixels, [part for part in _ENDS.split(sample.text or "") if part.strip()])

    def features(self, samples: Sequence[Any]) -> NDArray[np.float32]:
        """Unit vectors of images, shape (n, dim), or of images and texts, (n, 2 dim)."""
        if not self.config.text:
            return super().features(samples)
        images = super().features([seen.pixels for seen in samples])
        return np.concatenate([images, encode_texts(self.clip, [seen.sentences for seen in samples])], axis=1)
