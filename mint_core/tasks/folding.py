"""Text without what keyboards, word processors and PDFs make of it, so that a name is found in every spelling."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_LETTERS = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "\u0131": "i"}
"""Letters that Unicode does not take apart."""
_MARKS = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u02bb\u02b9\u2032\u00b4`\uff07", "'"),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d\u00ac", "-"),
}
"""Apostrophes and dashes of typographers; some PDFs end a broken line with a negation sign."""
_VOWELS = {
    "ae": "(?:ae|a|e)", "oe": "(?:oe|o|e)", "ue": "(?:ue|u)", "our": "ou?r", "or": "oe?u?r",
    "a": "ae?", "e": "[ao]?e", "o": "oe?", "u": "ue?",
}  # fmt: skip
"""British, American and transcribed spellings: haemophilia, hemophilia; Moebius, Möbius; tumour, tumor."""
_PIECE = re.compile("ae|oe|ue|our|or|.")
_ROMAN = ("", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")
_POSSESSIVE = r"(?:\s?'\s?s|s\s?'|s|es)?"
_BROKEN = r"(?:-\s*)?"
"""A hyphen at the end of a line, or where one was."""
HEADS = ("syndrome", "disease", "disorder")
"""One writer takes this, another that."""
_LONG = 5
"""Letters of a word that may be broken at the end of a line."""
_WHOLE = 6
"""Letters of a name that is looked for without its spaces, too."""


@dataclass(frozen=True, slots=True)
class Folded:
    """A text in lower case, without accents, ligatures and invisible characters."""

    text: str
    places: Sequence[int]
    """Where each of its characters stands in the original."""


def fold(text: str) -> Folded:
    """Folds a text for comparison."""
    if text.isascii():
        return Folded(text.lower().replace("`", "'"), range(len(text)))
    marks: list[str] = []
    places: list[int] = []
    for place, mark in enumerate(text):
        for piece in unicodedata.normalize("NFKD", _MARKS.get(mark, mark)).lower():
            if unicodedata.category(piece) in ("Mn", "Cf"):
                continue
            folded = _LETTERS.get(piece, _MARKS.get(piece, piece))
            marks.append(folded)
            places.extend([place] * len(folded))
    return Folded("".join(marks), places)


def squashed(text: str) -> str:
    """The letters and digits of a text, folded."""
    return re.sub(r"[\W_]+", "", fold(text).text)


def skeleton(text: str) -> str:
    """The letters and digits of a text but for the vowels whose spelling varies, folded."""
    return re.sub(r"[\W_aeou]+", "", fold(text).text)


def skeleton_of_name(name: str) -> str:
    """What the skeleton of every text holds in which `pattern_of` finds the name; a quick look that rejects most."""
    words = [word for word in re.findall(r"[^\W\d_]{3,}", fold(name).text) if word not in (*HEADS, *_ROMAN)]
    return max((skeleton(_inflected(word)[0]) for word in words), key=len, default="")


@lru_cache(maxsize=65536)
def pattern_of(name: str, *, in_words: bool) -> re.Pattern[str] | None:
    """Finds a name in a folded text; None where the name has no letter and no digit.

    Args:
        name: As it is written.
        in_words: It is made of words, which are inflected and spelt in several ways; else it is a symbol or an id.
    """
    folded = re.sub(r"(?<=\w)'s?(?![^\W_])", "", fold(name).text)
    pieces = re.findall(r"[^\W\d_]+|\d+|[\W_]+", folded)
    words = [piece for piece in pieces if piece[0].isalnum()]
    if not words:
        return None
    whole = sum(map(len, words)) >= _WHOLE
    parts: list[str] = []
    for at, piece in enumerate(pieces):
        if not piece[0].isalnum():
            continue
        if parts:
            apart = not pieces[at - 1][0].isalnum()
            parts.append(_between(apart, len(pieces[at - 1]), in_words=in_words, whole=whole))
        parts.append(_word(piece, in_words=in_words))
    return re.compile(rf"(?<![^\W_]){''.join(parts)}(?![^\W_])")


def _between(apart: bool, before: int, *, in_words: bool, whole: bool) -> str:
    """What may stand between two pieces of a name, which stand apart in it or not."""
    if apart:
        return r"[\W_]*" if in_words and whole else r"[\W_]+" if in_words else r"[\W_]{0,3}"
    return r"[-_/.\s]?" if before > 1 else "-?"  # `F 12` is a woman of 12 years, not the gene F12


def _word(word: str, *, in_words: bool) -> str:
    if not in_words:
        return re.escape(word)
    if word in _ROMAN or (word.isdigit() and int(word) < len(_ROMAN) and int(word) > 0):
        number = int(word) if word.isdigit() else _ROMAN.index(word)
        return f"(?:0?{number}|{_ROMAN[number]})"
    if word.isdigit() or len(word) < 3:
        return re.escape(word)
    if word in HEADS:
        return f"(?:{'|'.join(_BROKEN.join(head) for head in HEADS)}){_POSSESSIVE}"
    stem, end = _inflected(word)
    pieces = _PIECE.findall(stem) if len(word) > 3 else list(stem)
    joint = _BROKEN if len(word) >= _LONG else ""
    spelt = [_VOWELS.get(piece, re.escape(piece)) if len(word) > 3 else re.escape(piece) for piece in pieces]
    return joint.join(spelt) + end


def _inflected(word: str) -> tuple[str, str]:
    """Stem, and pattern of the ends of a word."""
    if word.endswith("y"):
        return word[:-1], rf"(?:y{_POSSESSIVE}|ies)"
    if word.endswith("is"):
        return word[:-2], r"(?:is|es)"
    if word.endswith("s") and not word.endswith(("ss", "us")) and len(word) >= _LONG:
        return word[:-1], _POSSESSIVE
    return word, _POSSESSIVE
