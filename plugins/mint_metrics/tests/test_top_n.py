import pytest

from mint_core.types import LabelSpace
from mint_metrics.top_n import Top1, TopN

PROSE = "Surely these:\nMOST_LIKELY_TISSUE:\n1. Colon\n2. Lung"


def off(metric: type[TopN]) -> TopN:
    return metric(metric.Config(hfa="off"))


@pytest.mark.parametrize(
    ("names", "top_n", "top_1"),
    [
        (("Colon", "Lung", "Liver"), 1, 1),
        (("Lung", "Liver", "Colon"), 1, 0),
        (("Lung", "Liver", "Skin"), 0, 0),
        (("COLON!", "Lung", "Liver"), 1, 1),
        (("Colonn", "Lung", "Liver"), 1, 1),
    ],
    ids=["first", "last", "absent", "case", "slip"],
)
def test_the_truth_among_the_names(sample, names: tuple[str, ...], top_n: float, top_1: float):
    one = sample(*names, truth="Colon")
    assert (TopN().score(one), Top1().score(one)) == (top_n, top_1)


def test_a_name_between_the_thresholds_is_known_but_no_hit(sample):
    """`colic` / `colon`: blocks `col`, 2 * 3 / 10 = 0.6: it passes HFA, and is not recognised."""
    assert TopN().score(sample("Colic", "Lung", truth="Colon")) == 0
    assert TopN().score(sample("Colic", "Lung", truth="Lung")) == 1


def test_only_the_first_n_names_count(sample):
    long = sample("Lung", "Liver", "Colon", n=2, truth="Colon")
    assert off(TopN).score(long) == 0
    assert off(TopN).score(sample("Lung", "Colon", "Liver", n=2, truth="Colon")) == 1


def test_what_fails_strict_hfa_is_a_miss(sample):
    for failed in (sample(text=PROSE, n=2), sample("Colon", "Colon", "Lung"), sample("Colon", "Quux")):
        assert (TopN().score(failed), Top1().score(failed)) == (0, 0)
        assert (off(TopN).score(failed), off(Top1).score(failed)) == (1, 1)


def test_the_lenient_gate_lets_prose_pass(sample):
    assert TopN(TopN.Config(hfa="lenient")).score(sample(text=PROSE, n=2)) == 1


@pytest.mark.parametrize("text", ["", "MOST_LIKELY_TISSUE:", "no idea"])
@pytest.mark.parametrize("hfa", ["strict", "lenient", "off"])
def test_an_empty_response_is_a_miss(sample, text: str, hfa: str):
    for metric in (TopN, Top1):
        assert metric(metric.Config(hfa=hfa)).score(sample(text=text, n=2)) == 0


def test_of_near_equal_labels_only_the_right_one_hits(sample):
    labels = LabelSpace(("X syndrome type 1", "X syndrome type 2", "Kabuki syndrome"))
    named = sample("X syndrome type 2", "Kabuki syndrome", truth="X syndrome type 1", labels=labels)
    assert TopN().score(named) == 0
    named = sample("X syndrome type 2", "Kabuki syndrome", truth="X syndrome type 2", labels=labels)
    assert TopN().score(named) == 1


def test_an_alias_hits(sample):
    labels = LabelSpace(("WILLIAMS-BEUREN SYNDROME", "Kabuki syndrome"), (("WBS",), ()))
    assert Top1().score(sample("WBS", "Kabuki syndrome", truth="WILLIAMS-BEUREN SYNDROME", labels=labels)) == 1


def test_titles_and_rules():
    assert (TopN().title(5), TopN().title(10), Top1().title(10)) == ("Top-5", "Top-10", "Top-1")
    assert TopN(TopN.Config(hfa="lenient")).title(5) == "Top-5 (lenient HFA)"
    assert off(Top1).title(5) == "Top-1 (HFA off)"
    assert "fails strict HFA is a miss" in TopN().rule()
    assert "fails lenient HFA" in Top1(Top1.Config(hfa="lenient")).rule()
    assert "not asked for" in off(Top1).rule()
    assert "first name" in Top1().rule()
