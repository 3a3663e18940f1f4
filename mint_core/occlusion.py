"""An image some of whose regions are covered, on a grid of squares."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from mint_core.types import ImageRef

if TYPE_CHECKING:
    from PIL.Image import Image


class Occluded(ImageRef):
    """An image with regions in the mean colour of what is left of it: nothing of what stood there shows.

    The mean of the whole image, or a blur, would still tell the colour of what is covered; black is an object.

    Args:
        image: The whole image.
        grid: The image has grid x grid regions, numbered row by row.
        gone: Numbers of those that are covered; not all.
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
        height, width = pixels.shape[:2]
        covered = np.zeros((height, width), bool)
        for number in self.gone:
            row, column = divmod(number, self.grid)
            rows = slice(row * height // self.grid, (row + 1) * height // self.grid)
            columns = slice(column * width // self.grid, (column + 1) * width // self.grid)
            covered[rows, columns] = True
        if not covered.all():
            pixels[covered] = pixels[~covered].mean(0).round().astype(pixels.dtype)
        return Image.fromarray(pixels)
