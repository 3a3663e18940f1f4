"""A label space of real diseases, and patients with textbook phenotypes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mint_core.interfaces import Context
from mint_core.types import LabelSpace, Sample
from mint_rag.hpo import Hpo, HpoConfig

DISEASES = ("Marfan syndrome", "Kabuki syndrome 1", "Phenylketonuria", "Angelman syndrome", "Alphan disease")
"""The last one is invented."""
PATIENTS = {
    "Marfan syndrome": "Sex male. Phenotypes: Ectopia lentis, Arachnodactyly, Aortic root aneurysm, Pectus excavatum.",
    "Kabuki syndrome 1": "Phenotypes: Eversion of lateral third of lower eyelids, Long palpebral fissure.",
    "Angelman syndrome": "A girl with absent speech, ataxia and paroxysmal bursts of laughter. No ectopia lentis.",
}


@dataclass(frozen=True)
class Building:
    """How the indexes that all tests share were built."""

    cache: Path
    folders: list[str]
    done: int
    """Diseases that were counted."""
    scores: np.ndarray
    """Of `patients`."""


@pytest.fixture(scope="session")
def building(tmp_path_factory: pytest.TempPathFactory) -> Building:
    """Builds all of OMIM, which takes seconds, once."""
    cache, counts = tmp_path_factory.mktemp("indexes"), []
    retriever = Hpo(HpoConfig(), Context(labels=LabelSpace(DISEASES), cache=cache, advance=counts.append))
    retriever.build()
    scores = retriever.label_scores(make_patients())
    return Building(cache, sorted(path.name for path in cache.iterdir()), sum(counts), scores)


@pytest.fixture
def labels() -> LabelSpace:
    """Five diseases, of which OMIM knows four."""
    return LabelSpace(DISEASES)


@pytest.fixture(scope="session")
def cache(building: Building) -> Path:
    """Indexes that all tests share."""
    return building.cache


@pytest.fixture
def context(labels: LabelSpace, cache: Path) -> Context:
    """What a retriever is built from."""
    return Context(labels=labels, cache=cache)


@pytest.fixture
def patients() -> list[Sample]:
    """One patient per disease of `PATIENTS`, in its order."""
    return make_patients()


def make_patients() -> list[Sample]:
    return [Sample(f"p{row}", "test", label, text=text) for row, (label, text) in enumerate(PATIENTS.items())]
