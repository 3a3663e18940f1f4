"""Source `simulated`: patches drawn from a seed, slide by slide, when they are opened."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
from PIL.Image import Image

from mint_core.plugin import SPLITS, ImageRef, Sample, Split, TaskData, check_samples, normalise_name
from mint_plip.simulated import TISSUES, Morphology, draw_morphology, draw_patch
from mint_plip.sources.options import TissueOptions
from mint_plip.sources.tissues import TISSUE_LABELS

DRAWING = "1"
"""Raise it when the same parameters give other pixels."""

# Together they vary as much as `draw_morphology` does alone: 0.03^2 + 0.085^2 = 0.09^2.
_SLIDE_SHIFT = 0.03
_PATCH_NOISE = 0.085


@dataclass(frozen=True, slots=True)
class DrawnImage(ImageRef):
    """A patch that is drawn anew, and always the same, whenever it is opened."""

    seed: int
    split: Split
    tissue: str
    slide: int
    index: int
    """Which patch of the slide."""

    @property
    def key(self) -> str:
        """A hash of the parameters and of the version of the drawing."""
        name = f"{DRAWING} {self.seed} {self.split} {self.tissue} {self.slide} {self.index}"
        return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()

    def open(self) -> Image:
        """Draws the patch: an RGB image of `mint_plip.simulated.SIZE` pixels a side."""
        return _draw(self).copy()


@lru_cache(maxsize=4096)  # 110 MB at most; a patch is read by the teacher and in every epoch
def _draw(image: DrawnImage) -> Image:
    place = (SPLITS.index(image.split), list(TISSUES).index(image.tissue), image.slide)
    of_slide = np.random.default_rng(np.random.SeedSequence(image.seed, spawn_key=place))
    of_patch = np.random.default_rng(np.random.SeedSequence(image.seed, spawn_key=(*place, image.index)))
    batch = of_slide.normal(1, 0.08, 2)
    return draw_patch(_shifted(draw_morphology(image.tissue, of_patch, _PATCH_NOISE), of_slide), of_patch, batch)


def _shifted(morphology: Morphology, of_slide: np.random.Generator) -> Morphology:
    """The morphology with the shift that all patches of its slide share."""
    moved = {
        field.name: float(np.clip(getattr(morphology, field.name) + of_slide.normal(0, _SLIDE_SHIFT), 0, 0.999))
        for field in fields(morphology)
        if field.name != "arrangement"
    }
    return replace(morphology, **moved)  # type: ignore[arg-type]


def load(options: TissueOptions) -> TaskData:
    """Lists the patches of all 19 tissues; nothing is drawn yet.

    Args:
        options: `train_per_label`, `test_per_label`, `patches_per_slide` and `sample_seed` count.
    """
    sizes: dict[Split, int] = {"train": options.train_per_label, "test": options.test_per_label}
    samples = [
        sample for split, n in sizes.items() for tissue in TISSUES for sample in _tissue(options, split, tissue, n)
    ]
    check_samples(samples, TISSUE_LABELS)
    return TaskData(
        samples,
        TISSUE_LABELS,
        f"simulated patches of {len(TISSUES)} invented tissue patterns, seed {options.sample_seed}: no real tissue",
        simulated=True,
    )


def _tissue(options: TissueOptions, split: Split, tissue: str, n: int) -> Iterator[Sample]:
    for number in range(n):
        slide, index = divmod(number, options.patches_per_slide)
        group = f"{split}-{normalise_name(tissue).replace(' ', '_')}-{slide:03d}"
        image = DrawnImage(options.sample_seed, split, tissue, slide, index)
        yield Sample(f"{group}-{index}", split, tissue, group, image)
