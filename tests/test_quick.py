"""`--quick`: a trial of all stages, marked as one wherever its numbers stand."""

import json
from collections import Counter
from pathlib import Path

import pytest

from mint_core.plugins import registry
from mint_core.stages.quick import JUDGED, TRAINED, few
from mint_core.types import LabelSpace, Sample, TaskData

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
LABELS = LabelSpace(("Colon", "Liver", "Lung"))


def data(counts: dict[tuple[str, str | None], int], cohort: str | None = None) -> list[Sample]:
    return [
        Sample(f"{cohort}-{split}-{label}-{number}", split, label, cohort=cohort)
        for (split, label), count in counts.items()
        for number in range(count)
    ]


def test_a_rare_label_stays_and_splits_and_external_data_are_cut_apart() -> None:
    counts = {("train", "Colon"): 90, ("train", "Liver"): 2, ("train", None): 40, ("test", "Colon"): 50}
    samples = [*data(counts), *data({("test", "Lung"): 20}, cohort="elsewhere")]
    cut = few(TaskData(samples, LABELS, "here"))
    found = Counter((one.split, one.cohort) for one in cut.samples)
    assert found == {("train", None): TRAINED, ("test", None): JUDGED, ("test", "elsewhere"): JUDGED}
    labels = Counter(one.label for one in cut.split("train"))
    assert labels == {"Liver": 2, "Colon": 11, None: 11}
    assert [one.id for one in cut.samples] == [one.id for one in samples if one in cut.samples]  # in their order
    assert cut.facts == {"samples of a quick run": 40, "samples left out of it": 162}
    assert cut.labels is LABELS


@pytest.fixture
def toy(install_plugin, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    return ["--task", "toy", "--student", str(folder), "--set", "task.count=120", "--quick", "--out", "runs"]


def test_no_phase_is_longer_than_an_epoch_and_what_is_shorter_stays(toy) -> None:
    from mint_core.config import resolve

    student = {"model": "nowhere"}
    user = {"task": "toy", "student": student, "quick": True, "evaluate": {"bootstrap": 100}}
    short = resolve({**user, "aligner": {"name": "dpo", "epochs": 7, "sft_epochs": 0.5}}, registry())
    assert (short.aligner.config.epochs, short.aligner.config.sft_epochs) == (1, 0.5)
    assert short.config.evaluate.bootstrap == 100
    usual = resolve({"task": "toy", "student": student, "quick": True, "aligner": "orpo"}, registry())
    assert (usual.aligner.config.epochs, usual.config.evaluate.bootstrap) == (1, 200)
    assert resolve({"task": "toy", "student": student, "quick": True, "aligner": None}, registry()).aligner is None


def test_a_quick_run_is_marked_wherever_its_numbers_stand(toy, mint, tmp_path: Path) -> None:
    ran = mint("run", *toy, "--set", "aligner.lora_rank=4")
    assert ran.code == 0, ran.err
    assert "A quick run: a handful of samples" in ran.err
    assert "QUICK run" in ran.out
    (path,) = Path("runs").glob("toy-oracle-orpo-quick-*")
    record = json.loads((path / "run.json").read_text())
    assert record["config"]["quick"] is True
    assert record["data"]["samples"] == {"train": 24, "val": 0, "test": 8}
    assert (record["stages"]["prefer"]["facts"]["k"], record["stages"]["prefer"]["facts"]["q"]) == (2, 2)
    assert json.loads((path / "metrics.json").read_text())["quick"] is True
    assert "A quick run." in (path / "report.html").read_text()
    card = (path / "adapter" / "README.md").read_text()
    assert "**Made by a quick run" in card
    assert "QUICK run. test split, n = 8" in card
    notes = tmp_path / "notes.jsonl"
    notes.write_text('{"id": "a", "text": "a note"}\n')
    page = tmp_path / "answers.html"
    told = mint("predict", "--adapter", path / "adapter", "--input", notes, "--output", page)
    assert told.code == 0, told.err
    assert "The adapter was made by a quick run" in told.err
    assert "The adapter was made by a quick run" in page.read_text()


def test_a_quick_comparison_has_one_seed(toy, mint) -> None:
    ran = mint("compare", *toy, "--aligners", "base", "--name", "c")
    assert ran.code == 0, ran.err
    content = json.loads(Path("runs/c/compare.json").read_text())
    assert (content["seeds"], content["quick"]) == ([0], True)
    assert "QUICK run" in ran.out
    assert "A quick run." in Path("runs/c/compare.html").read_text()
