"""Scores of all labels: what a student and a retriever think of every label, one array per variant.

A folder with `index.json` (the samples and labels that rows and columns stand for) and `<variant>.npy`: float32, shape
(n_samples, n_labels), natural logarithms for students. Each row is written once, when its answer comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mint_core.errors import ContractError
from mint_core.files import read_json, write_json
from mint_core.interfaces import Retriever
from mint_core.names import recognise
from mint_core.types import LabelSpace, Prediction, Sample

FOLDER = "scores"
"""Name of the folder in a run."""
INDEX = "index.json"
Rows = NDArray[np.float32]
"""(n_samples, n_labels), in the order of the label space."""


def retriever_scores(retriever: Retriever, samples: Sequence[Sample], labels: LabelSpace) -> Rows | None:
    """How well every label fits every sample; None where the retriever ranks no labels.

    Raises:
        ContractError: The scores have another shape, or one of them is NaN or +inf.
    """
    scores = retriever.label_scores(samples)
    if scores is None:
        return None
    if scores.shape != (len(samples), len(labels)):
        expected = (len(samples), len(labels))
        raise ContractError(f"Retriever '{retriever.name}' returned scores of shape {scores.shape}, not {expected}.")
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise ContractError(f"Retriever '{retriever.name}' returned a score that is NaN or infinite.")
    return scores.astype(np.float32)


def scores_of(predictions: Sequence[Prediction], labels: LabelSpace) -> Rows:
    """The scores of answers: as they are where all labels were scored, else minus the place in the list.

    A name that a student wrote counts as the label that it is recognised as (`mint_core.names`); what is not listed
    gets -inf.

    Args:
        predictions: Answers of one student.
        labels: The label space.
    """
    rows = np.full((len(predictions), len(labels)), -np.inf, np.float32)
    for row, prediction in zip(rows, predictions, strict=True):
        if prediction.scores is not None:
            row[:] = prediction.scores
            continue
        for place, known in enumerate(recognise(prediction.labels, labels), 1):
            if known is not None and np.isneginf(row[labels.index(known)]):
                row[labels.index(known)] = -place
    return rows


@dataclass(frozen=True)
class ScoreTable:
    """The arrays of one folder."""

    folder: Path
    samples: tuple[str, ...]
    labels: tuple[str, ...]

    @classmethod
    def create(cls, folder: Path, samples: Iterable[str], labels: LabelSpace) -> ScoreTable:
        """An empty table; arrays that an interrupted stage left there stay."""
        folder.mkdir(parents=True, exist_ok=True)
        table = cls(folder, tuple(samples), labels.names)
        write_json(folder / INDEX, {"samples": table.samples, "labels": table.labels})
        return table

    @classmethod
    def read(cls, folder: Path) -> ScoreTable | None:
        """The table in a folder; None where nothing was scored."""
        if not (folder / INDEX).is_file():
            return None
        index: dict[str, Any] = read_json(folder / INDEX)
        return cls(folder, tuple(index["samples"]), tuple(index["labels"]))

    @property
    def variants(self) -> list[str]:
        """Names of the variants that were scored."""
        return sorted(path.stem for path in self.folder.glob("*.npy"))

    @cached_property
    def _position(self) -> dict[str, int]:
        return {sample: position for position, sample in enumerate(self.samples)}

    def path(self, variant: str) -> Path:
        """The file of one variant."""
        return self.folder / f"{variant}.npy"

    def rows(self, variant: str, samples: Iterable[str]) -> Rows:
        """The scores of some samples, in their order; only these are read into memory."""
        scores: Rows = np.load(self.path(variant), mmap_mode="r")
        return scores[[self._position[sample] for sample in samples]]

    def writer(self, variant: str) -> ScoreWriter:
        """Writes rows of one variant, in any order."""
        return ScoreWriter(self.path(variant), (len(self.samples), len(self.labels)), self._position)


class ScoreWriter:
    """Puts rows into an array on disk, each into its place. Use it as a context manager.

    Args:
        path: The file; one that is there is continued.
        shape: (n_samples, n_labels).
        position: Row by sample id.
    """

    def __init__(self, path: Path, shape: tuple[int, int], position: dict[str, int]) -> None:
        self._shape, self._position = shape, position
        self._stream = path.open("r+b" if path.exists() else "w+b")
        npy.write_array_header_1_0(self._stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
        self._begin = self._stream.tell()

    def __enter__(self) -> ScoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def put(self, sample: str, scores: NDArray[np.float32]) -> None:
        """Writes one row and hands it to the operating system."""
        self._stream.seek(self._begin + 4 * self._shape[1] * self._position[sample])
        self._stream.write(scores.astype("<f4").tobytes())
        self._stream.flush()
