"""Fusion, the best passages, the best per label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from mint_rag import ranking
from mint_rag.ranking import answer, best_of, best_per_label, fuse


class Fixed:
    """Scores by the text's number."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        self.rows = np.array(rows, np.float32)

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.rows[[int(text) for text in texts]]


def test_fusion_sums_reciprocal_ranks_of_what_was_found() -> None:
    first, second = np.array([[3, 2, 0, 0]], np.float32), np.array([[0, 5, 1, 0]], np.float32)
    expected = [1 / 61, 1 / 62 + 1 / 61, 1 / 62, 0]
    np.testing.assert_allclose(fuse([first, second])[0], expected, rtol=1e-6)


def test_the_best_are_above_zero_and_of_equal_ones_the_first() -> None:
    assert best_of(np.array([1, 3, 3, 0, 2], np.float32), 2).tolist() == [1, 2]
    assert best_of(np.array([1, 3, 3, 0, 2], np.float32), 9).tolist() == [1, 2, 4, 0]
    assert best_of(np.array([2, 2, 2], np.float32), 2).tolist() == [0, 1]
    assert best_of(np.zeros(3, np.float32), 2).tolist() == []


def test_a_label_has_the_score_of_its_best_passage() -> None:
    scores = np.array([[1, 5, 3, 0], [2, 0, 9, 1]], np.float32)
    found = best_per_label(scores, np.array([2, -1, 2, 0]), 4)
    assert found.tolist() == [[0, -np.inf, 3, -np.inf], [1, -np.inf, 9, -np.inf]]
    assert np.isneginf(best_per_label(scores, np.full(4, -1), 2)).all()


@pytest.mark.parametrize("cells", [1, 2**24])
def test_answers_keep_the_order_of_the_texts_whatever_is_held(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_CELLS", cells)
    method = Fixed([[1, 2, 0], [3, 0, 0], [0, 1, 5]])
    found = answer(["2", "0", "1"], [method], np.array([0, 1, 1]), 2, top=2)
    assert found.passages == [[2, 1], [1, 0], [0]]
    assert found.scores == [[5, 1], [2, 1], [3]]
    assert found.labels.tolist() == [[0, 5], [1, 2], [3, 0]]
    assert answer([], [method], np.array([0, 1, 1]), 2, top=2).passages == []


def test_passages_that_are_not_retrieved_count_in_ranks() -> None:
    method = Fixed([[3, 2, 1]])
    found = answer(["0"], [method, method], np.array([-1, 0, -1]), 1, top=3, retrieved=np.array([False, True, False]))
    assert found.passages == [[1]]
    assert found.labels[0, 0] == pytest.approx(2 / 62)
