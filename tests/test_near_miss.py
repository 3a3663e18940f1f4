"""The strategy `near-miss`: what is rejected is nearly right. Worked out by hand."""

import numpy as np
import pytest

from mint_core.errors import ConfigError
from mint_core.interfaces import Context
from mint_core.preferences.near_miss import NearMiss, NearMissConfig
from mint_core.preferences.topk import Listwise, ListwiseConfig
from mint_core.testing import STRATEGY_CHECKS
from mint_core.testing import ranking as drawn
from mint_core.types import LabelSpace, PreferenceGroup, Ranking

RANKED = ("a", "b", "c", "d", "e", "f")
LABELS = LabelSpace(RANKED)


def ranking(sample_id: str, **probabilities: float) -> Ranking:
    """A teacher's answer from a few probabilities; the other labels divide the rest."""
    rest = (1 - sum(probabilities.values())) / max(1, len(RANKED) - len(probabilities))
    p = {label: probabilities.get(label, rest) for label in RANKED}
    ordered = sorted(RANKED, key=lambda label: -p[label])
    return Ranking(sample_id, tuple(ordered), np.log(np.array([p[label] for label in ordered], np.float32)))


RANKING = ranking("s1", a=0.5, b=0.2, c=0.1, d=0.1, e=0.06, f=0.04)


def strategy(n: int = 2, **options) -> NearMiss:
    return NearMiss(NearMissConfig(**{"k": 2, "q": 2, **options}), Context(labels=LABELS, n=n))


def group(truth: str | None, n: int = 2, **options) -> PreferenceGroup:
    (found,) = strategy(n, **options).groups(RANKING, truth)
    return found


class Singles(NearMiss):
    class Config(NearMissConfig):
        responses: str = "single"
        weights: str = "teacher"
        truth_share: float | None = 0.5


class Confusions(NearMiss):
    class Config(NearMissConfig):
        rejected: str = "confusions"

    def __init__(self, config=None, context=None) -> None:
        super().__init__(config, context)
        labels = self.labels
        truths = [None if seed % 3 == 0 else labels.names[seed % len(labels)] for seed in range(30)]
        self.fit([drawn(labels, seed) for seed in range(30)], truths)


@pytest.mark.parametrize("component", [NearMiss, Singles, Confusions])
@pytest.mark.parametrize("check", STRATEGY_CHECKS)
def test_contract(check, component) -> None:
    check(component)


@pytest.mark.parametrize(
    ("truth", "chosen", "rejected"),
    [
        ("b", ("b", "a"), ("c", "d")),
        (None, ("a", "b"), ("c", "d")),
        ("f", ("f", "a"), ("b", "c")),  # b fell out of the top, so it is the nearest miss
    ],
)
def test_the_labels_just_below_the_top(truth, chosen, rejected) -> None:
    found = group(truth)
    assert (found.chosen, found.rejected) == ((chosen,), (rejected,))
    found = group(truth, responses="single")
    assert found.chosen == tuple((label,) for label in chosen)
    assert found.rejected == tuple((label,) for label in rejected)


def test_a_completed_list_moves_the_misses_down() -> None:
    """N = 4, k = q = 2: a, b and then c, d are listed, and e, f are just below."""
    found = group("a", n=4)
    assert (found.chosen, found.rejected) == ((("a", "b", "c", "d"),), (("e", "f"),))
    assert group("a", n=4, complete=False).rejected == (("c", "d"),)


def test_a_list_never_takes_the_last_q_labels() -> None:
    """N = 6 of 6 labels: the chosen list stops where q labels are left to reject."""
    found = group("a", n=6)
    assert (found.chosen, found.rejected) == ((("a", "b", "c", "d"),), (("e", "f"),))


def test_cars_lists_stay_those_of_listwise() -> None:
    plain = Listwise(ListwiseConfig(k=2, q=2), Context(labels=LABELS, n=2))
    for truth in (None, *RANKED):
        assert strategy().top(RANKING, truth) == plain.top(RANKING, truth)
        assert strategy().bottom(RANKING, truth) == plain.bottom(RANKING, truth)


