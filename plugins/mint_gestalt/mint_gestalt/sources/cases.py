"""What every reader makes of its files: cases, and counts of what it met."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from mint_core.plugin import DataError, ImageRef, Split, hpo_ids, names_of, squeezed
from mint_gestalt import ontology
from mint_gestalt.clinical import Patient, describe
from mint_gestalt.sources.options import PATIENT_FIELDS, RareDiseaseOptions

T = TypeVar("T")

PATIENTS_READ = "patients read"
SKIPPED = "files or rows skipped as malformed"
NAMED = 16
"""How many of them are named."""
_SHORTEST_LABEL, _LONGEST_LABEL = 3, 150
"""A finding is named in so many characters; anything longer may be a note."""


@dataclass(frozen=True, slots=True)
class Case:
    """One patient, or one face of a patient, before disease names are settled and splits are made."""

    where: str
    """File or row, for messages."""
    id: str
    patient: str
    """Equal for all cases of one patient."""
    publication: str | None
    group: str
    """What no split may tear apart."""
    disease_ids: tuple[str, ...] = ()
    """The first one identifies the disease; the others help to find it in other data."""
    disease_names: tuple[str, ...] = ()
    """The name, then its aliases. Empty where the disease is unknown."""
    text: str = field(default="", repr=False)
    free_text: bool = False
    """Somebody wrote the text, so that it may name what it should not."""
    privileged: Mapping[str, str] = field(default_factory=dict, repr=False)
    image: ImageRef | None = field(default=None, repr=False)
    split: Split | None = None
    subgroups: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What only the report reads, by field."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All cases of one source."""

    cases: Sequence[Case]
    facts: Counter[str]
    line: str
    """Where they come from, for the report."""
    subgroups: tuple[str, ...] = ()
    """Fields of the cases' subgroups that are reported where the user names none."""


def read_each(
    items: Iterable[T],
    called: Callable[[T], str],
    read: Callable[[T, Counter[str]], Case],
    options: RareDiseaseOptions,
    facts: Counter[str],
) -> list[Case]:
    """Reads item by item; `on_error` decides whether a malformed one ends the run, or is counted and named.

    Args:
        items: Files or rows.
        called: The name of a file or row.
        read: Makes a case of one item and counts what it met; a DataError means that the item is malformed.
        options: `on_error` counts.
        facts: Gets the counts of the items that were accepted.

    Raises:
        DataError: An item is malformed, or has the id of an earlier one, and `on_error` is `fail`; or all of them are.
    """
    facts[PATIENTS_READ] = 0  # stands in front of what is counted below
    cases: dict[str, Case] = {}
    first: DataError | None = None
    for item in items:
        met: Counter[str] = Counter()
        try:
            case = read(item, met)
            if case.id in cases:
                raise DataError(
                    f"{case.where}: the id '{case.id}' belongs to {cases[case.id].where} already; give every patient "
                    "an id of its own."
                )
        except DataError as error:
            if options.on_error == "fail":
                raise
            first = first or error
            facts[SKIPPED] += 1
            if facts[SKIPPED] <= NAMED:
                facts[f"skipped: {called(item)}"] += 1
            continue
        cases[case.id] = case
        facts.update(met)
    if first is not None and not cases:
        raise DataError(f"Every file or row is malformed; the first: {first}")
    facts[PATIENTS_READ] = len({case.patient for case in cases.values()})
    return list(cases.values())


class Feature(NamedTuple):
    """A finding as a source writes it."""

    id: str
    label: str = ""
    """What the source calls it."""


class Findings(NamedTuple):
    """The findings of a patient in words."""

    names: list[str]
    """Each once."""
    own_words: bool = False
    """Some are told in the source's own words, which may name what they should not."""


