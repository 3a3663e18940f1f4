"""`mint export --to trl`: `datasets` reads it, TRL's own trainers train on it, and it lies where the user said."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset

import mint_core
from mint_core.runs.export import export_to_trl
from mint_core.students.prompts import write_response
from tests.tiny_students import HEADER, build

pytestmark = pytest.mark.usefixtures("one_thread")
TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
SEEN = '''
"""The toy with a drawn image per sample instead of a text."""
from PIL import Image

from mint_core import hookimpl
from mint_core.types import ImageRef, Message, Prompt, Sample, TaskData
from toy_plugin_under_test import LABELS, LabelSpace, Toy


class Drawn(ImageRef):
    def __init__(self, number):
        self.number = number

    @property
    def key(self):
        return str(self.number)

    def open(self):
        return Image.new("RGB", (28, 28), (self.number, 40, 90))


class Seen(Toy):
    """Image in, organ out."""

    name = "seen"
    modality = "image"

    def load(self):
        made = super().load()
        samples = [Sample(s.id, s.split, s.label, s.group, Drawn(i)) for i, s in enumerate(made.samples)]
        return TaskData(samples, LabelSpace(LABELS), "drawn", simulated=True, licence="CC BY 4.0")

    def training_prompt(self, sample, n):
        return Prompt((Message("system", "Keep to it."), Message("user", f"Name {n}.")), sample.image)


@hookimpl
def mint_tasks():
    return [Seen]
'''


@pytest.fixture
def made(install_plugin, tmp_path: Path, tmp_path_factory, monkeypatch: pytest.MonkeyPatch):
    """Makes a run up to its preferences, and says where the student lies."""
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    install_plugin("mint-seen", "seen_plugin_under_test", SEEN)
    monkeypatch.chdir(tmp_path)

    def run(task: str = "toy", student: str = "llama", **config: Any) -> tuple[Path, Path]:
        folder = build(student, tmp_path_factory.mktemp("export") / student)
        content = {
            "task": task, "student": {"model": str(folder), "device": "cpu"}, "name": "r",
            "strategy": {"name": "pairwise", "k": 2, "q": 3}, "aligner": {"name": "orpo", "warmup": 0}, **config,
        }  # fmt: skip
        return mint_core.run(content, until="prefer").path, folder

    return run


def read(file: Path, cache: Path) -> Any:
    return load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(cache))


def test_the_export_is_what_was_asked_for(made, mint, tmp_path) -> None:
    run, _ = made()
    answer = mint("export", run, "--to", "trl", "--out", "given")
    assert answer.code == 0, answer.err
    assert "96 pairs of 16 samples" in answer.out
    assert "It holds the samples' text; guard it" in answer.out
    assert "SECRET" not in answer.out + answer.err
    assert {path.name for path in Path("given").iterdir()} == {"train.parquet", "README.md"}
    assert "Simulated data" in Path("given", "README.md").read_text()
    rows = read(Path("given", "train.parquet"), tmp_path / "cache")
    assert rows.column_names == ["prompt", "chosen", "rejected"]
    assert len(rows) == 16 * 2 * 3
    preferences = read(run / "preferences" / "preferences.parquet", tmp_path / "cache")
    first = preferences[0]
    assert rows[0] == {
        "prompt": [
            {"role": "system", "content": "Keep to the format."},
            {"role": "user", "content": "SECRET-PATIENT-TEXT number p1. Name 1."},
        ],
        "chosen": [{"role": "assistant", "content": write_response(HEADER, first["chosen"][0])}],
        "rejected": [{"role": "assistant", "content": write_response(HEADER, first["rejected"][0])}],
    }
    assert rows[5]["chosen"][0]["content"] == write_response(HEADER, first["chosen"][1])
    assert rows[5]["rejected"][0]["content"] == write_response(HEADER, first["rejected"][2])


def test_a_listwise_group_is_one_row_and_turns_are_the_students(made, tmp_path) -> None:
    run, _ = made(student="gemma2", strategy={"name": "listwise", "k": 2, "q": 2})
    done = export_to_trl(run, tmp_path / "out")
    rows = read(done.path, tmp_path / "cache")
    assert (len(rows), done.pairs, done.samples, done.weighted) == (16, 16, 16, 0)
    # Gemma 2 has no system role.
    assert [turn["role"] for turn in rows[0]["prompt"]] == ["user"]
    assert rows[0]["prompt"][0]["content"].startswith("Keep to the format.\nSECRET-PATIENT-TEXT")


def test_the_tables_of_a_run_are_datasets(made, tmp_path) -> None:
    run, _ = made()
    preferences = read(run / "preferences" / "preferences.parquet", tmp_path / "cache")
    assert preferences.column_names == ["sample", "chosen", "rejected", "chosen_weights", "rejected_weights"]
    assert len(preferences) == 16
    rankings = read(run / "rankings" / "rankings.parquet", tmp_path / "cache")
    assert len(rankings[0]["log_probs"]) == 6


def test_weights_are_left_out_and_said(made, mint) -> None:
    run, _ = made(strategy={"name": "pairwise", "k": 2, "q": 2, "weights": "teacher"})
    answer = mint("export", run, "--to", "trl", "--out", "given")
    assert "TRL knows no weights: those of 16 groups are left out." in answer.out


def test_passages_of_the_training_prompts_are_exported(made, tmp_path) -> None:
    run, _ = made(retriever="echo", retrieval={"train": True})
    rows = read(export_to_trl(run, tmp_path / "out").path, tmp_path / "cache")
    assert "[1] passage for p1" in rows[0]["prompt"][1]["content"]


def test_what_cannot_be_exported_is_one_sentence(made, mint, tmp_path) -> None:
    answer = mint("export", tmp_path, "--to", "trl", "--out", "given")
    assert (answer.code, "holds no run.json" in answer.err) == (2, True)
    run, _ = made()
    for code, said in ((0, ""), (8, "exists already; choose another folder")):
        answer = mint("export", run, "--to", "trl", "--out", "given")
        assert (answer.code, said in answer.err) == (code, True)
    record = json.loads((run / "run.json").read_text())
    record["config"]["task"]["count"] = 18
    (run / "run.json").write_text(json.dumps(record))
    answer = mint("export", run, "--to", "trl", "--out", "other")
    assert (answer.code, "no longer those of the run" in answer.err) == (4, True)
    assert not Path("other").exists()
    (run / "preferences" / "preferences.parquet").unlink()
    answer = mint("export", run, "--to", "trl", "--out", "other")
    assert (answer.code, "holds no preferences" in answer.err) == (2, True)
    assert "patients' text" in mint("export", "--help").out


def arguments(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "trained"), "max_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True,
        "bf16": False, "report_to": "none", "logging_steps": 1, "disable_tqdm": True, "save_strategy": "no",
        "learning_rate": 1e-3, "gradient_checkpointing": False,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # TRL's own
@pytest.mark.parametrize("method", ["DPO", "ORPO"])
def test_trls_trainers_train_on_the_text(made, tmp_path, monkeypatch, method) -> None:
    trl = pytest.importorskip("trl", reason="trl is not installed; pip install mint-trl")
    import transformers as tf

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    run, folder = made()
    rows = read(export_to_trl(run, tmp_path / "out").path, tmp_path / "cache")
    if method == "ORPO":
        trl = pytest.importorskip("trl.experimental.orpo", reason="this trl has no ORPO", exc_type=ImportError)
    tokenizer = tf.AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    trainer = getattr(trl, f"{method}Trainer")(
        model=tf.AutoModelForCausalLM.from_pretrained(folder),
        args=getattr(trl, f"{method}Config")(**arguments(tmp_path)),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert all(loss > 0 for loss in losses)


@pytest.mark.filterwarnings("ignore")  # TRL's own
def test_trls_dpo_trains_on_the_images(made, tmp_path) -> None:
    trl = pytest.importorskip("trl", reason="trl is not installed; pip install mint-trl")
    import transformers as tf

    run, folder = made(task="seen", student="llava")
    done = export_to_trl(run, tmp_path / "out")
    rows = read(done.path, tmp_path / "cache")
    assert rows.column_names == ["prompt", "chosen", "rejected", "images"]
    assert [image.size for image in rows[0]["images"]] == [(28, 28)]
    assert rows[0]["images"][0].getpixel((0, 0)) == (1, 40, 90)  # sample p1
    assert rows[0]["prompt"][1] == {"role": "user", "content": "Name 1."}
    assert "Licence of the data: CC BY 4.0" in Path(tmp_path, "out", "README.md").read_text()
    trainer = trl.DPOTrainer(
        model=tf.AutoModelForImageTextToText.from_pretrained(folder),
        args=trl.DPOConfig(**arguments(tmp_path), max_length=None),
        train_dataset=rows,
        processing_class=tf.AutoProcessor.from_pretrained(folder),
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert all(loss > 0 for loss in losses)
