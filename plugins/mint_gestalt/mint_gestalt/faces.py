"""Drawn faces: HPO terms become geometry, and identity (skin, hair, pose, light) is drawn beside them.

Nothing here is a real face. A face is a vector of PARAMETERS, each near 0 in a face without findings and near +1 or -1
where a finding shows. Identity moves every parameter a little, so that one reading decides nothing alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from mint_gestalt import ontology

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = 96
"""Edge of a drawn face in pixels."""
DRAWING = "1"
"""Raise it when the same parameters give other pixels."""

_EFFECTS: dict[str, dict[str, float]] = {
    # Distance, slant, length and opening of the eyes.
    "HP:0000316": {"eye_distance": 1.0},  # Hypertelorism
    "HP:0000601": {"eye_distance": -1.0},  # Hypotelorism
    "HP:0000506": {"eye_distance": 0.5, "eye_length": -0.5},  # Telecanthus
    "HP:0000582": {"eye_slant": 1.0},  # Upslanted palpebral fissure
    "HP:0000494": {"eye_slant": -1.0},  # Downslanted palpebral fissures
    "HP:0000637": {"eye_length": 1.0},  # Long palpebral fissure
    "HP:0012745": {"eye_length": -0.8},  # Short palpebral fissure
    "HP:0000581": {"eye_length": -1.0, "eye_opening": -0.5},  # Blepharophimosis
    "HP:0045025": {"eye_opening": -0.8},  # Narrow palpebral fissure
    "HP:0007874": {"eye_opening": 0.4, "eye_slant": 0.4},  # Almond-shaped palpebral fissure
    "HP:0000520": {"eye_opening": 1.0},  # Proptosis
    "HP:0000586": {"eye_opening": 0.8},  # Shallow orbits
    "HP:0000508": {"lid": 1.0},  # Ptosis
    "HP:0000490": {"eye_depth": 1.0},  # Deeply set eye
    "HP:0000286": {"epicanthus": 1.0},  # Epicanthus
    "HP:0000629": {"eye_bag": 1.0},  # Periorbital fullness
    "HP:0000527": {"lashes": 1.0},  # Long eyelashes
    # Eyebrows.
    "HP:0000574": {"brow_thickness": 1.0},  # Thick eyebrow
    "HP:0011229": {"brow_thickness": 0.8},  # Broad eyebrow
    "HP:0045075": {"brow_thickness": -1.0},  # Sparse eyebrow
    "HP:0002223": {"brow_thickness": -1.3},  # Absent eyebrow
    "HP:0002553": {"brow_arch": 1.0},  # Highly arched eyebrow
    "HP:0011228": {"brow_arch": -1.0},  # Horizontal eyebrow
    "HP:0000664": {"synophrys": 1.0},  # Synophrys
    "HP:0000336": {"brow_ridge": 1.0},  # Prominent supraorbital ridges
    "HP:0009891": {"brow_ridge": -1.0},  # Underdeveloped supraorbital ridges
    # Nose.
    "HP:0003189": {"nose_length": 1.0},  # Long nose
    "HP:0003196": {"nose_length": -1.0},  # Short nose
    "HP:0000445": {"nose_width": 1.0},  # Wide nose
    "HP:0000460": {"nose_width": -1.0},  # Narrow nose
    "HP:0000430": {"nose_width": -0.8},  # Underdeveloped nasal alae
    "HP:0000431": {"bridge_width": 1.0},  # Wide nasal bridge
    "HP:0000418": {"bridge_width": -1.0},  # Narrow nasal ridge
    "HP:0005280": {"bridge_height": -1.0},  # Depressed nasal bridge
    "HP:0000457": {"bridge_height": -1.0},  # Depressed nasal ridge
    "HP:0000426": {"bridge_height": 1.0},  # Prominent nasal bridge
    "HP:0000448": {"bridge_height": 0.6, "nose_length": 0.6},  # Prominent nose
    "HP:0000444": {"bridge_height": 0.7, "tip": -0.4},  # Convex nasal ridge
    "HP:0000414": {"tip": 1.0},  # Bulbous nose
    "HP:0000455": {"tip": 0.8, "nose_width": 0.3},  # Broad nasal tip
    "HP:0000463": {"nares": 1.0},  # Anteverted nares
    "HP:0009765": {"columella": 1.0},  # Low hanging columella
    # Between nose and chin.
    "HP:0000343": {"philtrum_length": 1.0},  # Long philtrum
    "HP:0000322": {"philtrum_length": -1.0},  # Short philtrum
    "HP:0002002": {"philtrum_depth": 1.0},  # Deep philtrum
    "HP:0000319": {"philtrum_depth": -1.0},  # Smooth philtrum
    "HP:0000219": {"upper_lip": -1.0},  # Thin upper lip vermilion
    "HP:0000233": {"upper_lip": -0.9, "lower_lip": -0.9},  # Thin vermilion border
    "HP:0012471": {"upper_lip": 0.9, "lower_lip": 0.9},  # Thick vermilion border
    "HP:0000215": {"upper_lip": 1.0},  # Thick upper lip vermilion
    "HP:0000179": {"lower_lip": 1.0},  # Thick lower lip vermilion
    "HP:0000232": {"lower_lip": 0.9, "mouth_open": 0.3},  # Everted lower lip vermilion
    "HP:0010804": {"tent": 1.0},  # Tented upper lip vermilion
    "HP:0002263": {"tent": -0.8},  # Exaggerated cupid's bow
    "HP:0000154": {"mouth_width": 1.0},  # Wide mouth
    "HP:0000160": {"mouth_width": -1.0},  # Narrow mouth
    "HP:0002714": {"mouth_corners": 1.0},  # Downturned corners of mouth
    "HP:0000194": {"mouth_open": 1.0},  # Open mouth
    "HP:0010808": {"mouth_open": 0.8, "tongue": 1.0},  # Protruding tongue
    "HP:0000204": {"cleft": 1.0},  # Cleft upper lip
    # Outline.
    "HP:0000347": {"chin": -1.0},  # Micrognathia
    "HP:0000278": {"chin": -0.8},  # Retrognathia
    "HP:0000331": {"chin": -0.8},  # Short chin
    "HP:0000303": {"chin": 1.0},  # Mandibular prognathia
    "HP:0000307": {"chin_point": 1.0},  # Pointed chin
    "HP:0000276": {"face_width": -0.7, "chin": 0.4},  # Long face
    "HP:0000275": {"face_width": -1.0},  # Narrow face
    "HP:0000311": {"face_width": 0.9, "chin": -0.2},  # Round face
    "HP:0000283": {"face_width": 1.0},  # Broad face
    "HP:0000325": {"jaw": -1.0, "forehead_width": 0.5},  # Triangular face
    "HP:0000280": {"jaw": 0.8, "tip": 0.4, "upper_lip": 0.4, "lower_lip": 0.4},  # Coarse facial features
    "HP:0000293": {"cheeks": 1.0},  # Full cheeks
    "HP:0000272": {"cheeks": -1.0},  # Malar flattening
    "HP:0011800": {"cheeks": -0.8, "bridge_height": -0.3},  # Midface retrusion
    "HP:0002007": {"bossing": 1.0},  # Frontal bossing
    "HP:0011220": {"bossing": 0.8},  # Prominent forehead
    "HP:0000340": {"bossing": -1.0},  # Sloping forehead
    "HP:0000348": {"forehead_height": 1.0},  # High forehead
    "HP:0009890": {"forehead_height": 0.8},  # High anterior hairline
    "HP:0000294": {"forehead_height": -1.0},  # Low anterior hairline
    "HP:0000337": {"forehead_width": 1.0},  # Broad forehead
    "HP:0000341": {"forehead_width": -1.0},  # Narrow forehead
    "HP:0040195": {"skull": -1.0},  # Decreased head circumference
    "HP:0040194": {"skull": 1.0},  # Increased head circumference
    "HP:0000324": {"asymmetry": 1.0},  # Facial asymmetry
    # Ears.
    "HP:0000369": {"ear_height": -1.0},  # Low-set ears
    "HP:0000400": {"ear_size": 1.0},  # Macrotia
    "HP:0008551": {"ear_size": -1.0},  # Microtia
    "HP:0000411": {"ear_angle": 1.0},  # Protruding ear
}  # fmt: skip
"""What a term does to the face. A term below one of these does what that one does."""

PARAMETERS = tuple(sorted({parameter for effect in _EFFECTS.values() for parameter in effect}))
"""Names of the geometric parameters; a face is a vector in this order."""

_LIMIT = 1.4
_IDENTITY_NOISE = 0.22
_SHOWN = 0.5
"""Where something that a face has or has not begins to be drawn; identity alone hardly ever reaches it."""


def drawn_terms() -> tuple[str, ...]:
    """Ids of the terms that a face can show, without those below them; sorted."""
    return tuple(sorted(_EFFECTS))


@lru_cache(maxsize=65536)
def effect(term_id: str) -> Mapping[str, float]:
    """What a term does to the face: parameter -> amount; empty where it is not drawn.

    Args:
        term_id: A term in force. Its own row counts, else the sum of the rows of its nearest ancestors.
    """
    if term_id in _EFFECTS:
        return _EFFECTS[term_id]
    above = [ancestor for ancestor in ontology.ancestors(term_id) if ancestor in _EFFECTS]
    nearest = [a for a in sorted(above) if not any(a in ontology.ancestors(other) for other in above)]
    total: dict[str, float] = {}
    for ancestor in nearest:
        for parameter, amount in _EFFECTS[ancestor].items():
            total[parameter] = total.get(parameter, 0.0) + amount
    return total


@lru_cache(maxsize=65536)
def visible(term_id: str) -> bool:
    """Whether the face alone may tell of a term: it lies below `ontology.FACE`, or it is drawn.

    HPO files the distance of the eyes, the jaw and the ears beside the face, not below it.
    """
    return ontology.is_facial(term_id) or bool(effect(term_id))


def geometry(term_ids: Iterable[str]) -> NDArray[np.float64]:
    """The parameters that terms ask for, shape (len(PARAMETERS),), each within 1.4 of 0.

    Args:
        term_ids: Terms in force; those that are not drawn do nothing.
    """
    shape = np.zeros(len(PARAMETERS))
    for term_id in term_ids:
        for parameter, amount in effect(term_id).items():
            shape[PARAMETERS.index(parameter)] += amount
    return shape.clip(-_LIMIT, _LIMIT)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a face belongs to: all that has nothing to do with a disease."""

    skin: tuple[float, float, float]
    """RGB, 0 to 255."""
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    background: tuple[float, float, float]
    hair_length: float
    """0 short, 1 down to the jaw."""
    shape: tuple[float, ...]
    """What this person adds to the PARAMETERS."""