def present_terms(
    where: str, features: Iterable[Feature], options: RareDiseaseOptions, facts: Counter[str]
) -> Findings:
    """Names of HPO terms: obsolete and merged ids replaced, unknown ones told by their label, counted or refused.

    Args:
        where: For messages.
        features: The findings that are present.
        options: `unknown_terms` counts, and whether phenotypes are told at all.
        facts: Gets the counts.

    Raises:
        DataError: An id is unknown and `unknown_terms` is `refuse`; or there are ids, and every one of them is lost.
    """
    found: dict[str, None] = {}
    lost, own_words = 0, False
    for feature in features:
        known = ontology.resolve(feature.id)
        if known is None:
            if options.unknown_terms == "refuse":
                raise DataError(
                    f"{where}: {_shown(feature.id)} is no term of HPO {ontology.version()}; mend the id, update hpo3, "
                    "or leave such ids out with --set task.unknown_terms=drop."
                )
            label = _label_of(feature) if options.unknown_terms == "label" else ""
            known = ontology.by_name(label) if label else None
            if not label:
                facts["HPO ids left out, the ontology does not know them"] += 1
                lost += 1
                continue
            facts["HPO ids that the ontology does not know, told by their own label"] += 1
            if known is None:
                found[label] = None
                own_words = True
                continue
        elif known != feature.id and known not in hpo_ids(feature.id):
            facts["obsolete HPO ids replaced"] += 1
        if not ontology.is_phenotype(known):
            facts["terms left out, they are no phenotypes (inheritance, onset and the like)"] += 1
            continue
        found[ontology.name(known)] = None
    if lost and not found and "phenotypes" in (*options.student_fields, *options.privileged):
        raise DataError(
            f"{where}: HPO {ontology.version()} knows none of the patient's {lost} phenotypes, and they are not named "
            "either, so that the patient would be told as one without phenotypes; mend the ids, or skip such patients "
            "with --set task.on_error=skip."
        )
    return Findings(list(found), own_words)


def _shown(term_id: str) -> str:
    """An id for a message. What does not look like one may be words about the patient."""
    return f"'{term_id}'" if re.fullmatch(r"[A-Za-z]{1,10}:\w{1,12}", term_id) else "one of the ids"


def _label_of(feature: Feature) -> str:
    """The source's own name of a finding; empty where it is none."""
    label = squeezed(feature.label)
    named = _SHORTEST_LABEL <= len(label) <= _LONGEST_LABEL and not hpo_ids(label) and label != squeezed(feature.id)
    return label if named and re.search(r"[^\W\d_]", label) else ""


class Named(NamedTuple):
    """What a patient's disease is called, and where it is found."""

    ids: tuple[str, ...]
    names: tuple[str, ...]
    """Empty where the disease is unknown."""


def disease_of(label: str, ids: Iterable[str], facts: Counter[str]) -> Named:
    """A disease as a source names it; an id without a name gets the one that OMIM or Orphanet gives it.

    Args:
        label: Name and aliases, parted by `;`. An id among them is an id.
        ids: As the source writes them, the first one identifies the disease.
        facts: Gets the counts.
    """
    said = names_of(label)
    known = {ontology.disease_id(one) or squeezed(one): None for one in (*ids, *filter(ontology.disease_id, said))}
    names = tuple(name for name in said if ontology.disease_id(name) is None and name not in known)
    if not names:
        found = next((name for one in known if (name := ontology.disease_name(one))), "")
        names = names_of(found)
        if names:
            facts["diseases named by their id, as OMIM or Orphanet name it"] += 1
    return Named(tuple(known), names)


def told(known: Patient, options: RareDiseaseOptions, facts: Counter[str]) -> tuple[str, dict[str, str]]:
    """What the student reads, and what only the teacher reads.

    Args:
        known: Everything that the source knows.
        options: `student_fields` and `privileged` count.
        facts: Gets the counts of what is missing.

    Returns:
        The text, and the privileged values by field.
    """
    values: dict[str, Any] = {name: getattr(known, name) for name in PATIENT_FIELDS}
    wanted = {*options.student_fields, *options.privileged}
    for name, called in (("phenotypes", "a phenotype"), ("age", "an age"), ("sex", "a sex"), ("gene", "a gene")):
        if name in wanted and not values[name]:
            facts[f"without {called}"] += 1
    read: dict[str, Any] = {"phenotypes": None, **{name: values[name] for name in options.student_fields}}
    text = describe(Patient(**read))
    privileged = {
        name: value if isinstance(value, str) else ", ".join(value)
        for name in options.privileged
        if (value := values.get(name))
    }
    return text, privileged


def subgroups_of(**known: str | None) -> dict[str, str]:
    """The fields of a patient that are known."""
    return {field: value for field, value in known.items() if value}


def publication_of(reference: str) -> str | None:
    """`PMID_10874631_II.2`, `PMID:10874631`, `10874631` and PubMed's address of it are one publication.

    Other references stay as they are.
    """
    text = re.sub(r"\.0$", "", reference.strip())  # pandas writes 10874631.0 where a column has gaps
    text = re.sub(r"^(?:https?://)?(?:www\.)?(?:pubmed\.ncbi|ncbi)\.nlm\.nih\.gov/(?:pubmed/)?(?=\d)", "PMID:", text)
    match = re.match(r"(?:PMID[:_ ]*)?(\d+)(?=\D|$)", text, re.IGNORECASE)
    if match and (text.upper().startswith("PMID") or text.isdigit()):
        return f"PMID:{match[1]}"
    return text or None
