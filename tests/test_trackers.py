"""Trackers of a training: what is refused before the first stage, where they write, what they are sent."""

import json
import struct
from pathlib import Path

import pytest
import yaml
from tensorboardX.proto.event_pb2 import Event
from transformers.integrations import integration_utils

from mint_core.aligners.settings import TrainingConfig
from tests.tiny_students import build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")


@pytest.fixture
def config(install_plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install_plugin("mint-toy", "toy_tracked", TOY)
    monkeypatch.chdir(tmp_path)
    content = {
        "task": "toy",
        "student": {"model": str(build("llama", tmp_path / "llama")), "device": "cpu"},
        "aligner": {"name": "orpo", "epochs": 1, "warmup": 0, "lora_rank": 2, "log_steps": 1},
        "name": "t",
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def events(path: Path) -> list[Event]:
    """The records of a file of TensorBoard: length, checksum, content, checksum."""
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        found.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return found


def test_tensorboard_writes_into_the_run_folder_and_gets_the_final_metrics(mint, config, tmp_path) -> None:
    there = {path.name for path in tmp_path.iterdir()}
    answer = mint("run", "--config", config, "--until", "evaluate", "--set", "aligner.report_to=tensorboard")
    assert answer.code == 0, answer.err
    assert {path.name for path in tmp_path.iterdir()} == there | {"runs"}
    files = sorted(Path("runs/t/logs").rglob("*tfevents*"))
    (folder,) = {path.parent for path in files}
    assert folder.name == "orpo" and folder.parent.name.startswith("t-")
    values = {
        value.tag: (event.step, value.simple_value)
        for path in files
        for event in events(path)
        for value in event.summary.value
    }
    history = json.loads(Path("runs/t/training/history.json").read_text())["history"]
    assert values["train/loss"] == (history[-1]["step"], pytest.approx(history[-1]["loss"], rel=1e-6))
    for row in json.loads(Path("runs/t/metrics.json").read_text())["rows"]:
        subset = "" if row["subset"] == "all" else f"{row['subset']}/"
        for key, value in row["metrics"].items():
            step, sent = values[f"eval/{row['variant']}/{subset}{key}"]
            assert (step, sent) == (history[-1]["step"], pytest.approx(value["mean"], rel=1e-6))
    assert not any(b"SECRET-PATIENT-TEXT" in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("asked", "told"),
    [("mlflow", "pip install mlflow"), ("tensorboard,wandbb", "there is no tracker 'wandbb'; did you mean 'wandb'?")],
)
def test_what_cannot_report_is_refused_before_the_first_stage(mint, config, monkeypatch, asked, told) -> None:
    monkeypatch.setattr(integration_utils, "is_mlflow_available", lambda: False)
    answer = mint("run", "--config", config, "--set", f"aligner.report_to={asked}")
    assert (answer.code, told in answer.err) == (2, True), answer.err
    assert not Path("runs/t/rankings").exists()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("wandb", ("wandb",)),
        ("tensorboard, wandb", ("tensorboard", "wandb")),
        (["wandb"], ("wandb",)),
        ("none", ()),
        (None, ()),
    ],
)
def test_one_tracker_or_several(given, meant) -> None:
    assert TrainingConfig.model_validate({"report_to": given}).report_to == meant


def test_trackers_change_no_result() -> None:
    assert {"report_to", "save_minutes", "save_steps"} <= TrainingConfig.neutral
