"""A student's ranking combined with a retriever's, by hand."""

import numpy as np
import pytest

from mint_core.answering.scores import ScoreTable, scores_of
from mint_core.retrieval.fusion import (
    fit_weight,
    order,
    ranks,
    reciprocal_rank,
    standardised,
    student_votes,
    weighted,
)
from mint_core.types import LabelSpace, Prediction

INF = float("inf")
ALL = np.ones(4, bool)
LABELS = LabelSpace(("Colon", "Liver", "Skin", "Kidney"))


def test_ranks_by_hand() -> None:
    """Two labels share ranks 2 and 3; what is not ranked has none."""
    assert ranks(np.array([[1.0, 5.0, 1.0, -INF]])).tolist() == [[2.5, 1.0, 2.5, INF]]


def test_reciprocal_ranks_by_hand() -> None:
    """Colon 1/61 + 1/62; the retriever does not know Liver, so that 1/62 counts twice; Skin 1/61; Kidney nothing."""
    student = np.array([[3.0, 2.0, -INF, -INF]])
    retriever = np.array([[0.5, -INF, 0.9, -INF]])
    fused = reciprocal_rank(student, retriever, ALL)
    assert fused[0].tolist() == pytest.approx([1 / 61 + 1 / 62, 2 / 62, 1 / 61, 0])
    assert order(fused)[0].tolist() == [0, 1, 2, 3]


def test_a_student_has_no_rank_for_what_it_was_never_taught() -> None:
    """Skin and Kidney were not taught: Skin takes the retriever's rank twice, and nobody speaks for Kidney."""
    student = np.array([[2.0, 1.0, 4.0, 3.0]])
    retriever = np.array([[0.5, 0.1, 0.9, -INF]])
    fused = reciprocal_rank(student, retriever, np.array([True, True, False, False]))
    assert fused[0].tolist() == pytest.approx([1 / 61 + 1 / 62, 1 / 62 + 1 / 63, 2 / 61, 0])


def test_labels_that_a_retriever_cannot_tell_apart_keep_the_students_order() -> None:
    student = np.array([[-3.0, -1.0, -2.0, -4.0]])
    assert order(reciprocal_rank(student, np.zeros((1, 4)), ALL))[0].tolist() == [1, 2, 0, 3]
    assert order(weighted(student, np.zeros((1, 4)), 256.0, ALL))[0].tolist() == [1, 2, 0, 3]
    assert order(weighted(student, np.full((1, 4), -INF), 256.0, ALL))[0].tolist() == [1, 2, 0, 3]


def test_weighted_scores_by_hand() -> None:
    """Probabilities 1/4 and 3/4 of what the student gives; the retriever's scores 1, 3 have mean 2 and deviation 1."""
    student = np.log(np.array([[0.1, 0.3]]))
    entropy = -0.25 * np.log(0.25) - 0.75 * np.log(0.75)
    fused = weighted(student, np.array([[3.0, 1.0]]), 0.5, np.ones(2, bool))
    assert fused[0].tolist() == pytest.approx([np.log(0.25) + entropy + 0.5, np.log(0.75) + entropy - 0.5])
    assert standardised(np.array([[3.0, 1.0, -INF]]))[0].tolist() == [1.0, -1.0, 0.0]
    assert standardised(np.array([[2.0, 2.0], [-INF, -INF]])).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_student_abstains_from_what_it_was_never_taught() -> None:
    """Over the first two labels alone p = 1/4, 3/4; the third stands at 0, below the second and above the first."""
    student = np.log(np.array([[0.1, 0.3, 1e-9], [0.1, 0.3, 0.6]]))
    votes = student_votes(student, np.array([True, True, False]))
    assert votes[0].tolist() == pytest.approx(votes[1].tolist())  # whatever it thinks of the third
    assert votes[0, 1] > votes[0, 2] == 0.0 > votes[0, 0]
    assert student_votes(student, np.zeros(3, bool)).tolist() == [[0.0] * 3] * 2
    unsure = student_votes(np.zeros((1, 3)), np.array([True, True, False]))
    assert unsure.tolist() == [[0.0, 0.0, 0.0]]


