"""Confusion matrices, pairs of labels that are easily confused, and the ranks of truth and confuser."""

from typing import Any

import numpy as np
import pytest

from mint_core.evaluation.confusions import confusions, most_confused, named_pairs
from mint_core.evaluation.ranks import Ranked, add_ranks, pair_ranks, rank_in_list, rank_in_scores
from mint_core.report.confusions import chapter
from mint_core.types import LabelSpace

SPACE = LabelSpace(("A", "B", "C"), (("Alpha",), (), ()))
HOW: dict[str, Any] = {"draws": 100, "confidence": 0.95, "seed": 0}


def record(truth: str, *answer: str | None) -> dict[str, Any]:
    return {"truth": truth, "answer": list(answer), "group": None}


RECORDS = [
    record("A", "B", "A"), record("A", "B"), record("A", "A", "B"), record("A"), record("A", None, "A"),
    record("C", "B"), record("C", "A", "C"), record("B", "B", "A"),
]  # fmt: skip


def test_confusions_by_hand() -> None:
    """Of five A two are called B, one A, one nothing, one by an unknown name: both are no label."""
    found = confusions({"base": RECORDS}, SPACE)
    assert found["labels"] == ["A", "B", "C"]
    assert found["counts"]["base"] == [
        [0, 0, 1], [0, 1, 2], [0, None, 2], [1, 1, 1], [2, 0, 1], [2, 1, 1],
    ]  # fmt: skip
    assert most_confused(found, "base") == [("A", "B")]  # the others once each
    assert most_confused(found, "teacher") == []
    both = confusions({"base": [record("A", "B"), record("B", "A"), *RECORDS, record("A", "C")]}, SPACE)
    assert most_confused(both, "base") == [("A", "B"), ("A", "C")]  # four, and two both ways together


def test_ranks_by_hand() -> None:
    assert (rank_in_list(["B", None, "A"], "A"), rank_in_list(["B"], "A")) == (3, None)
    scores = np.array([-3.0, -1.0, -1.0, -2.0], np.float32)
    assert [rank_in_scores(scores, place) for place in range(4)] == [4, 1, 2, 3]


def test_mean_ranks_by_hand() -> None:
    """In the five answers A stands at 2, 1 and 2, and twice nowhere; B at 1, 1 and 2, and twice nowhere, which is 4."""
    records = [dict(one) for one in RECORDS]
    add_ranks(records, [("A", "B")], lambda one, label: rank_in_list(one["answer"], label))
    assert (records[0]["rank"], records[0]["confusers"]) == (2, [{"label": "B", "rank": 1}])
    assert records[5]["confusers"] == []
    first, second = pair_ranks(("A", "B"), {"base": [Ranked.of(one, 4) for one in records]}, HOW)
    assert (first["truth"], first["confuser"], first["n"]) == ("A", "B", 5)
    truth, confuser = first["rows"]["base"]["truth"], first["rows"]["base"]["confuser"]
    assert (truth["mean"], truth["absent"]) == ((2 + 4 + 1 + 4 + 2) / 5, 2)
    assert (confuser["mean"], confuser["absent"]) == ((1 + 1 + 2 + 4 + 4) / 5, 2)
    assert truth["low"] <= truth["mean"] <= truth["high"]
    assert (second["truth"], second["n"], second["rows"]["base"]["confuser"]["mean"]) == ("B", 1, 2)


def test_pairs_are_named_by_any_of_their_names() -> None:
    assert named_pairs([("alpha", "b"), ("A", "B")], SPACE) == [("A", "B")]


@pytest.mark.parametrize(("count", "shown"), [(3, 3), (60, 40)])
def test_the_chapter_shows_the_labels_that_are_confused_most(count: int, shown: int) -> None:
    names = [f"label-{i:02d}" for i in range(count)]
    records = [*(record(name, names[0]) for name in names), record(names[2]), record(names[2], None)]
    found = confusions({"base": records}, LabelSpace(tuple(names)))
    pairs = {"rule": "named", "absent_rank": 3, "full": [], "pairs": []}
    told = chapter({"confusions": found, "pairs": pairs})
    assert told is not None
    (matrix,) = told["matrices"]
    assert (matrix.title, matrix.names) == ("base student", names[:shown])
    assert {len(row) for row in matrix.rows} == {shown + 1}
    assert (matrix.rows[1][0], matrix.rows[1][1]) == ((1, 1.0), (0, 0.0))
    assert (matrix.rows[2][0], matrix.rows[2][-1]) == ((1, 1 / 3), (2, 2 / 3))
    assert told["listed"] == ["base student"]
    assert chapter({}) is None