_SKIN = ((250, 224, 205), (236, 200, 172), (216, 172, 138), (178, 128, 92), (128, 86, 60), (88, 58, 42))
_HAIR = ((30, 24, 22), (58, 40, 30), (104, 70, 44), (168, 124, 72), (206, 176, 120), (128, 58, 34))
_IRIS = ((70, 48, 32), (104, 76, 44), (84, 116, 90), (92, 128, 160))


def draw_identity(rng: np.random.Generator, noise: float = _IDENTITY_NOISE) -> Identity:
    """Draws a person; nothing in it depends on a disease.

    Args:
        rng: Source of the draw.
        noise: Standard deviation of what the person adds to each parameter.
    """
    return Identity(
        skin=_between(_SKIN, rng),
        hair=_between(_HAIR, rng),
        iris=_between(_IRIS, rng),
        background=tuple(rng.uniform(60, 235) + rng.normal(0, 8, 3)),
        hair_length=float(rng.random()),
        shape=tuple(rng.normal(0, noise, len(PARAMETERS))),
    )


def _between(colours: tuple[tuple[int, int, int], ...], rng: np.random.Generator) -> tuple[float, float, float]:
    """A colour between two neighbours of a row."""
    place = rng.uniform(0, len(colours) - 1)
    low = min(int(place), len(colours) - 2)
    mixed = np.array(colours[low]) + (place - low) * (np.array(colours[low + 1]) - np.array(colours[low]))
    return (float(mixed[0]), float(mixed[1]), float(mixed[2]))


