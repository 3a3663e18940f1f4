"""A student's ranking of the whole label space, from the scores that `decode=score` leaves in a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mint_core.answering.scores import FOLDER, ScoreTable
from mint_core.errors import DataError
from mint_core.types import LabelSpace, Ranking

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    """Ranks the labels of one sample.

    Args:
        sample_id: Written into the ranking.
        scores: (n_labels,) natural logarithms from `mint_core.answering.score.score`, in the order of the label space.
        labels: The label space.
    """
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
