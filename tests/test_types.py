"""The label space refuses what could not be written and read back."""

import pytest

from mint_core.errors import DataError
from mint_core.types import VARIANTS, LabelSpace, Variant, identity_of, normalise_name, squeezed


@pytest.mark.parametrize("mark", ["\n", "\r\n", "\t", "\x0b", "\x00", "\x1b", "\u2028", "\u2029", "\x85"])
def test_a_label_that_breaks_a_line_is_refused(mark: str) -> None:
    with pytest.raises(DataError, match="cannot be written on one line"):
        LabelSpace(("Colon", f"Squamous cell{mark}carcinoma"))
    with pytest.raises(DataError, match="cannot be written on one line"):
        LabelSpace(("Colon", "Liver"), ((), (f"Hepar{mark}alias",)))
    assert squeezed(f" Squamous cell{mark}carcinoma ") == "Squamous cell carcinoma"


def test_a_wrong_count_of_aliases_says_both_counts() -> None:
    with pytest.raises(DataError, match="aliases for 1 labels, and 2 labels"):
        LabelSpace(("Colon", "Liver"), (("Large bowel",),))


def test_variants_have_names_of_their_own_and_are_found_by_them() -> None:
    assert len(VARIANTS) == 12
    assert all(Variant.of(name) == variant and variant.title for name, variant in VARIANTS.items())
    assert Variant("aligned", free=True).name == "aligned-free"


SIGNS = [
    ("HER2+ breast cancer", "HER2- breast cancer"), ("HER2+ breast cancer", "HER2 breast cancer"), ("5q-", "5q+"),
    ("5q-", "5q"), ("ER+/PR-", "ER-/PR+"), ("HER2\u2212", "HER2+"), ("HER2\u2013", "HER2"), ("CD4\u207a", "CD4\u207b"),
    ("PD-L1 <1%", "PD-L1 >1%"), ("PD-L1 \u22651", "PD-L1 1"), ("Melanoma?", "Melanoma"), ("Grade -1", "Grade 1"),
    ("HLA-B*27", "HLA-B 27"), ("Stage 1.5", "Stage 1 5"), ("5 \u00b1 1", "5 + 1"), ("A & B", "A | B"), ("#1", "1"),
]  # fmt: skip
"""Pairs of names that differ in a sign alone."""


@pytest.mark.parametrize(("one", "other"), SIGNS)
def test_labels_that_differ_in_a_sign_are_two_and_are_refused_with_both_names(one: str, other: str) -> None:
    assert identity_of(one) != identity_of(other)
    with pytest.raises(DataError, match="differ in signs only") as caught:
        LabelSpace((one, other, "Other"))
    assert f"'{one}'" in str(caught.value) and f"'{other}'" in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Bile-duct", "bile_duct"), ("Bile \u2013 duct", "Bile duct"), ("HER2+ cancer", "HER2 + cancer"),
        ("HER2\u2212", "HER2-"), ("HER2\u2013", "HER2-"), ("CD4\u207a", "CD4+"), ("Tumour (left)", "tumour, left"),
        ("M\u00e9ni\u00e8re disease", "Me\u0301nie\u0300re disease"), ("Mar\u00adfan", "Marfan"), ("A\u00a0B", "A B"),
        ("Zero\u200bwidth", "Zerowidth"),
    ],
)  # fmt: skip
def test_one_label_written_two_ways_has_one_identity(one: str, other: str) -> None:
    assert identity_of(one) == identity_of(other)
    assert normalise_name(one) == normalise_name(other)


def test_combining_marks_tell_labels_apart() -> None:
    pairs = [("x\u0304", "x"), ("\u0915\u093f", "\u0915\u093e"), ("\u05d1\u05bc", "\u05d1")]
    for one, other in pairs:  # none of them has a composed form
        assert normalise_name(one) != normalise_name(other)
        assert len(LabelSpace((one, other))) == 2
    assert LabelSpace(("M\u00e9ni\u00e8re", "Usher")).find("Me\u0301nie\u0300re") == "M\u00e9ni\u00e8re"


def test_a_squeezed_name_is_composed_and_shows_all_that_it_holds() -> None:
    assert squeezed("Me\u0301nie\u0300re\u00a0\u202edis\u00adease\u200b") == "M\u00e9ni\u00e8re disease"
