"""Which label a disease's name means."""

from __future__ import annotations

import pytest

from mint_core.types import LabelSpace
from mint_rag.naming import DiseaseNames

LABELS = LabelSpace(
    (
        "Kabuki syndrome", "WILLIAMS-BEUREN SYNDROME", "MENTAL RETARDATION, AUTOSOMAL DOMINANT 51",
        "Developmental and epileptic encephalopathy 7", "Abdominal aortic aneurysm", "Robinow syndrome 1",
        "Retinitis pigmentosa 10", "Cockayne syndrome B", "Hutchinson-Gilford progeria", "Neurofibromatosis, type I",
        "Fraser syndrome",
    ),
    ((), ("WBS",), *[()] * 9),
)  # fmt: skip
KNOWN = (
    "Kabuki syndrome 1", "Kabuki syndrome 2", "Williams-Beuren syndrome", "Robinow syndrome", "Retinitis pigmentosa 1",
    "Fraser syndrome", "Fraser syndrome 2",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("williams beuren syndrome", "WILLIAMS-BEUREN SYNDROME"),
        ("Williams syndrome; WBS", "WILLIAMS-BEUREN SYNDROME"),
        ("Kabuki syndrome 2", "Kabuki syndrome"),
        ("Intellectual developmental disorder, autosomal dominant 51", "MENTAL RETARDATION, AUTOSOMAL DOMINANT 51"),
        ("Epileptic encephalopathy, early infantile, 7", "Developmental and epileptic encephalopathy 7"),
        ("Aortic aneurysm, abdominal", "Abdominal aortic aneurysm"),
        ("Robinow syndrome", "Robinow syndrome 1"),
        ("Cockayne syndrome, type B", "Cockayne syndrome B"),
        ("Hutchinson-Gilford progeria syndrome", "Hutchinson-Gilford progeria"),
        ("Neurofibromatosis, type 1", "Neurofibromatosis, type I"),
        ("Fraser syndrome", "Fraser syndrome"),
        ("Fraser syndrome 2", None),
        ("Retinitis pigmentosa 1", None),
        ("Retinitis pigmentosa 101", None),
        ("Retinitis pigmentosa", None),
        ("Cockayne syndrome, type A", None),
        ("Intellectual developmental disorder, autosomal dominant 5", None),
        ("", None),
        (";", None),
    ],
)
def test_the_obvious_ways_to_write_a_disease(name: str, label: str | None) -> None:
    assert DiseaseNames(LABELS, KNOWN).find(name) == label


def test_a_label_that_the_knowledge_base_names_is_given_to_no_other_disease() -> None:
    labels = LabelSpace(("Alphan syndrome, type 1", "Betan syndrome"))
    known = ("Alphan syndrome 1", "Alphan syndrome, type 1", "Betan syndrome")
    assert DiseaseNames(labels, known).find("Alphan syndrome 1") is None
    assert DiseaseNames(labels, known).find("Alphan syndrome, type 1") == "Alphan syndrome, type 1"


def test_names_that_differ_in_a_sign_are_two_diseases():
    names = DiseaseNames(LabelSpace(("HER2+ breast cancer", "MDS with 5q-", "Other")))
    assert names.find("HER2-positive breast cancer") is None
    assert names.find("HER2- breast cancer") is None
    assert names.find("breast cancer, HER2-") is None
    assert names.find("breast cancer, HER2+") == "HER2+ breast cancer"
    assert names.find("MDS with 5q\u2212") == "MDS with 5q-"
    assert names.find("MDS with 5q") is None
