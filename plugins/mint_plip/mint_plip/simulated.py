"""Simulated H&E-like patches: 19 tissues, each a distribution over six visible properties.

A patch is drawn in optical density (Beer-Lambert): a haematoxylin map for the nuclei and an eosin map for
everything else become RGB through the stain vectors of Ruifrok and Johnston (2001). The tissues differ only in what
can be seen: nuclear size, density, shape, chromatin, stain and arrangement. Nothing here is a real tissue, and no
number measured on these patches says anything about patients.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 96
"""Edge of a simulated patch in pixels."""

ARRANGEMENTS = ("scattered", "sheets", "glands", "cords", "follicles")

# Optical density per unit of stain for red, green, blue (Ruifrok and Johnston 2001).
_HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
_EOSIN = np.array([0.07, 0.99, 0.11])


@dataclass(frozen=True, slots=True)
class Morphology:
    """What one patch shows. All but `arrangement` run from 0 to 1."""

    size: float
    """Nuclear size: 0 small, 1 large."""
    density: float
    """Nuclei per area: 0 sparse, 1 crowded."""
    elongation: float
    """Nuclear shape: 0 round, 1 spindle."""
    chromatin: float
    """Nuclear staining: 0 pale, 1 dark."""
    stain: float
    """Eosin of the background: 0 clear, 1 bright pink."""
    arrangement: str
    """One of ARRANGEMENTS."""

    def words(self) -> dict[str, str]:
        """The words a describer would use, one per property."""
        scale = {
            "size": ("small", "medium", "large"),
            "density": ("sparse", "moderate", "crowded"),
            "elongation": ("round", "oval", "spindle"),
            "chromatin": ("pale", "granular", "dark"),
            "stain": ("clear", "pale pink", "bright pink"),
        }
        words = {key: names[min(2, int(getattr(self, key) * 3))] for key, names in scale.items()}
        return words | {"arrangement": self.arrangement}


# size, density, elongation, chromatin, stain, arrangement. Pairs that differ by little, on purpose:
# Colon / Bile duct, Esophagus / Head and neck, Thyroid / Lung, Prostate / Stomach, Cervix / Bladder.
TISSUES: dict[str, Morphology] = {
    "Adrenal gland": Morphology(0.50, 0.55, 0.10, 0.20, 0.10, "cords"),
    "Bile duct": Morphology(0.45, 0.65, 0.50, 0.80, 0.60, "glands"),
    "Bladder": Morphology(0.65, 0.80, 0.40, 0.55, 0.50, "sheets"),
    "Breast": Morphology(0.20, 0.20, 0.10, 0.80, 0.15, "glands"),
    "Cervix": Morphology(0.80, 0.90, 0.45, 0.80, 0.40, "sheets"),
    "Colon": Morphology(0.50, 0.85, 0.55, 0.85, 0.50, "glands"),
    "Esophagus": Morphology(0.50, 0.45, 0.40, 0.45, 0.90, "sheets"),
    "Head and neck": Morphology(0.75, 0.50, 0.45, 0.50, 0.85, "sheets"),
    "Kidney": Morphology(0.25, 0.90, 0.10, 0.50, 0.60, "follicles"),
    "Liver": Morphology(0.60, 0.40, 0.05, 0.30, 0.85, "cords"),
    "Lung": Morphology(0.15, 0.40, 0.15, 0.75, 0.30, "follicles"),
    "Ovarian": Morphology(0.90, 0.85, 0.15, 0.85, 0.30, "glands"),
    "Pancreatic": Morphology(0.15, 0.55, 0.10, 0.50, 0.75, "glands"),
    "Prostate": Morphology(0.50, 0.55, 0.10, 0.25, 0.40, "glands"),
    "Skin": Morphology(0.20, 0.45, 0.85, 0.80, 0.85, "scattered"),
    "Stomach": Morphology(0.50, 0.85, 0.10, 0.25, 0.25, "glands"),
    "Testis": Morphology(0.95, 0.20, 0.10, 0.45, 0.25, "scattered"),
    "Thyroid": Morphology(0.20, 0.55, 0.10, 0.80, 0.80, "follicles"),
    "Uterus": Morphology(0.45, 0.85, 0.95, 0.50, 0.60, "cords"),
}


def draw_morphology(tissue: str, rng: np.random.Generator, noise: float = 0.09) -> Morphology:
    """Draws a morphology around its tissue's: normal noise per property; one arrangement in ten is lost."""
    mean = TISSUES[tissue]
    values = {
        field.name: float(np.clip(getattr(mean, field.name) + rng.normal(0, noise), 0, 0.999))
        for field in fields(mean)
        if field.name != "arrangement"
    }
    arrangement = mean.arrangement if rng.random() > 0.1 else str(rng.choice(ARRANGEMENTS))
    return Morphology(**values, arrangement=arrangement)


def random_morphology(rng: np.random.Generator) -> Morphology:
    """Draws every property independently and uniformly: nothing about tissues can be learnt from it."""
    values = {field.name: float(rng.random()) for field in fields(Morphology) if field.name != "arrangement"}
    return Morphology(**values, arrangement=str(rng.choice(ARRANGEMENTS)))