def test_a_label_that_was_never_taught_can_win() -> None:
    """The student is sure of the first and finds the last impossible; the retriever finds the last."""
    student, taught = np.array([[-0.1, -4.0, -90.0]]), np.array([True, True, False])
    retriever = np.array([[0.0, 0.1, 1.0]])
    assert order(weighted(student, retriever, 1.0, taught))[0, 0] == 2
    assert order(weighted(student, retriever, 1.0, np.ones(3, bool)))[0, 0] == 0


def test_the_weight_follows_who_is_right() -> None:
    rng = np.random.default_rng(0)
    truths = rng.integers(0, 4, 40)
    right = np.log(np.full((40, 4), 0.1) + 0.6 * np.eye(4)[truths])
    wrong = rng.permutation(right, axis=1)
    assert fit_weight(right, wrong, truths, ALL) == 0
    found = fit_weight(wrong, right, truths, ALL)
    assert found > 0
    top = order(weighted(wrong, right, found, ALL))[:, 0]
    assert (top == truths).all()


def test_the_weight_is_fitted_with_the_votes_that_count() -> None:
    """The student is right among the first two labels; half the samples have the others, which it finds impossible."""
    truths = np.arange(4).repeat(5)
    student = np.log(np.where(np.arange(4) < 2, 0.02, 1e-6) + 0.9 * np.eye(4)[np.minimum(truths, 1)])
    retriever = np.eye(4)[truths] + 0.2 * np.random.default_rng(0).normal(size=(20, 4))
    taught = np.array([True, True, False, False])
    found = fit_weight(student, retriever, truths, taught)
    assert (order(weighted(student, retriever, found, taught))[:, 0] == truths).all()
    assert (
        fit_weight(student, retriever, truths, ALL) > 4 * found
    )  # it takes more to outvote a student that votes on all


def test_certainty_counts_among_taught_labels_and_not_against_others() -> None:
    """What the best of 50 taught labels leads by: over the second it grows with p; over an untaught one it vanishes."""
    taught, leads = np.arange(60) < 50, []
    for p in (0.05, 0.3, 0.9, 0.9999):
        belief = np.where(np.arange(60) == 0, p, (1 - p) / 49)
        votes = student_votes(np.log(np.where(taught, belief, 1e-9))[None], taught)[0]
        leads.append((votes[0] - votes[1], votes[0] - votes[55]))
    assert leads == sorted(leads)
    over_others = [lead for _, lead in leads]
    assert 0 < over_others[3] < over_others[2] < over_others[1] < np.log(50)


def test_scores_from_a_list_take_known_names_once() -> None:
    written = Prediction("p", "base", "", ("liver", "Nothing", "Liver", "Skin"), 4, True)
    scored = Prediction("q", "base", "", ("Liver",), 1, True, scores=np.array([0.5, -INF, -3.5, 1], np.float32))
    rows = scores_of([written, scored], LABELS)
    assert rows.tolist() == [[-INF, -1.0, -4.0, -INF], [0.5, -INF, -3.5, 1.0]]


def test_an_array_of_scores_is_written_row_by_row_and_continued(tmp_path) -> None:
    table = ScoreTable.create(tmp_path / "scores", ["a", "b", "c"], LABELS)
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    with table.writer("base") as writer:
        writer.put("c", rows[2])
    with ScoreTable.create(tmp_path / "scores", ["a", "b", "c"], LABELS).writer("base") as writer:
        writer.put("a", rows[0])
        writer.put("b", rows[1])
    read = ScoreTable.read(tmp_path / "scores")
    assert (read.variants, read.labels) == (["base"], LABELS.names)
    assert np.array_equal(np.load(tmp_path / "scores" / "base.npy"), rows)
    assert np.array_equal(read.rows("base", ["c", "a"]), rows[[2, 0]])
    assert ScoreTable.read(tmp_path) is None
