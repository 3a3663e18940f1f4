"""The label space refuses what could not be written and read back."""

import pytest

from mint_core.errors import DataError
from mint_core.types import VARIANTS, LabelSpace, Variant, squeezed


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
    assert len(VARIANTS) == 11
    assert all(Variant.of(name) == variant and variant.title for name, variant in VARIANTS.items())
    assert Variant("aligned", free=True).name == "aligned-free"
