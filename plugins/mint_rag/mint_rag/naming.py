"""Finds the label that a disease's name means, through the obvious ways in which one disease is written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from mint_core.plugin import LabelSpace, identity_of, normalise_name

_RENAMED = {
    "mental retardation": "intellectual disability",
    "intellectual developmental disorder": "intellectual disability",
    "impaired intellectual development": "intellectual disability",
    "epileptic encephalopathy, early infantile": "developmental and epileptic encephalopathy",
    "deafness": "hearing loss",
}
"""What OMIM renamed in whole series of diseases."""
_OLD = re.compile("|".join(_RENAMED))
_NUMBER = re.compile(r",?(?: type)? (?:\d+[a-z]?|[ivx]+[a-z]?)$", re.IGNORECASE)
"""What tells the diseases of a series apart: `1`, `, type 2A`, `IV`."""
_ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6, "vii": 7, "viii": 8, "ix": 9, "x": 10}
_EMPTY = frozenset({"type", "the", "syndrome"})
"""Words that one writer puts in and another leaves out."""

_KEPT = 100_000
"""Names whose forms are kept: every retriever of a process compares the diseases of OMIM anew."""


class DiseaseNames:
    """Finds labels by the names of diseases.

    A name means a label, in this order:
        1. They are equal.
        2. One is the other written another way: `Aneurysm, aortic`, `type IV` or `4`, words that OMIM renamed, an added
           `syndrome`.
        3. The label is the first of a series that the name opened: `X 1` for `X`.
        4. The label is the series, `Kabuki syndrome` for `Kabuki syndrome 2`, and the knowledge base has no disease of
           that name.
    The number of a series is never changed, so that two diseases of one series stay apart.

    Args:
        labels: The label space.
        names: All names of the knowledge base; a name that stands there itself is not given to another disease.
    """

    def __init__(self, labels: LabelSpace, names: Iterable[str] = ()) -> None:
        self._labels = labels
        self._taken = {normalise_name(name) for name in names}
        self._by_key: dict[str, set[str]] = {}
        for label in labels.names:
            for form in labels.all_names(label):
                self._by_key.setdefault(_key(form), set()).add(label)

    def find(self, name: str) -> str | None:
        """The canonical name of the label that a disease's name means, or None; `;` parts names of one disease.

        Args:
            name: `Kabuki syndrome 1`, `WILLIAMS-BEUREN SYNDROME; WBS`.
        """
        parts = [part.strip() for part in name.split(";") if part.strip()]
        named = next((label for form in (name, *parts) if (label := self._equal(form))), None)
        if named is not None or not parts:
            return named
        return self._by_spelling(parts[0]) or self._as_first(parts[0]) or self._as_series(parts[0])

    def _equal(self, name: str) -> str | None:
        """The label of that name; one whose names all differ from it in a sign (HER2+, HER2-) is another disease."""
        label = self._labels.find(name)
        if label is None:
            return None
        return label if _signs(name) in map(_signs, self._labels.all_names(label)) else None

    def _by_spelling(self, name: str) -> str | None:
        """The one label that is written another way; a label that the knowledge base itself names stays with that."""
        free = [label for label in self._by_key.get(_key(name), ()) if not self._named_by_another(label, name)]
        return free[0] if len(free) == 1 else None

    def _as_first(self, name: str) -> str | None:
        first = f"{name} 1"
        return None if _NUMBER.search(name) or normalise_name(first) in self._taken else self._by_spelling(first)

    def _as_series(self, name: str) -> str | None:
        series = _NUMBER.sub("", name)
        if series == name or normalise_name(series) in self._taken:
            return None
        return self._equal(series) or self._by_spelling(series)

    def _named_by_another(self, label: str, name: str) -> bool:
        return any(
            (form := normalise_name(other)) in self._taken and form != normalise_name(name)
            for other in self._labels.all_names(label)
        )


@lru_cache(maxsize=_KEPT)
def _key(name: str) -> str:
    """Equal for two names that are one disease written two ways: the words in any order, numbers in Arabic."""
    renamed = _OLD.sub(lambda match: _RENAMED[match[0]], name.lower().replace("'s", "").replace("\u2019s", ""))
    words = [*normalise_name(renamed).split(), *_signs(renamed)]
    return " ".join(sorted(str(_ROMAN.get(word, word)) for word in words if word not in _EMPTY))


@lru_cache(maxsize=_KEPT)
def _signs(name: str) -> tuple[str, ...]:
    """What tells names apart beside their words, in order."""
    return tuple(word for word in identity_of(name).split() if not normalise_name(word))
