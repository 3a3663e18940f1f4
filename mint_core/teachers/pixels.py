"""Features of an image that need no model: colours, texture and a coarse look, 98 numbers that any machine makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

SIZE = 96
"""Edge to which an image is scaled, in pixels."""
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BINS = 8
_COARSE = 5


def pixel_features(image: Image) -> NDArray[np.float32]:
    """Colour, texture and layout of an RGB image, shape (98,).

    Red, green, blue and grey: mean, standard deviation and five quantiles each (28). Hues, weighted by saturation
    (8 + 1). At three scales: directions of edges, weighted by their strength (8), and the strength's mean and standard
    deviation (2); the share of pixels that are brighter than their left or upper neighbour (2). A 5 x 5 thumbnail (25).
    """
    from PIL import Image as pillow

    rgb = np.asarray(image.convert("RGB").resize((SIZE, SIZE), pillow.Resampling.BOX), np.float64) / 255
    grey = rgb.mean(-1)
    found: list[Any] = []
    for channel in (*np.moveaxis(rgb, -1, 0), grey):
        found += [channel.mean(), channel.std(), *np.quantile(channel, _QUANTILES)]
    found += [*_hues(rgb)]
    scale = grey
    for _ in range(3):
        found += [*_edges(scale)]
        scale = scale.reshape(len(scale) // 2, 2, -1, 2).mean((1, 3))
    thumbnail = image.convert("L").resize((_COARSE, _COARSE), pillow.Resampling.BOX)
    return np.array([*found, *np.asarray(thumbnail, np.float64).ravel() / 255], np.float32)


def _hues(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """A histogram of hues and the mean saturation, (9,): the hue is the angle around the axis of greys."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    across, along = np.sqrt(3) * (green - blue), 2 * red - green - blue
    chroma = np.hypot(across, along)
    return np.append(_angles(np.arctan2(across, along), chroma), chroma.mean())


def _edges(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions and strength of edges and the shares of rising steps, (12,)."""
    down, right = np.gradient(grey)
    strength = np.hypot(down, right)
    directions = _angles(np.arctan2(down, right), strength)
    rising = [(np.diff(grey, axis=axis) > 0).mean() for axis in (0, 1)]
    return np.array([*directions, strength.mean(), strength.std(), *rising])


def _angles(angle: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """A histogram of angles (8,) that sums to 1; zeros where nothing weighs."""
    bins = ((angle / (2 * np.pi) % 1) * _BINS).astype(int) % _BINS
    counts = np.bincount(bins.ravel(), weight.ravel(), _BINS)
    shares: NDArray[np.float64] = counts / max(float(counts.sum()), 1e-9)
    return shares
