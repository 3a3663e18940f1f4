"""The one file that talks to hpo3: HPO terms, their parents, and the diseases of OMIM with their phenotypes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from mint_core.plugin import hpo, hpo_in_force, normalise_name

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


def resolve(term_id: str) -> str | None:
    """The id in force: that of an obsolete or merged term's successor, or None where the ontology knows none.

    Args:
        term_id: `HP:0000322`, also in lower case, with an underscore, or as an address.
    """
    return hpo_in_force(term_id)


@lru_cache(maxsize=65536)
def by_name(called: str) -> str | None:
    """The id in force of the term of that name, whatever its case, or None."""
    return _names().get(normalise_name(called))


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    """Ids in force by the names of terms, compared without case and punctuation."""
    return {normalise_name(str(term.name)): str(term.id) for term in hpo() if not term.is_obsolete}


@lru_cache(maxsize=65536)
def is_word(word: str) -> bool:
    """Whether a word stands in the name of a term, whatever its case."""
    return word.lower() in _words()


@lru_cache(maxsize=1)
def _words() -> frozenset[str]:
    return frozenset(word for name in _names() for word in name.split())


def is_phenotype(term_id: str) -> bool:
    """Whether a term in force is a finding, and no mode of inheritance, onset, frequency or other modifier."""
    return term_id == PHENOTYPE or PHENOTYPE in ancestors(term_id)


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


_DISEASE_IDS = (
    ("OMIM", re.compile(r"(?:.*[/#=])?(?:(?:omim\.org/)?(?:entry/)|O?MIM[:_ ]*)((?:PS)?\d{6})", re.IGNORECASE)),
    ("ORPHA", re.compile(r"(?:.*[/#=:])?(?:ORPHA(?:NET)?|ORDO)[:_ ]*(\d{1,7})", re.IGNORECASE)),
    ("MONDO", re.compile(r"(?:.*[/#=:])?MONDO[:_ ]*(\d{7})", re.IGNORECASE)),
)
"""How the ids of three catalogues are written, by the front of the id in its usual form."""


@lru_cache(maxsize=65536)
def disease_id(written: str) -> str | None:
    """The id of a disease in its usual form, or None where it is none of OMIM, Orphanet or Mondo.

    `omim:154700`, `MIM 154700` and `https://omim.org/entry/154700` are `OMIM:154700`; `Orphanet_558` is `ORPHA:558`.
    """
    text = written.strip().strip("<>").rstrip("/")
    for front, pattern in _DISEASE_IDS:
        match = pattern.fullmatch(text)
        if match:
            return f"{front}:{match[1].upper()}"
    return None


def disease_name(known_id: str) -> str | None:
    """The name of a disease of OMIM or Orphanet, or None.

    Args:
        known_id: As `disease_id` writes it.
    """
    return _disease_names().get(known_id)


@lru_cache(maxsize=1)
def _disease_names() -> dict[str, str]:
    known = (("OMIM", hpo().omim_diseases), ("ORPHA", hpo().orpha_diseases))
    return {f"{front}:{int(disease.id)}": str(disease.name) for front, found in known for disease in found}


def diseases() -> Iterator[Disease]:
    """The diseases of OMIM, sorted by id."""
    for found in sorted(hpo().omim_diseases, key=lambda disease: int(disease.id)):
        terms = sorted(f"HP:{int(term):07d}" for term in found.hpo)
        findings = tuple(term for term in terms if PHENOTYPE in ancestors(term))
        yield Disease(f"OMIM:{int(found.id)}", str(found.name), findings)