def test_weights_as_in_pairwise() -> None:
    assert group("b", responses="single", truth_share=0.7).chosen_weights == pytest.approx((0.7, 0.3))


@pytest.mark.parametrize("options", [{"weights": "teacher"}, {"truth_share": 0.5}])
def test_weights_of_lists_are_refused(options) -> None:
    with pytest.raises(ConfigError, match="a list is one response"):
        strategy(**options)


TRAIN = [
    (ranking("t1", a=0.6, f=0.3), "a"),  # two patients with a, whom the teacher takes for f and e
    (ranking("t2", a=0.5, e=0.3, f=0.1), "a"),
    (ranking("t3", d=0.5, a=0.4), "d"),  # a patient with d, whom it takes for a
    (ranking("t4", b=0.9), "b"),
    (ranking("t5", c=0.9), None),  # unlabelled: says nothing about confusions
]


def fitted(**options) -> NearMiss:
    made = strategy(rejected="confusions", **options)
    made.fit([ranked for ranked, _ in TRAIN], [truth for _, truth in TRAIN])
    return made


def test_the_teachers_confusions() -> None:
    """By hand, for the truth a, outside of the chosen a and b.

    m[a, f] = (0.3 + 0.1) / 2 = 0.2 and m[f, a] = 0; m[a, e] = (0.025 + 0.3) / 2 = 0.1625; m[d, a] = 0.4 and
    m[a, d] = (0.025 + 0.1/3) / 2 = 0.029, together 0.429; c gets 0.029. So d first, then f.
    """
    (found,) = fitted().groups(RANKING, "a")
    assert found.rejected == (("d", "f"),)
    (found,) = fitted(q=3, responses="single").groups(RANKING, "a")
    assert found.rejected == (("d",), ("f",), ("e",))


def test_confusions_of_a_sample_without_a_truth() -> None:
    """The teacher is sure of a, so its confusions are those of a."""
    sure = ranking("s2", a=0.99, b=0.005)
    (found,) = fitted().groups(sure, None)
    assert found.rejected == (("d", "f"),)


def test_a_truth_that_the_training_split_lacks_falls_back_to_the_ranking() -> None:
    """Nothing is known of the teacher's confusions: ties keep its order."""
    made = strategy(rejected="confusions")
    made.fit([RANKING], [None])
    (found,) = made.groups(RANKING, "a")
    assert found.rejected == (("c", "d"),)
    assert strategy(rejected="confusions").groups(RANKING, "a")[0].rejected == (("c", "d"),)  # without fit


def test_the_prefer_stage_shows_the_whole_training_split(install_plugin, tmp_path, monkeypatch) -> None:
    """Through a run, until the preferences: those of confusions differ from those of the ranking alone."""
    import mint_core
    from mint_core.stages.outputs import read_preferences
    from tests.test_run import TOY
    from tests.tiny_students import build

    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    student = str(build("llama", tmp_path / "student"))
    rejected = {}
    for rule in ("below", "confusions"):
        result = mint_core.run(
            task={"name": "toy", "count": 60},
            student=student,
            out=str(tmp_path / "runs"),
            strategy={"name": "near-miss", "k": 1, "q": 1, "rejected": rule, "responses": "single"},
            aligner={"name": "sft", "warmup": 0, "epochs": 1},
            until="prefer",
        )
        groups = read_preferences(result.path / "preferences" / "preferences.parquet")
        rejected[rule] = [group.rejected for group in groups]
    assert rejected["below"] != rejected["confusions"]
    by_truth: dict[object, set[object]] = {}
    for one, chosen in zip(rejected["confusions"], groups, strict=True):
        by_truth.setdefault(chosen.chosen, set()).add(one)
    assert all(len(found) == 1 for found in by_truth.values())  # one confusion per true label