def draw_face(shape: NDArray[np.float64], identity: Identity, rng: np.random.Generator) -> Image.Image:
    """Draws a face, cropped and aligned as face crops are, up to a small turn and shift.

    Args:
        shape: What `geometry` returned, perhaps scaled; identity is added here.
        identity: Whose face it is.
        rng: Source of pose, light and grain.

    Returns:
        An RGB image of SIZE x SIZE.
    """
    values = np.clip(shape + np.array(identity.shape), -_LIMIT - 0.3, _LIMIT + 0.3)
    drawing = _Drawing(dict(zip(PARAMETERS, values.tolist(), strict=True)), identity, rng)
    for part in (drawing.ears, drawing.head, drawing.shading, drawing.eyes, drawing.brows, drawing.nose, drawing.mouth):
        part()
    return _lit(drawing.canvas.resize((SIZE, SIZE), Image.Resampling.BOX), rng)


def _lit(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Light from one side, and grain."""
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    light = rng.normal(1, 0.07) + rng.normal(0, 0.07) * columns + rng.normal(0, 0.05) * rows
    pixels = np.asarray(image, dtype=float) * light[..., None] + rng.normal(0, 3.0, (SIZE, SIZE, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


Point = tuple[float, float]
_SCALE = 2
"""Canvas pixels per pixel of the face: drawn larger, then averaged."""
_EYE_LINE = 46.0


class _Drawing:
    """One face on its canvas. Coordinates are those of the finished face, the middle line at x = 0."""

    def __init__(self, values: Mapping[str, float], identity: Identity, rng: np.random.Generator) -> None:
        self.v, self.who = values, identity
        turn, grow = np.deg2rad(rng.normal(0, 1.5)), _SCALE * rng.normal(1, 0.015)
        self._turn = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * grow
        self._middle = np.array([SIZE / 2, SIZE / 2]) * _SCALE + rng.normal(0, 0.7, 2) * _SCALE
        self.canvas = Image.new("RGB", (SIZE * _SCALE, SIZE * _SCALE), _rgb(identity.background))
        self._pen = ImageDraw.Draw(self.canvas)
        self._skew = 5 * values["asymmetry"] if abs(values["asymmetry"]) > _SHOWN else 0.0

    def _place(self, points: Iterable[Point]) -> list[tuple[float, float]]:
        flat = np.array(list(points), dtype=float)
        flat[:, 1] += self._skew * np.sin(flat[:, 0] / 30) * (flat[:, 1] > _EYE_LINE - 12)
        moved = (flat - [0, SIZE / 2]) @ self._turn.T + self._middle
        return [(float(x), float(y)) for x, y in moved]

    def _fill(self, points: Iterable[Point], colour: Iterable[float]) -> None:
        self._pen.polygon(self._place(points), fill=_rgb(colour))

    def _line(self, points: Iterable[Point], colour: Iterable[float], width: float) -> None:
        self._pen.line(self._place(points), fill=_rgb(colour), width=max(1, round(width * _SCALE)), joint="curve")

    def _ellipse(self, x: float, y: float, wide: float, high: float, colour: Iterable[float]) -> None:
        angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        self._fill(zip(x + wide * np.cos(angles), y + high * np.sin(angles), strict=True), colour)

    def _skin(self, factor: float) -> tuple[float, float, float]:
        """The skin, darker or lighter."""
        r, g, b = self.who.skin
        return (r * factor, g * factor**1.1, b * factor**1.15)

    def _half_width(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Half of the head's width at heights."""
        v = self.v
        top = 14 - 5 * v["skull"]
        brow = 26 + 3.5 * v["forehead_width"] + 3 * v["skull"]
        cheek = 26 + 3.5 * v["face_width"] + 2.5 * v["cheeks"]
        jaw = 20.5 + 3 * v["face_width"] + 2 * v["cheeks"] + 4 * v["jaw"] + 1.5 * v["chin"]
        tip = 9.5 - 4.5 * v["chin_point"] + 2 * v["jaw"] + v["chin"]
        bottom = self._chin()
        heights = np.array([top, top + 4, top + 12, 38.0, 57.0, 71.0, bottom - 3, bottom])
        widths = np.array([3.0, 0.58 * brow, 0.88 * brow, brow, cheek, jaw, tip, 2.0])
        return np.asarray(np.interp(y, heights, widths))

    def _chin(self) -> float:
        return 86.5 + 5.5 * self.v["chin"]

    def head(self) -> None:
        """Hair behind, the outline, and the hairline."""
        v, who = self.v, self.who
        top = 14 - 5 * v["skull"]
        heights = np.linspace(top, self._chin(), 36)
        half = np.convolve(np.pad(self._half_width(heights), 2, mode="edge"), np.ones(5) / 5, "valid")
        right = list(zip(half, heights, strict=True))
        left = [(-x, y) for x, y in reversed(right)]
        self._fill([*right, *left], self._skin(1.0))
        hairline = 25 - 5.5 * v["forehead_height"]
        cap = [(x * 1.04 + 0.8, y - 1.2) for x, y in right if y < 42]
        edge = [(cap[-1][0] - 3.0, cap[-1][1]), (cap[-1][0] * 0.82, hairline + 5), (0.45 * cap[-1][0], hairline)]
        outer = [(-x, y) for x, y in reversed(edge)] + [(-x, y) for x, y in reversed(cap)]
        self._fill([*cap, *edge, *outer], who.hair)
        if who.hair_length > 0.5:
            for side in (-1, 1):
                lock = [(28, 30), (34, 40), (35, 96), (29, 96), (27, 60)]
                self._fill([(side * x, y) for x, y in lock], who.hair)

    def ears(self) -> None:
        """Height, size and angle of the ears; drawn before the head, which covers their roots."""
        v = self.v
        y = 52 - 7.5 * v["ear_height"]
        high, wide = 8 + 3.2 * v["ear_size"], 4.4 + 1.2 * v["ear_size"] + 2.6 * max(v["ear_angle"], -0.5)
        for side in (-1, 1):
            x = side * (float(self._half_width(np.array([y]))[0]) + 0.4 * wide)
            self._ellipse(x, y, wide, high, self._skin(0.9))
            self._ellipse(x, y, 0.5 * wide, 0.6 * high, self._skin(0.75))

    def shading(self) -> None:
        """What stands out is light, what lies back is dark: forehead, cheeks, ridges above the eyes."""
        v = self.v
        if abs(v["bossing"]) > 0.1:
            for side in (-1, 1):
                self._ellipse(side * 10, 31, 7, 4.2, self._skin(1 + 0.13 * v["bossing"]))
        for side in (-1, 1):
            self._ellipse(side * 17, 61, 6, 4.5, self._skin(1 + 0.1 * v["cheeks"]))
        if abs(v["brow_ridge"]) > 0.1:
            self._fill([(-23, 36.5), (23, 36.5), (21, 40), (-21, 40)], self._skin(1 + 0.1 * v["brow_ridge"]))

    def eyes(self) -> None:
        """Both eyes."""
        for side in (-1, 1):
            self._eye(side)

    def _eye(self, side: int) -> None:
        v = self.v
        x, half = side * (12.5 + 3.4 * v["eye_distance"]), 6.2 + 1.7 * v["eye_length"]
        opening = max(1.2, 3.1 + 1.3 * v["eye_opening"])
        slope = 0.36 * v["eye_slant"]
        along = np.linspace(-1, 1, 13)
        bow = (1 - along**2) ** 0.8

        def curve(height: float) -> list[Point]:
            return [
                (x + side * half * a, _EYE_LINE - slope * half * a + height * b)
                for a, b in zip(along, bow, strict=True)
            ]

        if v["eye_depth"] > 0.1:
            self._ellipse(x, _EYE_LINE - 1, half + 2.5, opening + 3, self._skin(1 - 0.28 * v["eye_depth"]))
        if v["eye_bag"] > 0.1:
            self._ellipse(x, _EYE_LINE + 4.5, half, 3.0, self._skin(1 + 0.12 * v["eye_bag"]))
            self._line(curve(opening + 4.5)[2:-2], self._skin(0.8), 0.6)
        upper, lower = curve(-opening), curve(opening * 0.8)
        self._fill([*upper, *reversed(lower)], (244, 244, 240))
        self._ellipse(x, _EYE_LINE, min(2.9, opening + 0.6), min(2.9, opening), self.who.iris)
        self._ellipse(x, _EYE_LINE, 1.2, min(1.2, opening), (16, 14, 14))
        dropped = curve(-opening + 1.7 * opening * max(0.0, v["lid"]) * 0.6)
        self._fill([*[(px, py - 0.4) for px, py in upper], *reversed(dropped)], self._skin(0.9))
        self._line(dropped, self._skin(0.42), 0.8)
        if v["lashes"] > _SHOWN:
            for a in (3, 5, 7, 9, 11):
                px, py = dropped[a]
                self._line([(px, py), (px + side * 0.9, py - 2.6 * v["lashes"])], (24, 20, 20), 0.5)
        if v["epicanthus"] > _SHOWN:
            inner = x - side * half
            fold = [
                (inner - side * 1.6, _EYE_LINE - 4),
                (inner + side * 3.2, _EYE_LINE - 3),
                (inner + side * 1.4, _EYE_LINE + 4),
            ]
            self._fill(fold, self._skin(0.97))
            self._line(fold[1:], self._skin(0.6), 0.8 * v["epicanthus"] + 0.2)

    def brows(self) -> None:
        """Thickness, arch, and what grows between them."""
        v = self.v
        thick = 1.9 * (1 + 0.75 * v["brow_thickness"])
        for side in (-1, 1):
            along = np.linspace(0, 1, 11)
            x = side * (5.5 + 16 * along + 2 * v["eye_distance"])
            y = 38 - (2.2 + 2.8 * v["brow_arch"]) * np.sin(np.pi * along**0.8) + 1.2 * along
            if thick > 0.35:
                body = thick * (1 - 0.6 * along)
                points = [*zip(x, y - body / 2, strict=True), *reversed(list(zip(x, y + body / 2, strict=True)))]
                self._fill(points, [0.8 * c for c in self.who.hair])
        if v["synophrys"] > _SHOWN:
            high = 1.4 * v["synophrys"]
            self._fill(
                [(-8, 38 - high), (8, 38 - high), (8, 38.6 + high), (-8, 38.6 + high)],
                [0.85 * c for c in self.who.hair],
            )

    def nose(self) -> None:
        """Bridge, tip, nostrils."""
        v = self.v
        end, half = self._nose_end(), 5.6 + 1.9 * v["nose_width"]
        bridge = 2.7 + 1.5 * v["bridge_width"]
        contrast = 0.16 + 0.12 * v["bridge_height"]
        for side in (-1, 1):
            shade = [
                (side * bridge, 40.5),
                (side * (bridge + 1.6), 41),
                (side * (half + 0.4), end - 3),
                (side * (half - 1.6), end - 3),
            ]
            self._fill(shade, self._skin(1 - contrast))
        self._fill(
            [(-0.6 * bridge, 41), (0.6 * bridge, 41), (1.6, end - 4), (-1.6, end - 4)], self._skin(1 + 0.7 * contrast)
        )
        if v["bridge_height"] < -0.3:
            self._line([(-bridge - 2.5, 44.5), (bridge + 2.5, 44.5)], self._skin(1 + 0.25 * v["bridge_height"]), 1.2)
        self._ellipse(0, end - 2.5, 3.4 + 1.8 * v["tip"], 2.9 + 0.9 * v["tip"], self._skin(1.1))
        for side in (-1, 1):
            self._ellipse(side * half * 0.82, end - 1.6, 1.9, 2.1, self._skin(0.92))
            size = 1.0 + 0.8 * max(-0.7, v["nares"])
            self._ellipse(side * 0.52 * half, end - 0.4 - 0.6 * v["nares"], 1.5 * size, 0.95 * size, self._skin(0.35))
        self._line([(-0.9 * half, end + 0.7), (0.9 * half, end + 0.7)], self._skin(0.72), 0.7)
        if v["columella"] > _SHOWN:
            self._ellipse(0, end + 1.2, 1.5, 2.0 * v["columella"], self._skin(1.05))

    def _nose_end(self) -> float:
        return 62.0 + 3.2 * self.v["nose_length"] - 1.0 * self.v["nares"]

    def mouth(self) -> None:
        """Philtrum, lips, what lies between them, and a cleft."""
        v = self.v
        start = self._nose_end() + 1.2
        line = 62.0 + 11.0 + 2.6 * v["philtrum_length"] + 0.5 * (start - 63.2)
        half = 9.5 + 2.8 * v["mouth_width"]
        upper, lower = max(0.4, 2.2 + 1.8 * v["upper_lip"]), max(0.5, 2.8 + 2.2 * v["lower_lip"])
        depth = 0.16 + 0.15 * v["philtrum_depth"]
        if depth > 0.03:
            self._fill([(-1.1, start), (1.1, start), (1.7, line - upper), (-1.7, line - upper)], self._skin(1 - depth))
            for side in (-1, 1):
                self._line([(side * 1.5, start), (side * 2.2, line - upper)], self._skin(1 + 0.6 * depth), 0.6)
        along = np.linspace(-1, 1, 17)
        x, drop = half * along, (0.4 + 3.0 * v["mouth_corners"]) * along**2
        bow = 0.5 * np.exp(-((along / 0.16) ** 2)) - 0.5 * np.exp(-(((np.abs(along) - 0.28) / 0.2) ** 2))
        peak = np.clip(1 - np.abs(along) * 1.6, 0, 1)
        top = (
            line + drop - upper * (1 - along**2) ** 0.6 + (1 - 1.3 * v["tent"]) * bow - 2.0 * max(0.0, v["tent"]) * peak
        )
        gap = 3.6 * max(0.0, v["mouth_open"]) * (1 - along**2)
        bottom = line + drop + gap + lower * (1 - along**2) ** 0.6
        red = (self.who.skin[0] * 0.5 + 88, self.who.skin[1] * 0.45 + 18, self.who.skin[2] * 0.45 + 24)
        upper_edge, middle = list(zip(x, top, strict=True)), list(zip(x, line + drop, strict=True))
        lower_middle, lower_edge = list(zip(x, line + drop + gap, strict=True)), list(zip(x, bottom, strict=True))
        self._fill([*lower_middle, *reversed(lower_edge)], red)
        self._fill([*upper_edge, *reversed(middle)], [0.92 * c for c in red])
        self._fill([*middle, *reversed(lower_middle)], (58, 20, 24))
        self._line(middle, (96, 36, 40), 0.7)
        if v["tongue"] > _SHOWN:
            self._ellipse(0, line + 3.4, 0.42 * half, 2.8 * v["tongue"], (214, 104, 112))
        if v["cleft"] > _SHOWN:
            wide = 1.9 * v["cleft"]
            self._fill([(2.5, start), (4.2, start), (2.6 + wide, line + 0.8), (2.6 - wide, line + 0.8)], (70, 24, 28))
        self._line([(-4, self._chin() - 5.5), (4, self._chin() - 5.5)], self._skin(0.88), 0.7)


def _rgb(colour: Iterable[float]) -> tuple[int, int, int]:
    r, g, b = (max(0, min(255, round(channel))) for channel in colour)
    return (r, g, b)
