"""No cell of a table is computed by a spreadsheet, whatever stands in front of the sign, and none holds controls."""

import csv
import io
import unicodedata

import pytest

from mint_core.answering.formats import Csv, JsonLines
from mint_core.answering.outcome import Outcome

SIGNS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "﹦", "﹢", "﹣", "﹫", "⁺", "\u2212")  # noqa: RUF001 - read in any width
IN_FRONT = (
    "", " ", "\t", "\n", "\r", "\x00", "\x0b", "\x0c", "\x1c", "\x1f", "\x7f", "\x85", "\xa0", "\xad", "\u034f",
    "\u061c", "\u115f", "\u1680", "\u180e", "\u2003", "\u200b", "\u200d", "\u200e", "\u2028", "\u202e", "\u202f",
    "\u2060", "\u2800", "\u3000", "\u3164", "\ufe0f", "\ufeff", "\U000e0020", "\ue000", "\ufeff\x00 \u3000",
    "a; ", "x;y;\x1f", ";",
)  # fmt: skip


def _computed(cell: str) -> bool:
    """As a spreadsheet with commas or semicolons reads it, were it to pass over all that has no ink."""
    blank = "\u2800\u115f\u1160\u3164\uffa0"
    for part in cell.split(";"):
        seen = [mark for mark in part if unicodedata.category(mark)[0] not in "ZCM" and mark not in blank]
        if seen and unicodedata.normalize("NFKC", seen[0])[0] in "=+-@\u2212":
            return True
    return False


@pytest.mark.parametrize("front", IN_FRONT, ids=ascii)
def test_no_sign_opens_a_formula_wherever_the_text_comes_from(front: str) -> None:
    form = Csv(width=2, scored=False, response=True, echo=True, passages=True)
    for sign in SIGNS:
        text = f"{front}{sign}HYPERLINK(1)"
        outcome = Outcome(text, "free", labels=(text, f"fine{sign}"), error=text, response=text, input=text)
        line = form.line(outcome)
        (cells,) = csv.reader(io.StringIO(line), strict=True)
        assert not any(map(_computed, cells)), (sign, cells)
        assert not any(unicodedata.category(mark) in ("Cc", "Cs", "Zl", "Zp") for mark in line[:-1])
        assert cells[7] == f"fine{sign}"
        assert form.read(line).key == form.key(text)


def test_controls_in_cells_become_spaces_or_are_written_out() -> None:
    form = Csv(width=1, scored=False)
    outcome = Outcome("a\x1b[31mb\x00c\x9bd\u202ee\ufefff", "free", labels=("x\x08y\u2029z",))
    (cells,) = csv.reader([form.line(outcome)])
    assert cells[0] == r"a [31mb c d\u202ee\ufefff"
    assert cells[6] == "x y z"


def test_a_semicolon_does_not_split_a_cell() -> None:
    line = Csv(width=1, scored=False).line(Outcome("a;b", "free", labels=("c",)))
    assert line.startswith('"a;b",')


def test_json_lines_command_no_terminal() -> None:
    form = JsonLines()
    text = "".join(map(chr, range(0x20))) + "\x7f\x9b\u202e\u2028"
    line = form.line(Outcome(text, "free"))
    assert line.isascii() and line[:-1].isprintable()
    assert form.read(line).key == text
