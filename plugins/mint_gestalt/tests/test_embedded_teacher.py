"""The shipped teacher: small, honest, and better with faces than without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mint_core.testing import teacher_context
from mint_core.types import Sample, TaskData
from mint_gestalt.reading import read, render
from mint_gestalt.task import RareDisease
from mint_gestalt.teacher import Gestalt
from mint_gestalt.vilt import EMBEDDED, EMBEDDED_FOLDER, Batch, collate, load_vilt, pooled

LARGEST = 10 * 2**20


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def cohort() -> TaskData:
    """Fifteen diseases in three circles of look-alikes, another seed than the default's."""
    return RareDisease(RareDisease.Config(diseases=15, train_per_label=6, test_per_label=6, sample_seed=5)).load()


def top_1(log_probs: np.ndarray, samples: list[Sample], data: TaskData) -> float:
    truth = np.array([data.labels.index(str(sample.label)) for sample in samples])
    return float((log_probs.argmax(1) == truth).mean())


def test_the_weights_are_small_and_not_pickled() -> None:
    files = [path for path in EMBEDDED_FOLDER.rglob("*") if path.is_file()]
    assert {"model.safetensors", "config.json", "tokenizer.json", "preprocessor_config.json"} <= {p.name for p in files}
    assert sum(path.stat().st_size for path in files) < LARGEST
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pth", ".pkl")]


def test_the_shipped_head_is_of_no_use(cohort: TaskData) -> None:
    """Without a fit the teacher knows no disease: whatever the seed of its head, it names the truth by chance."""
    samples = cohort.split("test")
    found = []
    for seed in range(4):
        vilt = load_vilt(EMBEDDED, cohort.labels, seed)
        with torch.inference_mode():
            scores = vilt.model.eval().classifier(pooled(vilt.model, as_read(vilt, samples)))
        found.append(top_1(scores.numpy(), samples, cohort))
    assert np.mean(found) < 2 / len(cohort.labels)


def as_read(vilt, samples: list[Sample]) -> Batch:
    phrases = [render(sample, "{text}", (), plain=True) for sample in samples]
    texts = [reading.ids(2, 3) for reading in read(vilt.tokenizer, phrases, vilt.positions)]
    return collate(vilt, texts, [sample.image.open() if sample.image else None for sample in samples])


def test_faces_make_it_better(cohort: TaskData, tmp_path: Path) -> None:
    test, train = cohort.split("test"), cohort.split("train")
    found, train_found = {}, {}
    for faces in (True, False):
        teacher = Gestalt(Gestalt.Config(faces=faces, workers=1), teacher_context(cohort.labels, tmp_path, 0))
        teacher.fit(train)
        found[faces] = top_1(teacher.log_probs(test), test, cohort)
        train_found[faces] = top_1(teacher.log_probs(train), train, cohort)
        assert teacher.describe()["training_rankings"] == "out-of-fold"
    assert found[True] > 0.7
    assert found[True] > found[False] + 0.2
    assert train_found[True] < 0.98
