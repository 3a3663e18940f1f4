"""The one file that talks to hpo3: HPO terms, their parents, and the diseases of OMIM with their phenotypes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from mint_core.plugin import hpo

FACE = "HP:0000271"
"""Abnormality of the face."""
PHENOTYPE = "HP:0000118"
"""Phenotypic abnormality: below it lie the findings, beside it modes of inheritance, onset, frequency."""


@dataclass(frozen=True, slots=True)
class Disease:
    """A disease of OMIM."""

    id: str
    """`OMIM:147920`."""
    name: str
    phenotypes: tuple[str, ...]
    """Ids of its annotated HPO terms, sorted; findings only."""


def version() -> str:
    """Release date of the ontology."""
    return str(hpo().version())


@lru_cache(maxsize=65536)
def resolve(term_id: str) -> str | None:
    """The id in force: an obsolete id's replacement, or None where the ontology knows neither.

    Args:
        term_id: `HP:0000322`; anything of another form is unknown.
    """
    if not re.fullmatch(r"HP:\d{7}", term_id):  # hpo3 would also look up names and bare numbers
        return None
    try:
        term = hpo().get_hpo_object(term_id)
    except (RuntimeError, KeyError, ValueError, TypeError):
        return None
    if not term.is_obsolete:
        return str(term.id)
    replaced = term.replaced_by
    return str(getattr(replaced, "id", replaced)) if replaced else None


@lru_cache(maxsize=65536)
def name(term_id: str) -> str:
    """Name of a term in force."""
    return str(hpo().get_hpo_object(term_id).name)


@lru_cache(maxsize=65536)
def parents(term_id: str) -> tuple[str, ...]:
    """Ids of a term's direct parents, sorted."""
    return tuple(sorted(str(parent.id) for parent in hpo().get_hpo_object(term_id).parents))


@lru_cache(maxsize=65536)
def ancestors(term_id: str) -> frozenset[str]:
    """Ids of everything above a term."""
    return frozenset(str(parent.id) for parent in hpo().get_hpo_object(term_id).all_parents)


def is_facial(term_id: str) -> bool:
    """Whether a face shows it: the term is or lies below `FACE`."""
    return term_id == FACE or FACE in ancestors(term_id)


def diseases() -> Iterator[Disease]:
    """The diseases of OMIM, sorted by id."""
    for found in sorted(hpo().omim_diseases, key=lambda disease: int(disease.id)):
        terms = sorted(f"HP:{int(term):07d}" for term in found.hpo)
        findings = tuple(term for term in terms if PHENOTYPE in ancestors(term))
        yield Disease(f"OMIM:{int(found.id)}", str(found.name), findings)
