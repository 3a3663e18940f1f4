"""Scores of all labels: what a student and a retriever think of every label, one array per variant; and rankings.

A folder with `index.json` (the samples and labels that rows and columns stand for) and `<variant>.npy`: float32, shape
(n_samples, n_labels), natural logarithms for students. Each row is written once, when its answer comes.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mint_core.errors import ContractError, DataError
from mint_core.files import read_json, write_json
from mint_core.interfaces import Retriever
from mint_core.names import recognise
from mint_core.types import LabelSpace, Prediction, Ranking, Sample

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
        """A table without arrays."""
        table = cls(folder, tuple(samples), labels.names)
        table.begin(())
        return table

    def begin(self, variants: Iterable[str]) -> None:
        """Writes the index and empty arrays; what an interrupted stage left of them stays.

        Args:
            variants: Those that several processes will write.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / INDEX, {"samples": self.samples, "labels": self.labels})
        for variant in variants:
            with self.writer(variant):
                pass

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
    def position(self) -> dict[str, int]:
        """Row by sample id."""
        return {sample: position for position, sample in enumerate(self.samples)}

    def path(self, variant: str) -> Path:
        """The file of one variant."""
        return self.folder / f"{variant}.npy"

    def rows(self, variant: str, samples: Iterable[str]) -> Rows:
        """The scores of some samples, in their order; only these are read into memory."""
        return self.mapped(variant)[[self.position[sample] for sample in samples]]

    def mapped(self, variant: str) -> Rows:
        """The scores of all samples, left on disk; `position` tells the rows."""
        scores: Rows = np.load(self.path(variant), mmap_mode="r")
        return scores

    def checksum(self, variant: str, sample: str) -> int | None:
        """Of one row as it is on disk; None where it is not there."""
        try:
            (row,) = self.rows(variant, [sample])
        except (OSError, ValueError, KeyError, IndexError):
            return None
        return zlib.crc32(row.astype("<f4").tobytes())

    def writer(self, variant: str) -> ScoreWriter:
        """Writes rows of one variant, in any order."""
        return ScoreWriter(self, variant)


class ScoreWriter:
    """Puts rows of one variant into its array on disk, each into its place. Use it as a context manager.

    An array that is there is continued.
    """

    def __init__(self, table: ScoreTable, variant: str) -> None:
        self._table, path = table, table.path(variant)
        shape = (len(table.samples), len(table.labels))
        self._stream = path.open("r+b" if path.exists() else "w+b")
        npy.write_array_header_1_0(self._stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
        self._begin = self._stream.tell()
        size = self._begin + 4 * shape[0] * shape[1]
        if os.fstat(self._stream.fileno()).st_size < size:
            self._stream.truncate(size)  # rows that nobody wrote are zeros, and the array can be read at any time

    def __enter__(self) -> ScoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def put(self, sample: str, scores: NDArray[np.float32]) -> int:
        """Writes one row and hands it to the operating system; returns its checksum."""
        row = scores.astype("<f4").tobytes()
        self._stream.seek(self._begin + len(row) * self._table.position[sample])
        self._stream.write(row)
        self._stream.flush()
        return zlib.crc32(row)


@dataclass(frozen=True)
class StudentRanking:
    """All labels for one sample, as the student sees them."""

    ranking: Ranking
    """Best first; the probabilities behind `log_probs` sum to 1 over the label space."""
    missing: float
    """Probability that the student would rather write something that is no label, in [0, 1]."""

    @cached_property
    def _probabilities(self) -> dict[str, float]:
        found = np.exp(self.ranking.log_probs.astype(np.float64))
        return dict(zip(self.ranking.labels, found.tolist(), strict=True))

    def probability(self, label: str) -> float:
        """Probability of a label among all labels; of the true one, it is what a calibration curve is drawn from.

        Raises:
            KeyError: The label is not in the label space.
        """
        return self._probabilities[label]

    def bottom(self, q: int) -> tuple[str, ...]:
        """The q labels that the student holds least likely, the least likely one last."""
        return self.ranking.labels[len(self.ranking.labels) - q :]


def rank(sample_id: str, scores: NDArray[np.float32], labels: LabelSpace) -> StudentRanking:
    """Ranks the labels of one sample by scores of shape (n_labels,) from `mint_core.answering.score.score`."""
    exact = scores.astype(np.float64)
    whole = float(np.logaddexp.reduce(exact))
    order = np.argsort(-exact, kind="stable")
    ranking = Ranking(sample_id, tuple(labels.names[c] for c in order), (exact - whole)[order].astype(np.float32))
    return StudentRanking(ranking, float(np.clip(1 - np.exp(whole), 0, 1)))


def read_student_rankings(run: Path, variant: str = "aligned") -> dict[str, StudentRanking]:
    """The rankings of one variant by sample id.

    Args:
        run: The run folder.
        variant: As in predictions.jsonl.

    Raises:
        DataError: The run did not score all labels, or has no such variant.
    """
    folder = run / FOLDER
    table = ScoreTable.read(folder)
    if table is None:
        raise DataError(f"{run} holds no scores of all labels; make the run with --set predict.decode=score.")
    if variant not in table.variants:
        raise DataError(f"{folder} holds no scores of '{variant}'; available: {', '.join(table.variants)}.")
    labels = LabelSpace(table.labels)
    rows = table.rows(variant, table.samples)
    return {sample: rank(sample, row, labels) for sample, row in zip(table.samples, rows, strict=True)}
