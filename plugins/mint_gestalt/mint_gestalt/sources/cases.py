"""What every reader makes of its files: cases, and counts of what it met."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mint_core.plugin import DataError, ImageRef, Split, squeezed
from mint_gestalt import ontology
from mint_gestalt.clinical import Patient, describe
from mint_gestalt.sources.options import PATIENT_FIELDS, RareDiseaseOptions

T = TypeVar("T")

PATIENTS_READ = "patients read"
SKIPPED = "files or rows skipped as malformed"
NAMED = 16
"""How many of them are named."""


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


@dataclass(frozen=True, slots=True)
class Reading:
    """All cases of one source."""

    cases: Sequence[Case]
    facts: Counter[str]
    line: str
    """Where they come from, for the report."""


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


def present_terms(where: str, term_ids: Iterable[str], options: RareDiseaseOptions, facts: Counter[str]) -> list[str]:
    """Names of HPO terms: obsolete ids replaced, unknown ones counted or refused, each term once.

    Args:
        where: For messages.
        term_ids: `HP:0000322`.
        options: `unknown_terms` counts.
        facts: Gets the counts.

    Raises:
        DataError: An id is unknown and `unknown_terms` is `refuse`.
    """
    found: dict[str, None] = {}
    for term_id in term_ids:
        known = ontology.resolve(term_id)
        if known is None:
            if options.unknown_terms == "refuse":
                # What does not look like an id may be words about the patient.
                shown = f"'{term_id}'" if re.fullmatch(r"[A-Za-z]{1,10}:\w{1,12}", term_id) else "one of the ids"
                raise DataError(
                    f"{where}: {shown} is no term of HPO {ontology.version()}; mend the id, update hpo3, or leave "
                    "such ids out with --set task.unknown_terms=drop."
                )
            facts["HPO ids left out, the ontology does not know them"] += 1
            continue
        if known != term_id:
            facts["obsolete HPO ids replaced"] += 1
        found[known] = None
    return [ontology.name(term_id) for term_id in found]


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


def names_of(label: str) -> tuple[str, ...]:
    """`WILLIAMS-BEUREN SYNDROME; WBS` -> the name, then its aliases."""
    return tuple(name for part in label.split(";") if (name := squeezed(part)))


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
