"""The teacher `ensemble`: a log-linear pool, its weights, and what cannot be pooled."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import mint_core
from mint_core.config import resolve
from mint_core.errors import ConfigError
from mint_core.interfaces import Context
from mint_core.plugins import registry
from mint_core.teachers.ensemble import Ensemble, fit_weights
from mint_core.testing import TEACHER_CHECKS
from mint_core.types import LabelSpace, Sample
from tests.test_run import student, toy  # noqa: F401 - fixtures

LABELS = LabelSpace(("Colon", "Liver", "Skin"))
SAMPLES = [Sample(id="a", split="train", label="Colon"), Sample(id="b", split="test", label="Skin")]


@pytest.fixture
def files(tmp_path: Path) -> list[dict]:
    (tmp_path / "one.csv").write_text("id,Colon,Liver,Skin\na,.8,.1,.1\nb,.5,.25,.25\n")
    (tmp_path / "two.csv").write_text("id,Colon,Liver,Skin\na,.2,.2,.6\nb,0,.2,.8\n")
    return [{"name": "file", "path": str(tmp_path / name)} for name in ("one.csv", "two.csv")]


def made(**options) -> Ensemble:
    return Ensemble(Ensemble.Config(**options), Context(labels=LABELS))


def test_given_weights_make_a_geometric_mean(files: list[dict]) -> None:
    teacher = made(teachers=files, weights=(1, 3))
    teacher.fit(SAMPLES[:1])
    rows = teacher.log_probs(SAMPLES)
    parts = np.array([0.8**0.25 * 0.2**0.75, 0.1**0.25 * 0.2**0.75, 0.1**0.25 * 0.6**0.75])
    np.testing.assert_allclose(np.exp(rows[0]), parts / parts.sum(), rtol=1e-5)
    assert np.isfinite(rows[1]).all()  # what one holds for impossible, another may hold for true
    told = teacher.describe()
    assert told["weights"] == {"file": 0.25, "file 2": 0.75}
    assert told["parts"]["file"]["top_1"] == {"train": {"top_1": 1.0, "n": 1}, "test": {"top_1": 0.0, "n": 1}}
    for check in TEACHER_CHECKS:
        check(teacher, SAMPLES)


def test_fitted_weights_make_the_truths_most_likely() -> None:
    rng = np.random.default_rng(0)
    truths = rng.integers(0, 4, 200)
    noise = rng.normal(size=(3, 200, 4))
    noise[0, np.arange(200), truths] += 2.0
    noise[1, np.arange(200), truths] += 1.0  # less sure, but it errs elsewhere; the third knows nothing
    rows = noise - np.log(np.exp(noise).sum(2, keepdims=True))
    weights = fit_weights(rows, list(truths))

    def likelihood(at) -> float:
        pooled = np.tensordot(np.asarray(at), rows, 1)
        pooled -= np.log(np.exp(pooled).sum(1, keepdims=True))
        return float(pooled[np.arange(200), truths].mean())

    grid = [(a / 50, b / 50, 1 - (a + b) / 50) for a in range(51) for b in range(51 - a)]
    assert weights.sum() == pytest.approx(1)
    assert likelihood(weights) >= max(map(likelihood, grid)) - 1e-6
    assert weights[0] > weights[1] > weights[2]
    np.testing.assert_allclose(fit_weights(rows, []), [1 / 3] * 3)
    np.testing.assert_allclose(fit_weights(np.stack([rows[0], rows[0]]), list(truths)), [0.5, 0.5])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "needs two teachers or more"),
        ({"teachers": "plip"}, "needs two teachers or more"),
        ({"teachers": "plip,plipp"}, "There is no teacher 'plipp'; did you mean 'plip'?"),
        ({"teachers": "plip,ensemble"}, "an ensemble cannot be one of an ensemble's teachers"),
        ({"teachers": "plip,gestalt"}, "The teacher 'gestalt' serves rare-disease, not tissue-type"),
        ({"teachers": ["plip", {"name": "file", "pth": "x"}]}, "Unknown key 'pth' in teacher 'file'"),
        ({"teachers": "plip,file", "weights": [1]}, "2 teachers need as many weights"),
        ({"teachers": "plip,file", "weights": [1, -1]}, "none below 0"),
    ],
)
def test_what_cannot_be_pooled_is_refused_before_anything_is_computed(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        resolve({"task": "tissue-type", "teacher": {"name": "ensemble", **options}}, registry())


def test_a_file_of_a_part_must_be_there(toy) -> None:  # noqa: F811
    parts = ["oracle", {"name": "file", "path": "nowhere.csv"}]
    with pytest.raises(ConfigError, match=r"nowhere\.csv does not exist"):
        mint_core.run({**toy, "teacher": {"name": "ensemble", "teachers": parts}}, until="label")


def test_a_run_with_an_ensemble_tells_of_its_parts(toy, tmp_path: Path) -> None:  # noqa: F811
    first = Path(mint_core.run(toy, until="label").path)
    parts = ["oracle", {"name": "file", "path": str(first / "rankings" / "rankings.parquet")}]
    both = {**toy, "name": "both", "teacher": {"name": "ensemble", "teachers": parts}}
    made = Path(mint_core.run({**both, "aligner": None}).path)
    told = json.loads((made / "rankings" / "teacher.json").read_text())
    assert told["teacher"]["weights"] == {"oracle": 0.5, "file": 0.5}
    assert told["teacher"]["parts"]["file"]["top_1"] == told["top_1"]
    metrics = json.loads((made / "metrics.json").read_text())
    assert metrics["teacher_parts"]["file"] == {"weight": 0.5, "top_1": told["top_1"]}
    page = (made / "report.html").read_text()
    assert "oracle, weight 0.50: train Top-1" in page and "file, weight 0.50: train Top-1" in page
