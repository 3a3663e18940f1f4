import pytest

from mint_core.types import LabelSpace
from mint_metrics.hfa import HFA

STRICT, LENIENT = HFA(), HFA(HFA.Config(mode="lenient"))


def both(sample) -> tuple[float, float]:
    return STRICT.score(sample), LENIENT.score(sample)


def test_n_known_labels_in_the_format_pass(sample):
    assert both(sample("Colon", "Lung", "Liver")) == (1, 1)


def test_case_punctuation_and_small_slips_pass(sample):
    assert both(sample("COLON.", "adrenal-gland", "Oesophagus")) == (1, 1)


def test_one_made_up_name_breaks_strict_only(sample):
    """`Quux` shares one character with `Lung`: 2 * 1 / 8."""
    assert both(sample("Colon", "Quux", "Liver")) == (0, 1)


def test_only_made_up_names_break_both(sample):
    assert both(sample("Quux", "Zyzzyva")) == (0, 0)


@pytest.mark.parametrize("text", ["", "   \n", "MOST_LIKELY_TISSUE:", "I cannot tell."])
def test_an_empty_response_fails_both(sample, text: str):
    assert both(sample(text=text, n=2)) == (0, 0)


@pytest.mark.parametrize("n", [1, 3])
def test_the_wrong_number_breaks_strict_only(sample, n: int):
    assert both(sample("Colon", "Lung", n=n)) == (0, 1)


def test_a_duplicate_breaks_strict_at_either_count(sample):
    """Three entries, two names: neither the three nor the two asked for."""
    assert both(sample("Colon", "Lung", "colon", n=3)) == (0, 1)
    assert both(sample("Colon", "Lung", "colon", n=2)) == (0, 1)


def test_two_names_of_one_label_break_strict_only(sample):
    labels = LabelSpace(("WILLIAMS-BEUREN SYNDROME", "Kabuki syndrome"), (("WBS",), ()))
    assert both(sample("Williams-Beuren syndrome", "WBS", labels=labels)) == (0, 1)
    assert both(sample("WBS", "Kabuki syndrome", labels=labels)) == (1, 1)


def test_near_equal_labels_are_two_labels(sample):
    labels = LabelSpace(("X syndrome type 1", "X syndrome type 2"))
    assert both(sample("X syndrome type 2", "X syndrome type 1", labels=labels)) == (1, 1)
    assert both(sample("X syndrome type 1", "X syndrome type 3", labels=labels)) == (0, 1)


@pytest.mark.parametrize(
    "text",
    [
        "Here you are.\nMOST_LIKELY_TISSUE:\n1. Colon\n2. Lung",
        "MOST_LIKELY_TISSUE:\n1. Colon\n2. Lung\nI hope this helps.",
        "MOST_LIKELY_TISSUE:\n1. Colon\nor\n2. Lung",
        "MOST_LIKELY_TISSUE:\n1. Colon\n3. Lung",
        "1. Colon\n2. Lung",
    ],
    ids=["before", "after", "between", "gap", "no-header"],
)
def test_what_is_not_the_format_breaks_strict_only(sample, text: str):
    assert both(sample(text=text, n=2)) == (0, 1)


def test_title_and_rule_name_the_mode():
    assert (STRICT.title(5), LENIENT.title(5)) == ("HFA", "HFA (lenient)")
    assert "(strict)" in STRICT.rule()
    assert "exactly N entries" in STRICT.rule()
    assert "(lenient)" in LENIENT.rule()
    assert "exactly" not in LENIENT.rule()
