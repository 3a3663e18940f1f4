"""A patient's clinical facts, and the words in which student and teacher read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patient:
    """What is known of one patient, before it becomes text."""

    sex: str | None = None
    """`male`, `female`, or None."""
    age: str | None = None
    """As a person says it: `3 years 6 months`, `newborn`."""
    ethnicity: str | None = None
    phenotypes: Sequence[str] | None = ()
    """Names of the HPO terms that are present; None where the reader shall not be told about phenotypes."""
    gene: str | None = None
    """Symbol of the causal gene; None unless the student may read it."""


def describe(patient: Patient) -> str:
    """One paragraph: the demographics in front, then the phenotypes joined by commas.

    `Sex male, age 3 years 6 months, ethnicity European. Phenotypes: Short philtrum, Seizure.`

    Args:
        patient: Unknown fields are left out.
    """
    fields = ("sex", "age", "ethnicity", "gene")
    known = [f"{field} {value}" for field in fields if (value := getattr(patient, field))]
    first = ", ".join(known)
    parts = [first[0].upper() + first[1:] + "."] if first else []
    if patient.phenotypes:
        parts.append(f"Phenotypes: {', '.join(patient.phenotypes)}.")
    elif patient.phenotypes is not None:
        parts.append("No phenotypes recorded.")
    return " ".join(parts)
