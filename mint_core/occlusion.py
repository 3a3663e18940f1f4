"""An image some of whose regions are covered, on a grid of squares."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from mint_core.types import ImageRef

if TYPE_CHECKING:
    from PIL.Image import Image


class Occluded(ImageRef):
    """An image with regions in its own mean colour, which says nothing of what stood there and adds no edge of black.

    Args:
        image: The whole image.
        grid: The image has grid x grid regions, numbered row by row.
        gone: Numbers of those that are covered.
    """

    def __init__(self, image: ImageRef, grid: int, gone: Collection[int]) -> None:
        self.image, self.grid, self.gone = image, grid, tuple(sorted(gone))

    @property
    def key(self) -> str:
        """Names the image, the grid and the regions."""
        return f"{self.image.key}-{self.grid}-{','.join(map(str, self.gone))}"

    def open(self) -> Image:
        """See `ImageRef.open`."""
        from PIL import Image

        pixels = np.array(self.image.open())  # (height, width, 3)
        mean = pixels.reshape(-1, pixels.shape[-1]).mean(0).round().astype(pixels.dtype)
        height, width = pixels.shape[:2]
        for number in self.gone:
            row, column = divmod(number, self.grid)
            rows = slice(row * height // self.grid, (row + 1) * height // self.grid)
            columns = slice(column * width // self.grid, (column + 1) * width // self.grid)
            pixels[rows, columns] = mean
        return Image.fromarray(pixels)
