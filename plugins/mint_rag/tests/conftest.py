"""A label space of real diseases, and patients with textbook phenotypes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mint_core.interfaces import Context
from mint_core.types import LabelSpace, Sample

DISEASES = ("Marfan syndrome", "Kabuki syndrome 1", "Phenylketonuria", "Angelman syndrome", "Alphan disease")
"""The last one is invented."""
PATIENTS = {
    "Marfan syndrome": "Sex male. Phenotypes: Ectopia lentis, Arachnodactyly, Aortic root aneurysm, Pectus excavatum.",
    "Kabuki syndrome 1": "Phenotypes: Eversion of lateral third of lower eyelids, Long palpebral fissure.",
    "Angelman syndrome": "A girl with absent speech, ataxia and paroxysmal bursts of laughter. No ectopia lentis.",
}


@pytest.fixture
def labels() -> LabelSpace:
    """Five diseases, of which OMIM knows four."""
    return LabelSpace(DISEASES)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Indexes that all tests share."""
    return tmp_path_factory.mktemp("indexes")


@pytest.fixture
def context(labels: LabelSpace, cache: Path) -> Context:
    """What a retriever is built from."""
    return Context(labels=labels, cache=cache)


@pytest.fixture
def patients() -> list[Sample]:
    """One patient per disease of `PATIENTS`, in its order."""
    return [Sample(f"p{row}", "test", label, text=text) for row, (label, text) in enumerate(PATIENTS.items())]
