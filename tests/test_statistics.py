"""Intervals: worked out by hand where that is possible, and their coverage where it is not."""

import numpy as np
import pytest

from mint_core.errors import ContractError, DataError
from mint_core.evaluation.evaluate import evaluate
from mint_core.evaluation.statistics import correct, estimate, holm, paired, sign_flip_p, told_p
from mint_core.evaluation.subsets import Member, members, subsets
from mint_core.interfaces import Metric
from mint_core.testing import metric_sample
from mint_core.types import LabelSpace, Sample

HOW = {"draws": 1000, "confidence": 0.95, "seed": 0}


def test_one_cluster_has_no_width() -> None:
    """All samples in one group: every draw is that group, so the interval is the mean itself."""
    found = estimate([1.0, 0.0, 1.0, 0.0], ["a"] * 4, **HOW)
    assert (found.mean, found.low, found.high, found.n, found.clusters) == (0.5, 0.5, 0.5, 4, 1)


def test_two_clusters_by_hand() -> None:
    """Groups of mean 0 and 1: a draw has mean 0, 1/2 or 1 with 1/4, 1/2, 1/4, so the 95 % interval is all of [0, 1]."""
    found = estimate([0.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"], **HOW)
    assert (found.mean, found.low, found.high, found.clusters) == (0.5, 0.0, 1.0, 2)


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    centres = rng.random(40)
    values = [float(c > rng.random()) for c in centres for _ in range(10)]
    copies = [float(c > 0.5) for c in centres for _ in range(10)]
    groups = [f"slide {i}" for i in range(40) for _ in range(10)]
    for outcome in (values, copies):
        alone = estimate(outcome, [None] * 400, **HOW)
        together = estimate(outcome, groups, **HOW)
        assert together.high - together.low > alone.high - alone.low


def test_unscored_is_counted_and_is_not_zero() -> None:
    found = estimate([1.0, None, 1.0], [None] * 3, **HOW)
    assert (found.mean, found.n, found.unscored) == (1.0, 2, 1)
    nothing = estimate([None, None], [None, None], **HOW)
    assert (nothing.mean, nothing.low, nothing.n, nothing.unscored) == (None, None, 0, 2)


def test_coverage_is_near_the_nominal_level() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        values = [float(v) for v in rng.random(80) < 0.4]
        found = estimate(values, [None] * 80, draws=400, confidence=0.95, seed=trial)
        hits += found.low <= 0.4 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


class Always(Metric):
    """Returns what it is told to."""

    name = "always"
    value: float | None = 1.0

    def score(self, sample):
        return self.value

    def title(self, n: int) -> str:
        return f"Always-{n}"


LABELS = LabelSpace(("a", "b"))
OWN = Member(group=None, cohort=None, seen=True)


def test_rows_differences_and_samples() -> None:
    from dataclasses import replace

    sample = metric_sample(LABELS, ("a",), "a", 1)
    both = [replace(sample, prediction=replace(sample.prediction, variant=v)) for v in ("base", "aligned")]
    scores = evaluate(both, {"sample": OWN}, {"always": Always()}, **HOW)
    assert [(row.variant, row.subset, row.n) for row in scores.rows] == [("base", "all", 1), ("aligned", "all", 1)]
    assert scores.differences["all"]["always"].mean == 0
    assert [record["metrics"]["always"] for record in scores.per_sample] == [1.0, 1.0]


def test_a_metric_outside_its_range_breaks_its_contract() -> None:
    wrong = Always()
    wrong.value = 1.5
    with pytest.raises(ContractError, match="always"):
        evaluate([metric_sample(LABELS, ("a",), "a", 1)], {"sample": OWN}, {"always": wrong}, **HOW)


def test_subsets_by_hand() -> None:
    """Own samples of a seen and an unseen label; an external cohort whose labels are all seen."""
    train = [Sample("t", "train", "a"), Sample("u", "train", None)]
    test = [Sample("1", "test", "a"), Sample("2", "test", "b"), Sample("3", "test", "a", cohort="clinic")]
    parts = subsets(members(test, train))
    assert parts == {"all": ["1", "2"], "seen": ["1"], "unseen": ["2"], "clinic": ["3"], "clinic: seen": ["3"]}


def test_without_unseen_labels_there_is_one_subset() -> None:
    assert list(subsets({"1": OWN, "2": OWN})) == ["all"]
    assert subsets({"1": Member(None, "clinic", False)}) == {"clinic": ["1"], "clinic: unseen": ["1"]}


def test_a_cohort_cannot_take_a_subset_s_name() -> None:
    with pytest.raises(DataError, match="'unseen'"):
        subsets({"1": Member(None, "unseen", True)})


def test_sign_flips_by_hand() -> None:
    """Differences 1, 1, 1: of the 8 signs only +++ and --- reach a sum of 3, so p = 2/8.

    Differences 2, 1, 1 with sum 4: only +++ and --- reach 4, p = 2/8. Differences 3, -1, 1 with sum 3: the eight sums
    are 5, 3, 3, 1 and their negatives, and six of them are at least 3 in size, so p = 6/8.
    """
    assert sign_flip_p(np.array([1.0, 1.0, 1.0]), 0) == 0.25
    assert sign_flip_p(np.array([2.0, 1.0, 1.0]), 0) == 0.25
    assert sign_flip_p(np.array([3.0, -1.0, 1.0]), 0) == 0.75
    assert sign_flip_p(np.array([0.0, 0.0]), 0) == 1.0
    assert sign_flip_p(np.array([1.0, 1.0, 1.0, 0.0]), 0) == 0.25  # a tie says nothing


def test_sign_flips_agree_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    for size in (5, 9, 12, 40):
        sums = rng.normal(0.2, 1, size)
        ours = sign_flip_p(sums, seed=1)
        theirs = stats.permutation_test(
            (sums,), np.sum, permutation_type="samples", n_resamples=10_000, rng=np.random.default_rng(2)
        ).pvalue
        assert ours == pytest.approx(theirs, abs=1e-12 if size < 13 else 0.02)


def test_drawn_sign_flips_agree_with_all_of_them() -> None:
    sums = np.random.default_rng(5).normal(0.5, 1, 12)
    assert sign_flip_p(sums, 0, permutations=4000) == pytest.approx(sign_flip_p(sums, 0, permutations=4096), abs=0.02)
    assert sign_flip_p(np.ones(60), 0) == pytest.approx(1 / 10_001)


def test_a_paired_comparison_by_hand() -> None:
    """Differences 1, 0, -1, 1 and one unscored; groups a = {1, 0}, b = {-1, 1}: cluster sums 1 and 0.

    Two wins, a tie, a loss; the mean is 1/4; only one cluster differs, so both signs reach the sum and p = 1.
    """
    found = paired([1.0, 0.5, 0.0, 1.0, None], [0.0, 0.5, 1.0, 0.0, 1.0], ["a", "a", "b", "b", "b"], **HOW)
    assert (found.wins, found.ties, found.losses, found.p_value) == (2, 1, 1, 1.0)
    assert (found.difference.mean, found.difference.n, found.difference.clusters) == (0.25, 4, 2)
    assert found.difference.unscored == 1


def test_clusters_are_flipped_whole() -> None:
    """Eight samples won, but in one group: one fact, p = 1; alone they are eight facts, p = 2 / 2^8."""
    one, zero = [1.0] * 8, [0.0] * 8
    assert paired(one, zero, ["g"] * 8, **HOW).p_value == 1.0
    assert paired(one, zero, [None] * 8, **HOW).p_value == 2 / 256
    nothing = paired([None], [1.0], [None], **HOW)
    assert (nothing.p_value, nothing.difference.mean, nothing.wins) == (None, None, 0)


def test_the_p_value_is_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(7)
    p = [sign_flip_p(rng.normal(0, 1, 11), seed) for seed in range(300)]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09


def test_holm_by_hand() -> None:
    """Four tests: 4 x 0.01, 3 x 0.02 = 0.06, 2 x 0.03 = 0.06, 1 x 0.04, which must not fall below the one before."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_tests_of_one_table_are_corrected_together() -> None:
    tests = [{"p_value": 0.01}, {"p_value": None}, {"p_value": 0.0002}]
    correct(tests)
    assert [test["p_holm"] for test in tests] == [0.01, None, 0.0004]
    assert told_p(tests[0]) == "p = 0.010 (Holm = 0.010)"
    assert told_p(tests[2]) == "p < 0.001 (Holm < 0.001)"
    alone = [{"p_value": 0.01}]
    correct(alone)
    assert told_p(alone[0]) == "p = 0.010"
