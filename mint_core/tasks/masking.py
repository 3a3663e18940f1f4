"""Takes out of a text what the student may not read: names of labels, and privileged values."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mint_core.tasks.folding import fold, pattern_of, skeleton, skeleton_of_name
from mint_core.types import LabelSpace

_ANY_CASE_FROM = 3
"""Letters of a name; shorter ones stand for too much else to be looked for in any case."""


class Masked(NamedTuple):
    """A text, and how often something was masked in it."""

    text: str
    times: int


class LabelMask:
    """Takes the names of all labels out of texts, in every spelling.

    All of them, and not the true one alone: which names are left would tell what the label is not, and of a new sample
    nobody knows which one to take out. Names of one or two letters stay.

    Args:
        labels: The label space, aliases included.
        by: What stands in their place.
    """

    def __init__(self, labels: LabelSpace, by: str = "[label]") -> None:
        forms = {form for name in labels.names for form in labels.all_names(name) if len(form) >= _ANY_CASE_FROM}
        self._known = [(skeleton_of_name(form), form) for form in forms]
        self._by = by

    def mask(self, text: str) -> Masked:
        """The text without them, and how many there were."""
        bones = skeleton(text)
        return masked(text, [form for own, form in self._known if own in bones], self._by)


def mask_privileged(text: str, privileged: Mapping[str, str]) -> Masked:
    """The text with `[gene]` for every gene of the field `gene`, and likewise for other fields.

    Args:
        text: What the student would read.
        privileged: Value by field; a value may be a list such as `KMT2D; KDM6A`.
    """
    count = 0
    for field, value in privileged.items():
        text, more = masked(text, _parts(value), f"[{field}]", in_words=False)
        count += more
    return Masked(text, count)


def _parts(value: str) -> Iterator[str]:
    """The values of a list, and the ids and symbols among their words."""
    for part in re.split(r"[,;/|]", value):
        yield part.strip()
        for word in part.split():
            if len(word) >= _ANY_CASE_FROM and (word.isupper() or re.search(r"\d", word)):
                yield word


def masked(text: str, names: Iterable[str], by: str, *, in_words: bool = True) -> Masked:
    """The text without names, the longest first.

    Args:
        text: What somebody wrote.
        names: Those of one or two letters are found as whole words in the case in which they are written.
        by: What stands in their place.
        in_words: They are made of words, which are inflected and spelt in several ways; else symbols or ids.
    """
    count = 0
    folded = fold(text)
    for name in sorted(set(names), key=lambda name: (-len(name), name)):
        if len(name) < _ANY_CASE_FROM:
            text, more = _masked_exactly(text, name, by)
            folded = fold(text) if more else folded
            count += more
            continue
        pattern = pattern_of(name, in_words=in_words)
        spans = [found.span() for found in pattern.finditer(folded.text)] if pattern else []
        for start, end in reversed(spans):
            stop = folded.places[end - 1] + 1
            after = folded.places[end] if end < len(folded.places) else len(text)
            # What was folded away behind the last letter, such as its accent, goes with it.
            stop = after if all(map(_invisible, text[stop:after])) else stop
            text = text[: folded.places[start]] + by + text[stop:]
        if spans:
            folded = fold(text)
            count += len(spans)
    return Masked(text, count)


def _invisible(mark: str) -> bool:
    return unicodedata.category(mark) in ("Mn", "Cf")


def _masked_exactly(text: str, name: str, by: str) -> Masked:
    """The text without a short name: whole words only, in the case in which it is written."""
    words = [word for word in re.split(r"[\W_]+", name) if word]
    if not words:
        return Masked(text, 0)
    pattern = r"[\W_]+".join(map(re.escape, words))
    return Masked(*re.subn(rf"(?<![^\W_]){pattern}(?![^\W_])", by, text))
