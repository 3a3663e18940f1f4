"""The embedded default: honest, and a whole run on it."""

from pathlib import Path

import pytest
import torch

import mint_core
from mint_core.answering.generate import generate
from mint_core.config import StudentConfig
from mint_core.students.load import load_student
from mint_core.students.prompts import parse_response
from mint_core.testing import TASK_CHECKS
from mint_plip.task import TissueType


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("check", TASK_CHECKS)
def test_the_task_keeps_its_contract(check) -> None:
    check(TissueType())


def test_the_shipped_weights_are_small_and_not_pickled() -> None:
    folder = TissueType().embedded_student().path.parent
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10 * 2**20
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert len([path for path in files if path.suffix == ".safetensors"]) == 2


def test_the_base_student_writes_lists_and_knows_no_tissue() -> None:
    """Its lists have the format, and name the true tissue as often as chance does (1 of 19; 5 of 19)."""
    task = TissueType(TissueType.Config(train_per_label=1, test_per_label=12, sample_seed=77))
    samples = task.load().split("test")
    student = load_student(StudentConfig(device="cpu"), str(task.embedded_student().path))
    prompts = {s.id: task.inference_prompt(s, 5) for s in samples}
    answers = dict(generate(student, prompts, max_new_tokens=50, batch_size=64))
    parsed = {i: parse_response(text, task.header) for i, text in answers.items()}
    assert sum(p.well_formed and p.n_listed == 5 for p in parsed.values()) > 0.9 * len(samples)
    top_1 = sum(bool(parsed[s.id].labels) and parsed[s.id].labels[0] == s.label for s in samples) / len(samples)
    top_5 = sum(s.label in parsed[s.id].labels for s in samples) / len(samples)
    assert top_1 < 0.15
    assert top_5 < 0.45


def test_a_small_run_on_the_embedded_default_learns(tmp_path: Path) -> None:
    """On an eighth of the data the aligned student ranks better than the base student, and needs the image for it."""
    result = mint_core.run(
        teacher="plip",
        out=str(tmp_path),
        overrides=(
            "task.train_per_label=8", "task.test_per_label=4", "aligner.epochs=3", "aligner.validate_samples=0",
            "predict.decode=score",
        ),
    )  # fmt: skip
    rows = {row["variant"]: row for row in result.metrics["rows"]}
    assert result.metrics["simulated"]
    assert rows["teacher"]["metrics"]["top-1"]["mean"] > 0.85
    assert result.metrics["aligned_minus_base"]["all"]["car"]["low"] > 0.05
    assert rows["aligned"]["metrics"]["car"]["low"] > rows["aligned-shuffled"]["metrics"]["car"]["high"]
    assert "simulated" in (result.path / "report.html").read_text().lower()
    assert "simulated" in (result.path / "adapter" / "README.md").read_text().lower()
