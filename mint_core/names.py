"""The one place that compares names: which label a written name means.

Two names are compared by the ratio of Python's `difflib.SequenceMatcher` (2 M / T: M characters in common blocks, T
characters in both names), after lower-casing and dropping punctuation. The ratio is not symmetric, so the order is
fixed: the response's name first, the known name second.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mint_core.types import LabelSpace, normalise_name


def _compiled(module: str, name: str) -> Any:
    """What an optional package offers, or None. `pip install 'mint-core[fast]'`: the same results, sooner."""
    try:
        return getattr(import_module(module), name)
    except ImportError:
        return None


SequenceMatcher: Any = _compiled("cydifflib", "SequenceMatcher") or difflib.SequenceMatcher
cdist: Any = _compiled("rapidfuzz.process", "cdist")

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

    Returns:
        One match per name; None where no label reaches `KNOWN`.
    """
    return _matcher(labels).matches(list(response_names))


def recognise(response_names: Iterable[str], labels: LabelSpace) -> list[str | None]:
    """The canonical name of each name's nearest label; None where it does not reach `RECOGNISED`."""
    return [
        match.label if match and match.ratio >= RECOGNISED else None for match in best_matches(response_names, labels)
    ]


def _ratio(response_form: str, known_form: str) -> float:
    return float(SequenceMatcher(None, response_form, known_form, autojunk=False).ratio())


_NEARLY_RIGHT = 0.85
"""From this bound on a known name is compared at once: it will probably rule out all others."""
_MOST = int(np.iinfo(np.uint16).max)
_KEPT = 500_000
"""Matches that are kept per label space, at most."""
_FEW = 2
"""Up to so many known names are compared directly, because a tighter bound would cost more than it saves."""


@lru_cache(maxsize=8)
def _matcher(labels: LabelSpace) -> _Matcher:
    return _Matcher(labels)


class _Matcher:
    """Finds the nearest name of one label space, exactly, without running difflib on every known name.

    A known name is compared only where a bound of its ratio reaches the best ratio so far, and `KNOWN`. Two bounds are
    used, both for ALL known names at once and neither looser than difflib's own:

    characters    M is at most the number of characters that both names hold, in any order. Quick, and enough for a name
                  that is spelt nearly right.
    subsequence   difflib's common blocks form a common subsequence, so M is at most the length of the longest one.
                  Computed by rapidfuzz where it is installed, and then alone; else bit-parallel, one bit per character
                  of a known name (Hyyrö 2004, "Bit-parallel LCS-length computation revisited").

    What was found is kept, because responses repeat names.
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
        self._rows = {character: row for row, character in enumerate(places)}
        self._counts = np.zeros((len(places), len(self._forms)), np.uint16)  # of each character in each known name
        for column, form in enumerate(self._forms):
            for character, count in Counter(form).items():
                self._counts[self._rows[character], column] = count
        self._found: dict[str, Match | None] = {}

    def matches(self, response_names: Sequence[str]) -> list[Match | None]:
        """The nearest label of each name."""
        if len(self._found) > _KEPT:
            self._found.clear()
        found = self._found
        new = [name for name in dict.fromkeys(response_names) if name not in found]
        if new:
            exact = {name: self._labels.find(name) for name in new}
            found.update({name: Match(label, 1.0) for name, label in exact.items() if label})
            forms = {name: normalise_name(name) for name, label in exact.items() if not label}
            found.update(zip(forms, self._nearest_of(list(forms.values())), strict=True))
        return [found[name] for name in response_names]

    def _nearest_of(self, forms: Sequence[str]) -> list[Match | None]:
        """The nearest label of each form, none of which is a known name."""
        if cdist is None or not forms:
            return [self._nearest(form, self._bounds(form, self._shared(form))) if form else None for form in forms]
        common = cdist(forms, self._forms, scorer=_compiled("rapidfuzz.distance", "LCSseq").similarity, dtype=np.int64)
        rows = zip(forms, common, strict=True)
        return [self._nearest(form, self._bounds(form, row)) if form else None for form, row in rows]

    def _nearest(self, form: str, bounds: NDArray[np.float64]) -> Match | None:
        """The nearest label of a normalised name, from bounds of its ratio with each known name, shape (n_forms,)."""
        open_ones = np.flatnonzero(bounds >= KNOWN)
        best = (KNOWN, -len(self._forms))  # ratio and minus the place: of equally near names the earlier one counts
        first = int(bounds.argmax())
        if bounds[first] >= _NEARLY_RIGHT:
            best = max(best, (_ratio(form, self._forms[first]), -first))
            open_ones = open_ones[(bounds[open_ones] >= best[0]) & (open_ones != first)]
        if cdist is None and len(open_ones) > _FEW:
            bounds = self._bounds(form, self._common(form))
            open_ones = open_ones[bounds[open_ones] >= best[0]]
        for index in open_ones[np.argsort(-bounds[open_ones], kind="stable")].tolist():
            if bounds[index] < best[0]:
                break
            best = max(best, (_ratio(form, self._forms[index]), -index))
        nearest, place = best[0], -best[1]
        return None if place == len(self._forms) else Match(self._owners[place], nearest)

    def _bounds(self, form: str, common: NDArray[np.int64]) -> NDArray[np.float64]:
        """From the most characters that can match to the highest ratio."""
        bounds: NDArray[np.float64] = 2.0 * common / (self._lengths + len(form))
        return bounds

    def _shared(self, form: str) -> NDArray[np.int64]:
        """Characters that the form and each known name share, in any order, shape (n_forms,)."""
        own = {self._rows[character]: count for character, count in Counter(form).items() if character in self._rows}
        if not own:
            return np.zeros(len(self._forms), np.int64)
        limits = np.array([min(count, _MOST) for count in own.values()], np.uint16)
        shared: NDArray[np.int64] = np.minimum(self._counts[list(own)], limits[:, None]).sum(axis=0, dtype=np.int64)
        return shared

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
