"""The phrases of a text, and the text without some of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """A part of a text, in characters: `text[start:stop]`."""

    start: int
    stop: int


_BREAK = re.compile(r"\s*(?:[;\n\u3001\u3002\uff0c\uff1b]|,(?!\d)|[.!?]+(?=\s|$))\s*")
"""Between two phrases: a line's end, a semicolon, a comma that stands in no number, the end of a sentence."""
_HEADING = re.compile(r"[^\W\d_][^:]{0,40}:\s+")
"""In front of a phrase and no part of it: `Phenotypes: `."""
_WORD = re.compile(r"\w")
_STRENGTH = (",", ";", "\n", ".")


def split(text: str) -> list[Span]:
    """The phrases of a text: what stands between commas, semicolons, ends of sentences and ends of lines.

    A heading in front of a phrase (`Phenotypes: `) belongs to none, and neither do the marks between them. A comma or a
    point inside a number separates nothing.
    """
    spans, start = [], 0
    for end, behind in [*((mark.start(), mark.end()) for mark in _BREAK.finditer(text)), (len(text), len(text))]:
        piece = text[start:end]
        heading = _HEADING.match(piece.lstrip())
        left = start + len(piece) - len(piece.lstrip()) + (heading.end() if heading else 0)
        right = start + len(piece.rstrip())
        if left < right and _WORD.search(text, left, right):
            spans.append(Span(left, right))
        start = behind
    return spans


def without(text: str, spans: Sequence[Span], gone: Collection[int]) -> str:
    """A text without some of its phrases. Of the marks on both sides of one the stronger stays.

    `Age 3, female. Phenotypes: seizure, short stature.` without its fourth phrase is `Age 3, female. Phenotypes:
    seizure.`

    Args:
        text: The text.
        spans: Its phrases, in order and apart from each other.
        gone: Numbers of those that are left out.
    """
    bounds = [0, *(place for span in spans for place in span), len(text)]
    between = [text[start:stop] for start, stop in zip(bounds[::2], bounds[1::2], strict=True)]
    made, pending = "", between[0]
    for number, span in enumerate(spans):
        last = number == len(spans) - 1
        if number in gone:
            pending = _joined(pending, between[number + 1], first=not made, last=last)
        else:
            made += pending + text[span.start : span.stop]
            pending = between[number + 1]
    return made + pending


def _joined(before: str, behind: str, *, first: bool, last: bool) -> str:
    """What stands in the place of a phrase that is gone, from what stood on its two sides."""
    words = bool(_WORD.search(before)), bool(_WORD.search(behind))
    if first and last:
        return before + behind
    if all(words):
        return before.rstrip() + behind
    if words[1]:
        return behind.lstrip(" ,;.\n") if first else behind
    if words[0] or first:
        return before.rstrip() + behind if last else before
    if last:
        return behind
    return max(before, behind, key=_strength)


def _strength(marks: str) -> int:
    return max((_STRENGTH.index(mark) for mark in marks if mark in _STRENGTH), default=-1)