def draw_patch(
    morphology: Morphology, rng: np.random.Generator, batch: NDArray[np.float64] | None = None, size: int = SIZE
) -> Image.Image:
    """Draws the patch.

    Args:
        morphology: What it shows.
        rng: Source of placement and texture.
        batch: Stain batch of the slide, shape (2,): factors on haematoxylin and eosin. Drawn where absent.
        size: Edge in pixels.

    Returns:
        An RGB image of `size` x `size`.
    """
    haematoxylin_factor, eosin_factor = rng.normal(1, 0.08, 2) if batch is None else batch
    scale = size / SIZE
    lumen, centres = _place(morphology, rng, size)
    eosin = (0.08 + 0.5 * morphology.stain) * (0.85 + 0.3 * _smooth_noise(rng, size, 6)) + 0.06 * rng.random(
        (size, size)
    )
    eosin *= lumen
    haematoxylin = 0.06 * lumen * (0.5 + _smooth_noise(rng, size, 8))
    radius = (1.6 + 3.2 * morphology.size) * scale
    ratio = 1 + 2.2 * morphology.elongation
    for x, y, angle in centres:
        grow = float(rng.normal(1, 0.12))
        long, short = radius * ratio**0.5 * grow, radius / ratio**0.5 * grow
        reach = int(long + 2)
        left, top = int(x), int(y)
        x0, x1, y0, y1 = (
            max(left - reach, 0),
            min(left + reach + 1, size),
            max(top - reach, 0),
            min(top + reach + 1, size),
        )
        if x0 >= x1 or y0 >= y1:
            continue
        dy, dx = np.mgrid[y0:y1, x0:x1].astype(float)
        dx, dy = dx - x, dy - y
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        inside = np.clip(1.5 * (1 - np.sqrt((along / long) ** 2 + (across / short) ** 2)) + 0.5, 0, 1)
        depth = (0.3 + 1.0 * morphology.chromatin) * (0.85 + 0.3 * rng.random(inside.shape))
        window = haematoxylin[y0:y1, x0:x1]
        np.maximum(window, inside * depth, out=window)
        eosin[y0:y1, x0:x1] *= 1 - 0.6 * inside
    density = haematoxylin_factor * haematoxylin[..., None] * _HAEMATOXYLIN + eosin_factor * eosin[..., None] * _EOSIN
    rgb = 245 * np.exp(-density) + rng.normal(0, 2.5, (size, size, 1))
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def _smooth_noise(rng: np.random.Generator, size: int, cells: int) -> NDArray[np.float64]:
    """Noise in 0..1 whose grain is size / cells pixels."""
    grain = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    return np.asarray(grain.resize((size, size), Image.Resampling.BICUBIC), dtype=float) / 255


def _place(
    morphology: Morphology, rng: np.random.Generator, size: int
) -> tuple[NDArray[np.float64], list[tuple[float, float, float]]]:
    """Where the eosin is (1) or a lumen is (0.1), and the nuclei as (x, y, angle)."""
    tissue = np.ones((size, size))
    count = int((14 + 76 * morphology.density) * (1 - 0.35 * morphology.size))
    turn = float(rng.random() * np.pi)
    if morphology.arrangement == "scattered":
        return tissue, [(*(rng.random(2) * size), float(rng.random() * np.pi)) for _ in range(count)]
    if morphology.arrangement == "sheets":
        step = size / count**0.5
        axis = np.arange(step / 2, size, step)
        return tissue, [(x + rng.normal(0, step / 7), y + rng.normal(0, step / 7), turn) for x in axis for y in axis]
    if morphology.arrangement == "cords":
        normal = np.array([-np.sin(turn), np.cos(turn)])
        along = np.array([np.cos(turn), np.sin(turn)])
        gap = size / 5
        rows, columns = np.mgrid[0:size, 0:size]
        across = (columns * normal[0] + rows * normal[1]) / gap
        tissue[np.abs(across - np.round(across)) > 0.38] = 0.35
        lines = np.arange(-8, 9) * gap
        centres = []
        for _ in range(count * 3):
            point = along * rng.uniform(-1.5, 1.5) * size + normal * (rng.choice(lines) + rng.normal(0, gap / 12))
            if 0 <= point[0] < size and 0 <= point[1] < size:
                centres.append((float(point[0]), float(point[1]), turn))
        return tissue, centres[:count]
    glands = morphology.arrangement == "glands"
    rings = 3 if glands else 2
    cell = size / rings
    outer = cell * (0.40 if glands else 0.46)
    offset = rng.uniform(-cell / 3, cell / 3, 2)
    rows, columns = np.mgrid[0:size, 0:size]
    centres = []
    rings_x = [(column + 0.5) * cell + offset[0] for column in range(-1, rings + 1)]
    rings_y = [(row + 0.5) * cell + offset[1] for row in range(-1, rings + 1)]
    visible = [(x, y) for x in rings_x for y in rings_y if -outer < x < size + outer and -outer < y < size + outer]
    for x, y in visible:
        distance = np.hypot(columns - x, rows - y)
        tissue[distance < outer * (0.45 if glands else 0.75)] = 0.1 if glands else 1.6
        for angle in rng.uniform(0, 2 * np.pi, max(4, round(count / rings**2))):
            r = outer * rng.normal(0.92, 0.05)
            tangent = angle if glands else angle + np.pi / 2
            centres.append((x + r * np.cos(angle), y + r * np.sin(angle), tangent))
    return tissue, centres
