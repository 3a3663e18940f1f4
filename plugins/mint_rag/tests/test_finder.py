"""Phenotypes in text: longest names, spellings, and what the text denies."""

from __future__ import annotations

import pytest

from mint_rag.finder import TermFinder

NAMES = (
    "Seizure", "Focal-onset seizure", "Short stature", "Ataxia", "Absent speech", "Ptosis", "Bilateral ptosis", "Fever",
    "Anemia", "No social interaction", "Intellectual disability, severe", "Intellectual disability", "Disproportionate",
    "Long palpebral fissure", "Cleft palate", "Elevated lactate:pyruvate ratio", "Abnormality of the hand",
)  # fmt: skip
POSITION = {name: number for number, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def finder() -> TermFinder:
    return TermFinder((name, number) for number, name in enumerate(NAMES))


def names(found: list[int]) -> list[str]:
    return [NAMES[term] for term in found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Phenotypes: Seizure, Short stature.", ["Seizure", "Short stature"]),
        ("She had FOCAL ONSET SEIZURES and later seizures.", ["Focal-onset seizure", "Seizure"]),
        ("bilateral ptosis", ["Bilateral ptosis"]),
        ("bilateral hypoplasia; ptosis", ["Ptosis"]),
        ("Absent speech, No social interaction, Ataxia", ["Absent speech", "No social interaction", "Ataxia"]),
        ("anaemia", ["Anemia"]),
        ("Intellectual disability, severe.", ["Intellectual disability, severe"]),
        ("Intellectual disability, Short stature", ["Intellectual disability", "Short stature"]),
        ("Elevated lactate:pyruvate ratio, Ptosis", ["Elevated lactate:pyruvate ratio", "Ptosis"]),
        ("abnormality of hand", ["Abnormality of the hand"]),
        ("short. Stature was normal.", []),
        ("Feverish pseudoataxia", []),
        ("Seizure, seizure, seizures", ["Seizure"]),
        ("", []),
    ],
)  # fmt: skip
def test_names_are_found(finder: TermFinder, text: str, found: list[str]) -> None:
    assert names(finder.find(text)) == found


@pytest.mark.parametrize(
    ("text", "present"),
    [
        ("No seizures.", []),
        ("He had no fever, ataxia, or ptosis, but short stature.", ["Short stature"]),
        ("There was no evidence of ataxia. Ptosis was noted.", ["Ptosis"]),
        ("No seizures, short stature.", ["Short stature"]),
        ("no seizures and ataxia; ptosis", ["Ptosis"]),
        ("No seizures and developed ataxia.", ["Ataxia"]),
        ("The patient denies fever with short stature", ["Short stature"]),
        ("She was not diagnosed with anemia.", []),
        ("Absence of ptosis; negative for cleft palate; ataxia.", ["Ataxia"]),
        ("Gram negative fever", ["Fever"]),
        ("Neither ataxia nor ptosis was seen, however fever was.", ["Fever"]),
        ("Without seizures\n\nPtosis", ["Ptosis"]),
        ("Ataxia was absent. Ptosis: no. Fever: yes.", ["Fever"]),
        ("Ataxia and ptosis were not observed.", []),
        ("Fever; ataxia, anemia and ptosis were absent.", ["Fever"]),
        ("Seizures (absent), anemia (present)", ["Anemia"]),
        ("Cleft palate has been ruled out, ptosis has been seen", ["Ptosis"]),
        ("not only ataxia but also ptosis", ["Ataxia", "Ptosis"]),
        ("Seizures not controlled by drugs", ["Seizure"]),
        ("Ptosis is not severe", ["Ptosis"]),
        ("No one in the whole of her very large family ever had ataxia", ["Ataxia"]),
        ("Ataxia, absent speech", ["Ataxia", "Absent speech"]),
        ("no ptosis. Seizures. Seizures.", ["Seizure"]),
        ("Seizure was seen once; later no seizures.", ["Seizure"]),
    ],
)
def test_what_the_text_denies_is_not_present(finder: TermFinder, text: str, present: list[str]) -> None:
    assert names(finder.find(text)) == present


def test_denied_mentions_are_told(finder: TermFinder) -> None:
    mentions = finder.mentions("Ptosis without ataxia")
    assert [(NAMES[one.term], one.denied) for one in mentions] == [("Ptosis", False), ("Ataxia", True)]


def test_the_first_of_equal_names_counts() -> None:
    assert TermFinder([("Fits", 3), ("fit", 4)]).find("fits") == [3]


def test_long_texts_take_linear_time(finder: TermFinder) -> None:
    assert finder.find("no fever or " * 20_000 + ". Ptosis") == [POSITION["Ptosis"]]
