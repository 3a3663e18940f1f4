import pytest
from pydantic import ValidationError

from mint_core.types import LabelSpace
from mint_metrics.car import CAR

TOP = ("Colon", "Lung", "Liver")
BOTTOM = ("Skin", "Kidney", "Prostate")


def car(one, weight: float = 1.0) -> float | None:
    return CAR(CAR.Config(weight=weight)).score(one)


@pytest.fixture
def toy(sample):
    """Five names, two in T, one in B: C = 2/5, A = 1 - 1/5 = 4/5, C A = 8/25."""
    return sample("Colon", "Lung", "Breast", "Esophagus", "Skin", top=TOP, bottom=BOTTOM)


def test_toy_by_hand(toy):
    """w = 1: 2 * 8/25 / (2/5 + 4/5) = 16/25 * 5/6 = 8/15."""
    assert car(toy) == pytest.approx(8 / 15)


def test_weight_by_hand(toy):
    """w = 3: 4 * 8/25 / (6/5 + 4/5) = 16/25. w = 1/2: 3/2 * 8/25 / (1/5 + 4/5) = 12/25."""
    assert car(toy, 3) == pytest.approx(16 / 25)
    assert car(toy, 0.5) == pytest.approx(12 / 25)


def test_a_large_weight_favours_avoidance(toy):
    assert car(toy, 1e-12) == pytest.approx(2 / 5)
    assert car(toy, 1e9) == pytest.approx(4 / 5)


def test_the_limits_of_the_range(sample):
    assert car(sample(*TOP, top=TOP, bottom=BOTTOM)) == 1
    assert car(sample("Breast", "Esophagus", top=TOP, bottom=BOTTOM)) == 0
    assert car(sample(*BOTTOM, top=TOP, bottom=BOTTOM)) == 0


def test_top_and_bottom_may_overlap(sample):
    """All in T and all in B: C = 1, A = 0."""
    assert car(sample(*TOP, top=TOP, bottom=TOP)) == 0


@pytest.mark.parametrize("text", ["", "MOST_LIKELY_TISSUE:", "no idea"])
def test_an_empty_response_scores_zero(sample, text: str):
    assert car(sample(text=text, n=3, top=TOP, bottom=BOTTOM)) == 0


def test_an_unrecognised_name_counts_in_the_length(sample):
    """Two names, one in T, one made up: C = 1/2, A = 1: 2 * 1/2 / (3/2) = 2/3."""
    assert car(sample("Colon", "Quux", top=TOP, bottom=BOTTOM)) == pytest.approx(2 / 3)


def test_unrecognised_names_count_one_by_one(sample):
    """Three names, one in T, two made up: C = 1/3, A = 1: 2 * 1/3 / (4/3) = 1/2."""
    assert car(sample("Colon", "Quux", "Zyzzyva", top=TOP, bottom=BOTTOM)) == pytest.approx(1 / 2)


def test_two_names_of_one_label_count_once(sample):
    """R = {Colon, Skin}: C = A = 1/2, CAR = 1/2."""
    assert car(sample("Colon", "Colonn", "Skin", top=TOP, bottom=BOTTOM)) == pytest.approx(1 / 2)
    labels = LabelSpace(("WILLIAMS-BEUREN SYNDROME", "Kabuki syndrome", "Skin"), (("WBS",), (), ()))
    named = sample("WBS", "Williams-Beuren syndrome", "Skin", top=labels.names[:1], bottom=("Skin",), labels=labels)
    assert car(named) == pytest.approx(1 / 2)


def test_format_does_not_matter(sample):
    text = "Surely these:\nMOST_LIKELY_TISSUE:\n1. Colon\n2. Colon\n3. Skin\nDone."
    assert car(sample(text=text, n=5, top=TOP, bottom=BOTTOM)) == pytest.approx(1 / 2)


@pytest.mark.parametrize(("top", "bottom"), [((), ()), (TOP, ()), ((), BOTTOM)])
def test_without_a_teachers_ranking_it_is_unscored(sample, top: tuple[str, ...], bottom: tuple[str, ...]):
    assert car(sample("Colon", "Lung", top=top, bottom=bottom)) is None
    assert car(sample(text="", n=2, top=top, bottom=bottom)) is None


@pytest.mark.parametrize("weight", [0, -1, float("inf"), float("nan")])
def test_a_weight_that_makes_no_sense_is_refused(weight: float):
    with pytest.raises(ValidationError):
        CAR.Config(weight=weight)


def test_title_and_rule_name_the_weight():
    assert (CAR().title(5), CAR(CAR.Config(weight=2)).title(5)) == ("CAR", "CAR (w = 2)")
    assert "w = 1," in CAR().rule()
    assert "w = 0.5," in CAR(CAR.Config(weight=0.5)).rule()


def test_the_most_that_a_list_of_n_labels_can_reach(sample):
    """N = 3, k = 2, 9 labels: C = 2/3, A = 1, so 2 * 2/3 / (5/3) = 4/5. With B as the rest, A = 2/3: CAR = 2/3."""
    short = sample("Colon", n=3, top=TOP[:2], bottom=BOTTOM)
    assert CAR().ceiling(short) == pytest.approx(4 / 5)
    assert CAR().ceiling(sample("Colon", n=3, top=TOP, bottom=BOTTOM)) == 1
    three = LabelSpace(("Colon", "Lung", "Skin"))
    assert CAR().ceiling(sample("Colon", n=3, top=TOP[:2], bottom=("Skin",), labels=three)) == pytest.approx(2 / 3)
    assert CAR().ceiling(sample("Colon", n=3)) == 1
