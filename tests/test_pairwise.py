"""The strategy `pairwise`: single labels, and how the chosen ones are weighed, worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from mint_core.errors import ConfigError
from mint_core.interfaces import Context
from mint_core.preferences.topk import Listwise, ListwiseConfig, Pairwise, WeightedConfig
from mint_core.stages.outputs import read_preferences, write_preferences
from mint_core.testing import STRATEGY_CHECKS
from mint_core.types import LabelSpace, PreferenceGroup, Ranking

RANKED = ("a", "b", "c", "d", "e", "f")
LABELS = LabelSpace(RANKED)
RANKING = Ranking("s1", RANKED, np.log(np.array([0.5, 0.2, 0.1, 0.1, 0.06, 0.04], np.float32)))


def group(known: str | None, *, ranking: Ranking = RANKING, **options) -> PreferenceGroup:
    (found,) = Pairwise(WeightedConfig(**{"k": 3, "q": 2, **options}), Context(labels=LABELS, n=3)).groups(
        ranking, known
    )
    return found


class ByTeacher(Pairwise):
    class Config(WeightedConfig):
        weights: str = "teacher"
        truth_share: float | None = 0.5


class Overweight(Pairwise):
    def groups(self, ranking, truth):
        return [replace(g, chosen_weights=(0.9,) * len(g.chosen)) for g in super().groups(ranking, truth)]


@pytest.mark.parametrize("component", [Pairwise, ByTeacher])
@pytest.mark.parametrize("check", STRATEGY_CHECKS)
def test_contract(check, component) -> None:
    check(component)


def test_the_kit_catches_weights_that_do_not_sum_to_1() -> None:
    with pytest.raises(AssertionError, match="strategy 6"):
        STRATEGY_CHECKS[5](Overweight)


def test_every_label_stands_alone() -> None:
    """Algorithm 1: k chosen and q rejected labels of one sample give k x q pairs."""
    found = group("b")
    assert found.chosen == (("b",), ("a",), ("c",))
    assert found.rejected == (("e",), ("f",))
    assert (found.chosen_weights, found.rejected_weights) == ((), ())  # equal shares


def test_the_labels_are_those_of_listwise() -> None:
    """Both strategies see the same top and bottom, for every placement of every truth."""
    for how in ("promote", "swap", "replace-first"):
        for truth in (None, *RANKED):
            options = {"k": 3, "q": 2, "truth": how}
            (lists,) = Listwise(ListwiseConfig(**options), Context(labels=LABELS, n=3)).groups(RANKING, truth)
            found = group(truth, truth=how)
            assert tuple(label for (label,) in found.chosen) == lists.chosen[0]
            assert tuple(label for (label,) in found.rejected) == lists.rejected[0]


@pytest.mark.parametrize(
    ("truth", "expected"),
    [
        (None, (5 / 8, 2 / 8, 1 / 8)),  # a, b, c: 0.5, 0.2, 0.1 over their sum 0.8
        ("b", (2 / 8, 5 / 8, 1 / 8)),  # b, a, c: every label keeps its own probability
        ("e", (0.06 / 0.76, 0.5 / 0.76, 0.2 / 0.76)),  # e, a, b
    ],
)
def test_the_teachers_confidence(truth, expected) -> None:
    assert group(truth, weights="teacher").chosen_weights == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("truth", "rule", "expected"),
    [
        ("b", "uniform", (0.5, 0.25, 0.25)),
        ("b", "teacher", (0.5, 0.5 * 5 / 6, 0.5 * 1 / 6)),  # a and c: 0.5 and 0.1 over 0.6
        ("e", "teacher", (0.5, 0.5 * 5 / 7, 0.5 * 2 / 7)),
        (None, "teacher", (5 / 8, 2 / 8, 1 / 8)),  # no truth, no share
    ],
)
def test_a_share_for_the_truth(truth, rule, expected) -> None:
    assert group(truth, weights=rule, truth_share=0.5).chosen_weights == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "strategy",
    [
        Listwise(ListwiseConfig(k=3, q=2, unlabelled="skip"), Context(labels=LABELS, n=3)),
        Pairwise(WeightedConfig(k=3, q=2, unlabelled="skip"), Context(labels=LABELS, n=3)),
    ],
)
def test_samples_without_a_truth_can_be_left_out(strategy) -> None:
    assert strategy.groups(RANKING, None) == []
    assert len(strategy.groups(RANKING, "b")) == 1


def test_no_truth_and_uniform_weights_are_equal_shares() -> None:
    assert group(None, truth_share=0.5).chosen_weights == ()


def test_the_truth_alone() -> None:
    """Labels that would weigh nothing are not trained on."""
    found = group("b", truth_share=1.0)
    assert (found.chosen, found.chosen_weights) == ((("b",),), (1.0,))
    assert len(found.rejected) == 2


def test_a_share_of_0_keeps_the_truth_in_front() -> None:
    found = group("b", truth_share=0.0)
    assert found.chosen[0] == ("b",)
    assert found.chosen_weights == (0.0, 0.5, 0.5)


def test_one_chosen_label_gets_all() -> None:
    assert group("b", k=1, truth_share=0.3).chosen_weights == (1.0,)


def test_labels_that_the_teacher_rules_out() -> None:
    """Probability 0 is -inf: no NaN, and where all chosen labels are ruled out they share alike."""
    certain = Ranking("s1", RANKED, np.array([0.0] + [-np.inf] * 5, np.float32))
    found = group("b", ranking=certain, weights="teacher")
    assert (found.chosen, found.chosen_weights) == ((("b",), ("a",)), (0.0, 1.0))
    found = group("a", ranking=certain, weights="teacher", truth_share=0.5)
    assert found.chosen_weights == (0.5, 0.25, 0.25)


def test_probabilities_too_small_for_a_float() -> None:
    tiny = replace(RANKING, log_probs=np.array([0, -800, -801, -900, -901, -902], np.float32))
    found = group("b", ranking=tiny, weights="teacher", truth_share=0.5, k=3)
    assert sum(found.chosen_weights) == pytest.approx(1)
    (found,) = Pairwise(
        WeightedConfig(k=2, q=1, weights="teacher", truth_share=0.0), Context(labels=LABELS, n=3)
    ).groups(tiny, "b")
    assert found.chosen_weights == (0.0, 1.0)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_shares_are_between_0_and_1(share) -> None:
    with pytest.raises(ValidationError):
        WeightedConfig(truth_share=share)


def test_sizes_beyond_the_label_space_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"strategy 'pairwise': k \+ q = 4 \+ 3 is larger"):
        Pairwise(WeightedConfig(k=4, q=3), Context(labels=LABELS, n=3))


def test_weights_survive_the_table(tmp_path) -> None:
    groups = [group("b", weights="teacher", truth_share=0.5), group(None)]
    write_preferences(tmp_path / "p.parquet", groups)
    assert read_preferences(tmp_path / "p.parquet") == groups
