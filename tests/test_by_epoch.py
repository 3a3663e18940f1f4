"""The curve by epoch: answers between epochs change nothing, survive an interruption, and are not reported."""

import json
import random
import re
import signal
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import mint_core
from mint_core.aligners.by_epoch import undisturbed
from mint_core.aligners.dpo import Dpo, DpoConfig
from mint_core.aligners.orpo import Orpo
from mint_core.config import StudentConfig, read_config, resolve
from mint_core.errors import ConfigError
from mint_core.observer import Observer
from mint_core.plugins import registry
from mint_core.runs.again import report_again
from mint_core.stages.by_epoch import validation_samples
from mint_core.stages.run import Run
from mint_core.students.load import load_student
from tests.test_trainer import config, interrupt_at, job, send_at
from tests.tiny_students import build

pytestmark = pytest.mark.usefixtures("one_thread")


def judge(model: Any, count: int) -> dict[str, float]:
    """Draws random numbers of every kind, and tells the adapter's weights apart."""
    assert not any(module.training for module in model.modules())
    _ = torch.rand(count), np.random.rand(count), random.random()
    with torch.inference_mode():
        tokens = torch.arange(8)[None]
        return {"hfa": float(model(input_ids=tokens).logits.float().softmax(-1).max()), "top-1": count / 10}


@pytest.fixture
def align(folder: Path, tmp_path: Path):
    """Trains the tiny student; returns the result and the adapter's tensors."""

    def call(name: str, *, advance: Any = None, tell: Any = None, kind: Any = Orpo, options: Any = None, **other: Any):
        student = load_student(StudentConfig(model=str(folder), device="cpu"))
        given = job(student, tmp_path / name, advance=advance or (lambda *_: None), tell=tell or (lambda _: None))
        made = options or config(lora_dropout=0.2, log_steps=1, **other)
        result = kind(made).align(replace(given, validate=judge, titles={"top-1": "Top-1", "hfa": "HFA"}))
        return result, load_file(tmp_path / name / "adapter" / "adapter_model.safetensors")

    return call


def test_answers_between_epochs_change_no_bit_of_the_training(align) -> None:
    told: list[str] = []
    plain, expected = align("plain")
    judged, found = align("judged", validate_samples=3, tell=told.append)
    assert plain.validation == ()
    assert [(one["step"], one["epoch"]) for one in judged.validation] == [(0, 0), (3, 1), (6, 2)]
    assert {one["top-1"] for one in judged.validation} == {0.3}
    assert len({one["hfa"] for one in judged.validation}) == 3  # the student has changed in between
    assert [line.partition(":")[0] for line in told] == ["Epoch 0", "Epoch 1", "Epoch 2"]
    assert told[0].startswith("Epoch 0: HFA ") and told[0].endswith(" %, Top-1 30.0 %")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert [one["loss"] for one in judged.history] == [one["loss"] for one in plain.history]


@pytest.mark.parametrize("step", [3, 5])
def test_the_curve_survives_an_interruption(align, step: int) -> None:
    straight, expected = align("straight", validate_samples=3, save_steps=1)
    with pytest.raises(KeyboardInterrupt):
        align("broken", validate_samples=3, save_steps=1, advance=interrupt_at(step))
    resumed, found = align("broken", validate_samples=3, save_steps=1)
    assert resumed.validation == straight.validation
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_stop_within_an_epoch_is_no_end_of_it(align) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    told: list[str] = []
    try:
        with pytest.raises(KeyboardInterrupt):
            align("broken", validate_samples=3, advance=send_at(4, signal.SIGINT), tell=told.append)
    finally:
        signal.signal(signal.SIGINT, before)
    assert [line.partition(":")[0] for line in told] == ["Epoch 0", "Epoch 1", "Stopping"]


def test_two_phases_make_one_curve(align) -> None:
    options = DpoConfig(epochs=1, sft_epochs=2, batch_size=3, warmup=0, lora_rank=2, log_steps=1, validate_samples=1)
    result, _ = align("dpo", kind=Dpo, options=options)
    assert [one["step"] for one in result.validation] == [0, 2, 4, 6]
    assert [one["epoch"] for one in result.validation] == [0, 1, 2, 1]


def test_modes_and_random_numbers_are_as_before() -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Sequential(torch.nn.Dropout()))
    model[1].eval()
    states = [torch.get_rng_state().clone(), np.random.get_state()[1].copy(), random.getstate()]
    with pytest.raises(ValueError, match="fails"), undisturbed(model):
        _ = torch.rand(3), np.random.rand(3), random.random()
        assert not model[0].training
        raise ValueError("fails")
    assert [module.training for module in (model, model[0], model[1], model[1][0])] == [True, True, False, False]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def run(install_plugin, made: Path) -> Path:
    """Of a tiny student; made once."""
    install_plugin("mint-rule", "rule_plugin_under_test", Path(__file__).with_name("rule_plugin.py").read_text())
    aligner = {
        "name": "orpo", "epochs": 2, "warmup": 0, "lora_rank": 2, "learning_rate": 1e-2, "validate_samples": 5,
        "batch_size": 8, "log_steps": 1,
    }  # fmt: skip
    layer = {
        "task": {"name": "rule", "count": 16},
        "student": {"model": str(build("llama", made / "llama")), "device": "cpu"},
        "predict": {"decode": "score", "base": False},
        "aligner": aligner,
        "out": str(made / "runs"),
        "name": "r",
    }
    if not (made / "runs" / "r").exists():
        mint_core.run(layer)
    return made / "runs" / "r"


def test_a_run_shows_its_curve_of_samples_that_it_does_not_report(run: Path) -> None:
    history = json.loads((run / "training" / "history.json").read_text())
    assert history["validated_on"] == {"split": "val", "n": 5}
    assert [one["step"] for one in history["validation"]] == [0, 2, 4]
    keys = {"hfa", "top-n", "top-1"}
    assert all(keys <= one.keys() and "car" not in one for one in history["validation"])
    assert all(one["hfa"] == 1 for one in history["validation"])  # scored answers keep to the format
    said = (run / "log.jsonl").read_text()
    assert re.search(r"Epoch 1: HFA 100\.0 %, Top-\d [\d.]+ %, Top-1 [\d.]+ %", said)
    page = (run / "report.html").read_text()
    assert "5 samples of the val split" in page
    drawn_from = page.index("<svg", page.index(">Training</h2>"))
    svg = page[drawn_from : page.index("</svg>", drawn_from) + 6]
    shown = " ".join(ET.fromstring(svg).itertext())  # noqa: S314 - mint's own figure
    assert all(word in shown for word in ("loss", "margin", "step", "HFA", "Top-1"))
    made = Run(resolve(read_config(run / "run.json"), registry()), run, Observer(), run / ".cache")
    drawn = validation_samples(made, 5)
    assert {sample.split for sample in drawn} == {"val"}
    assert [sample.id for sample in drawn] == [sample.id for sample in validation_samples(made, 5)]
    made.reported = made.data.split("val")
    assert {sample.split for sample in validation_samples(made, 5)} == {"train"}


def test_numbers_of_another_version_are_refused_in_one_sentence(run: Path) -> None:
    manifest = run / "stages" / "evaluate.json"
    content = json.loads(manifest.read_text())
    content["inputs"]["layout"] = 1
    manifest.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="made by another version of mint; `mint run --config"):
        report_again(run)
