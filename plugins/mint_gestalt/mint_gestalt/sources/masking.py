"""Takes out of a text what the student may not read: names of the disease, and privileged values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

_NUMBER = re.compile(r",?(?:\s+(?i:type|subtype|complementation group))?,?\s+(?:\d+[A-Za-z\d]*|[IVX]+[A-Za-z]?|[A-Z])$")
"""What tells the diseases of a series apart: `1`, `, type 2A`, `IV`."""
_ANY_CASE_FROM = 3
"""Shorter names stand for too much else to be looked for in any case."""


def mask_disease(text: str, names: Iterable[str]) -> str:
    """The text with `[disease]` for every name of three or more letters, also without its number in a series.

    Args:
        text: What somebody wrote.
        names: All names of the patient's disease.
    """
    all_names = {form for name in names for form in (name, _NUMBER.sub("", name)) if len(form) >= _ANY_CASE_FROM}
    for name in sorted(all_names, key=lambda name: (-len(name), name)):
        text = _masked(text, name, "[disease]")
    return text


def mask_privileged(text: str, privileged: Mapping[str, str]) -> str:
    """The text with `[gene]` for every gene of the field `gene`, and likewise for other fields.

    Args:
        text: What the student would read.
        privileged: Value by field; a value may be a list such as `KMT2D; KDM6A`.
    """
    for field, value in privileged.items():
        for part in _parts(value):
            text = _masked(text, part, f"[{field}]")
    return text


def _parts(value: str) -> Iterator[str]:
    """The values of a list, and the ids and symbols among their words."""
    for part in re.split(r"[,;/|]", value):
        yield part.strip()
        for word in part.split():
            if len(word) >= _ANY_CASE_FROM and (word.isupper() or re.search(r"\d", word)):
                yield word


def _masked(text: str, name: str, by: str) -> str:
    """The text without a name: whole words only, in any case, whatever stands between them."""
    words = [word for word in re.split(r"[\W_]+", name) if word]
    lower = text.lower()
    if not words or not all(word.lower() in lower for word in words):  # saves most patterns
        return text
    pattern = r"[\W_]+".join(map(re.escape, words))
    flags = re.IGNORECASE if len(name) >= _ANY_CASE_FROM else re.NOFLAG
    return re.sub(rf"(?<![^\W_]){pattern}(?![^\W_])", by, text, flags=flags)
