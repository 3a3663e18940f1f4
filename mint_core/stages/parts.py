"""Rankings of some hundred samples each, kept while a labelling is at work: several processes make them side by side.

What an interruption left whole is not made again, by however many processes the same command goes on. Where the cuts
lie depends on the number of samples alone, so that the rankings do not depend on the number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mint_core.files import replaced, seal_file, sealed_file

SIZE = 512
"""Samples of a part: a multiple of the usual batch sizes, so that no batch is cut."""


class Parts:
    """The parts of one labelling.

    Args:
        folder: Where they lie; made where it is absent.
        count: Number of samples.
        size: Samples of a part.
    """

    def __init__(self, folder: Path, count: int, size: int = SIZE) -> None:
        self._folder, self._count, self._size = folder, count, size
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def all(self) -> list[slice]:
        """The samples of each part, in order."""
        starts = range(0, self._count, self._size)
        return [slice(begin, min(begin + self._size, self._count)) for begin in starts]

    @property
    def missing(self) -> list[slice]:
        """Those that are not there, or not as they were written."""
        return [part for part in self.all if not sealed_file(self._path(part))]

    def write(self, part: slice, log_probs: NDArray[np.float32]) -> None:
        """Keeps a part, shape (samples of the part, n_labels)."""
        path = self._path(part)
        with replaced(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, log_probs.astype(np.float32))
        seal_file(path)

    def read(self, together: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """All rankings in order, those of `together` parts at a time."""
        parts = self.all
        for begin in range(0, len(parts), together):
            some = parts[begin : begin + together]
            rows = [np.load(self._path(part), allow_pickle=False) for part in some]
            yield slice(some[0].start, some[-1].stop), np.concatenate(rows)

    def _path(self, part: slice) -> Path:
        return self._folder / f"{part.start:09d}.npy"
