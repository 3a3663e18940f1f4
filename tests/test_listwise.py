"""The strategy `listwise`, with every placement of the truth worked out by hand."""

import numpy as np
import pytest

from mint_core.errors import ConfigError
from mint_core.interfaces import Context
from mint_core.preferences.topk import Listwise, ListwiseConfig, place_truth
from mint_core.testing import STRATEGY_CHECKS
from mint_core.types import LabelSpace, Ranking

RANKED = ("a", "b", "c", "d", "e", "f")
LABELS = LabelSpace(RANKED)
RANKING = Ranking("s1", RANKED, np.log(np.array([0.5, 0.2, 0.1, 0.1, 0.06, 0.04], np.float32)))


@pytest.mark.parametrize("check", STRATEGY_CHECKS)
def test_contract(check) -> None:
    check(Listwise)


@pytest.mark.parametrize(
    ("how", "truth", "expected"),
    [
        ("promote", "b", ("b", "a", "c")),  # within the k: moves up, the others keep their order
        ("promote", "e", ("e", "a", "b")),  # beyond the k: the lowest drops out, the list keeps k labels
        ("promote", "a", ("a", "b", "c")),
        ("swap", "c", ("c", "b", "a")),  # first and truth change places
        ("swap", "e", ("e", "b", "c")),  # the first goes to where the truth was, beyond the list
        ("replace-first", "c", ("c", "b", "d")),  # the first drops out, no label twice
        ("replace-first", "e", ("e", "b", "c")),
        ("promote", None, ("a", "b", "c")),
        ("swap", None, ("a", "b", "c")),
        ("replace-first", None, ("a", "b", "c")),
    ],
)
def test_where_the_truth_goes(how, truth, expected) -> None:
    assert place_truth(RANKED, truth, 3, how) == expected


def test_the_worst_are_rejected_but_never_the_truth() -> None:
    strategy = Listwise(ListwiseConfig(k=2, q=2), Context(labels=LABELS, n=2))
    (group,) = strategy.groups(RANKING, "b")
    assert (group.chosen, group.rejected) == ((("b", "a"),), (("e", "f"),))
    (group,) = strategy.groups(RANKING, "f")
    assert (group.chosen, group.rejected) == ((("f", "a"),), (("d", "e"),))


@pytest.mark.parametrize(("n_labels", "n", "k"), [(5, 3, 2), (19, 5, 5), (528, 10, 10), (2, 1, 1)])
def test_default_sizes(n_labels: int, n: int, k: int) -> None:
    strategy = Listwise(None, Context(labels=LabelSpace(tuple(f"label {i}" for i in range(n_labels))), n=n))
    assert (strategy.k, strategy.q) == (k, k)


def test_sizes_beyond_the_label_space_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"k \+ q = 4 \+ 3 is larger than the label space \(6 labels\)"):
        Listwise(ListwiseConfig(k=4, q=3), Context(labels=LABELS, n=3))


def test_a_longer_list_is_completed_down_the_ranking() -> None:
    """k = q = 2, N = 3: the third entry is the next label that is not rejected; CAR's top keeps k labels."""
    strategy = Listwise(ListwiseConfig(k=2, q=2), Context(labels=LABELS, n=3))
    (group,) = strategy.groups(RANKING, "b")
    assert (group.chosen, group.rejected) == ((("b", "a", "c"),), (("e", "f"),))
    assert strategy.top(RANKING, "b") == ("b", "a")
    (group,) = Listwise(ListwiseConfig(k=2, q=2, complete=False), Context(labels=LABELS, n=3)).groups(RANKING, "b")
    assert group.chosen == (("b", "a"),)
