"""Predictions as JSON lines and as a table for spreadsheets: one line per sample, so that a cut-off one can be told."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mint_core.answering.outcome import Outcome
from mint_core.characters import visible
from mint_core.documents import parse_json

_FORMULA = frozenset("=+-@\u2212")
"""What opens a formula, in any width or size; spreadsheets take U+2212 for a minus."""
_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols without ink, behind which a sign would not be seen to be the first."""
_QUOTE = '"'
_QUOTED = frozenset(',;"|\t')
"""Cells with one of them are quoted: programs split rows at semicolons too."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a line of an earlier attempt says: the sample (see `Format.key`), and whether it failed."""

    key: str
    failed: bool


class Format(ABC):
    """One way to write outcomes.

    Args:
        response: Write what the student wrote.
        echo: Write what the student read.
        passages: Write where retrieved passages come from.
    """

    def __init__(self, *, response: bool = False, echo: bool = False, passages: bool = False) -> None:
        wanted = {"response": response, "input": echo, "passages": passages}
        self.extra = tuple(name for name, there in wanted.items() if there)

    @property
    def head(self) -> str:
        """What stands in front of the first sample."""
        return ""

    @abstractmethod
    def line(self, outcome: Outcome) -> str:
        """One sample, with the end of the line."""

    def key(self, sample_id: str) -> str:
        """A sample's id as it can be read back."""
        return sample_id

    @abstractmethod
    def read(self, line: str) -> Written:
        """Reads back what `line` wrote.

        Raises:
            ValueError: It did not write that.
        """


class JsonLines(Format):
    """One JSON object per line."""

    def line(self, outcome: Outcome) -> str:
        """See `Format.line`."""
        record: dict[str, Any] = asdict(outcome)
        for name in {"response", "input", "passages"}.difference(self.extra):
            del record[name]
        # json escapes all else that commands a terminal
        return json.dumps(record, allow_nan=False).replace("\x7f", "\\u007f") + "\n"

    def read(self, line: str) -> Written:
        """See `Format.read`."""
        record = parse_json(line)
        if not isinstance(record, Mapping) or not isinstance(record.get("id"), str):
            raise ValueError("no record of a sample")
        return Written(record["id"], bool(record.get("error")))


class Csv(Format):
    """One row per sample, with a column per label.

    Cells that a spreadsheet would take for a formula get an apostrophe in front, line breaks and control characters
    become spaces, and what does not show is written out (`visible`).

    Args:
        width: Labels per row; further ones of a longer list are left out, `n_listed` counts them.
        scored: Write a probability beside every label, and what is missing of them.
        free: Write whether an answer was cut, which only those can be that are written freely.
        extra: See `Format`.
    """

    def __init__(self, *, width: int, scored: bool, free: bool = False, **extra: bool) -> None:
        super().__init__(**extra)
        self.width, self.scored, self.free = width, scored, free

    @property
    def _columns(self) -> list[str]:
        kinds = ("label", "probability", "normalised") if self.scored else ("label",)
        ranked = [f"{kind}_{place}" for place in range(1, self.width + 1) for kind in kinds]
        how = ["well_formed", "n_listed", *(["truncated"] if self.free else []), "error"]
        how += ["missing_mass"] if self.scored else []
        return ["id", "decode", "abstained", *how, *ranked, *self.extra]

    @property
    def head(self) -> str:
        """The names of the columns."""
        return _row(self._columns)

    def line(self, outcome: Outcome) -> str:
        """See `Format.line`."""
        cells = {
            "id": outcome.id,
            "decode": outcome.decode,
            "abstained": json.dumps(outcome.abstained),
            "well_formed": json.dumps(outcome.well_formed),
            "n_listed": str(outcome.n_listed),
            "truncated": json.dumps(outcome.truncated),
            "error": outcome.error or "",
            "missing_mass": "" if outcome.missing_mass is None else str(outcome.missing_mass),
            "response": outcome.response,
            "input": outcome.input,
            "passages": " ".join(outcome.passages),
        }
        cells |= {f"label_{place}": label for place, label in enumerate(outcome.labels, 1)}
        for kind, values in (
            ("probability", outcome.probabilities),
            ("normalised", outcome.normalised_probabilities),
        ):
            cells |= {f"{kind}_{place}": str(value) for place, value in enumerate(values or (), 1)}
        return _row([_cell(cells.get(column, "")) for column in self._columns])

    def key(self, sample_id: str) -> str:
        """The id as it stands in its cell."""
        return _cell(sample_id)

    def read(self, line: str) -> Written:
        """See `Format.read`."""
        cells = next(csv.reader(io.StringIO(line), strict=True), [])
        record = dict(zip(self._columns, cells, strict=True))
        return Written(record["id"], bool(record["error"]))


def _cell(text: str) -> str:
    """One cell: no line break, no control character, nothing that a spreadsheet would compute."""
    words = "".join(" " if unicodedata.category(mark) in ("Cc", "Zl", "Zp") else mark for mark in text).split()
    readable = visible(" ".join(words).encode("utf-8", "replace").decode("utf-8"))  # names of files need not be text
    # Where a semicolon separates cells, as in much of Europe, a sign behind one would begin a formula too.
    return ";".join(f"'{part}" if _begins_formula(part) else part for part in readable.split(";"))


def _begins_formula(text: str) -> bool:
    """Whether the first character that shows, behind blanks, control characters and stray marks, opens a formula."""
    for mark in text:
        if unicodedata.category(mark)[0] in "ZCM" or mark in _BLANK_LETTERS:
            continue
        return unicodedata.normalize("NFKC", mark)[0] in _FORMULA
    return False


def _row(cells: Sequence[str]) -> str:
    quoted = (f'"{cell.replace(_QUOTE, _QUOTE * 2)}"' if _QUOTED.intersection(cell) else cell for cell in cells)
    return ",".join(quoted) + "\n"
