"""The one place that compares names.

Two names are compared by the ratio of Python's `difflib.SequenceMatcher` (2 M / T: M characters in common blocks, T
characters in both names), after lower-casing and dropping punctuation. The ratio is not symmetric, so the order is
fixed: the response's name first, the known name second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mint_core.types import LabelSpace, normalise_name

KNOWN = 0.6
"""From this ratio on a name counts as a known label and not as made up (HFA)."""
RECOGNISED = 0.8
"""From this ratio on a name counts as that label (Top-N, CAR)."""


def ratio(response_name: str, known_name: str) -> float:
    """How alike two names are, in [0, 1]; 1 where they are equal after normalisation."""
    return _ratio(normalise_name(response_name), normalise_name(known_name))


@dataclass(frozen=True, slots=True)
class Match:
    """The label that a response's name is nearest to."""

    label: str
    """Its canonical name."""
    ratio: float
    """The ratio of its nearest name or alias, in [KNOWN, 1]."""


def best_matches(response_names: Iterable[str], labels: LabelSpace) -> list[Match | None]:
    """The nearest label of each name, over canonical names and aliases.

    Of equally near labels the earlier one in the label space wins.

    Args:
        response_names: Names as the student wrote them.
        labels: The label space.

    Returns:
        One match per name; None where no label reaches `KNOWN`.
    """
    matcher = _matcher(labels)
    return [matcher.match(name) for name in response_names]


def recognise(response_names: Iterable[str], labels: LabelSpace) -> list[str | None]:
    """The canonical name of each name's nearest label; None where it does not reach `RECOGNISED`."""
    return [
        match.label if match and match.ratio >= RECOGNISED else None for match in best_matches(response_names, labels)
    ]


def _ratio(response_form: str, known_form: str) -> float:
    return SequenceMatcher(None, response_form, known_form, autojunk=False).ratio()


@lru_cache(maxsize=8)
def _matcher(labels: LabelSpace) -> _Matcher:
    return _Matcher(labels)


class _Matcher:
    """Finds the nearest name of one label space, exactly, without running difflib on every known name.

    difflib's common blocks form a common subsequence, so 2 LCS / T bounds its ratio from above, and more tightly than
    difflib's own `quick_ratio`. The LCS with ALL known names is computed at once, bit-parallel, one bit per character
    of a known name (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"). Only names whose bound reaches the
    best ratio so far are given to difflib: about one in a thousand.
    """

    def __init__(self, labels: LabelSpace) -> None:
        self._labels = labels
        self._owners = [name for name in labels.names for _ in labels.all_names(name)]
        self._forms = [normalise_name(form) for name in labels.names for form in labels.all_names(name)]
        self._lengths = np.array([len(form) for form in self._forms])
        # The names lie side by side in one integer, each followed by a guard bit that takes up the carry of the sum.
        self._starts = np.concatenate([[0], np.cumsum(self._lengths + 1)[:-1]])
        self._n_bits = int(np.sum(self._lengths + 1))
        places: dict[str, list[int]] = {}
        for start, form in zip(self._starts.tolist(), self._forms, strict=True):
            for place, character in enumerate(form, start):
                places.setdefault(character, []).append(place)
        self._places = {character: self._bits(where) for character, where in places.items()}
        self._all = self._bits([place for where in places.values() for place in where])
        self.match = lru_cache(maxsize=32_768)(self._match)

    def _match(self, response_name: str) -> Match | None:
        if exact := self._labels.find(response_name):
            return Match(exact, 1.0)
        form = normalise_name(response_name)
        if not form:
            return None
        bounds = 2.0 * self._common(form) / (self._lengths + len(form))
        best, best_ratio = -1, 0.0
        for index in np.argsort(-bounds, kind="stable").tolist():
            if bounds[index] < max(KNOWN, best_ratio):
                break
            value = _ratio(form, self._forms[index])
            if value >= KNOWN and (value > best_ratio or (value == best_ratio and index < best)):
                best, best_ratio = index, value
        return None if best < 0 else Match(self._owners[best], best_ratio)

    def _common(self, form: str) -> NDArray[np.int64]:
        """Length of the longest common subsequence with each known name, shape (n_forms,)."""
        unmatched = self._all
        for character in form:
            if here := unmatched & self._places.get(character, 0):
                unmatched = ((unmatched + here) | (unmatched - here)) & self._all
        matched = np.frombuffer((self._all ^ unmatched).to_bytes(self._n_bits // 8 + 1, "little"), np.uint8)
        bits = np.unpackbits(matched, bitorder="little", count=self._n_bits)
        return np.add.reduceat(bits, self._starts, dtype=np.int64)

    def _bits(self, places: list[int]) -> int:
        bits = np.zeros(self._n_bits, np.uint8)
        bits[places] = 1
        return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")
