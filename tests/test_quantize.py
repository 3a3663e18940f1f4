"""Students whose weights are held in four or eight bits: loaded, trained, saved, asked again, merged, planned."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import yaml

from mint_core.answering.record import read_record
from mint_core.config import StudentConfig, decisive
from mint_core.errors import ConfigError, ModelError
from mint_core.students.adapter import load_adapter
from mint_core.students.load import load_outline, load_student
from mint_core.students.quantize import held, quantised_layers, weight_bytes
from tests.tiny_students import build

bitsandbytes = pytest.importorskip("bitsandbytes", reason="weights of few bits need the extra quantize")
pytestmark = pytest.mark.usefixtures("one_thread")
TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
WAYS = [{"quantize": "nf4"}, {"quantize": "nf4", "double_quantize": False}, {"quantize": "int8"}]


def settings(source: Path, **how) -> StudentConfig:
    return StudentConfig(model=str(source), device="cpu", **how)


@pytest.mark.parametrize("how", WAYS)
def test_weights_of_few_bits_answer_almost_alike_and_take_what_was_planned(how: dict, folder: Path) -> None:
    config = settings(folder, **how)
    student, whole = load_student(config), load_student(settings(folder))
    ids = torch.arange(60).reshape(2, 30)
    with torch.no_grad():
        mine, theirs = (one.model(ids).logits.log_softmax(-1) for one in (student, whole))
    assert held(student.model) == how["quantize"]
    assert held(whole.model) == ""
    assert 0 < (mine - theirs).abs().mean() < 0.3
    outline = load_outline(config).model
    states = [module.weight.quant_state for module in student.model.modules() if hasattr(module, "quant_state")]
    scales = [state.absmax.nbytes + state.code.nbytes for state in states if state is not None]
    scales += [state.state2.absmax.nbytes + state.state2.code.nbytes + 4 for state in states if state and state.nested]
    if how["quantize"] == "int8":
        scales = [4 * student.model.get_submodule(name).weight.shape[0] for name in quantised_layers(outline)]
    held_bytes = sum(t.nbytes for t in (*student.model.parameters(), *student.model.buffers()))
    assert weight_bytes(outline, config) == held_bytes + sum(scales)
    assert weight_bytes(outline, config) < weight_bytes(outline, settings(folder))


def test_head_and_vision_tower_stay_as_they_are(tmp_path: Path) -> None:
    folder = build("llava", tmp_path / "llava")
    model = load_student(settings(folder, quantize="nf4")).model
    few = {name for name, module in model.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)}
    assert few == set(quantised_layers(load_outline(settings(folder)).model))
    assert few
    assert not any("vision" in name or "projector" in name or "head" in name for name in few)


@pytest.fixture
def run(install_plugin, mint, folder: Path, tmp_path: Path, monkeypatch):
    """Makes a run of two steps with a quantised student."""
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)

    def make(**how) -> Path:
        config = {
            "task": "toy",
            "student": {"model": str(folder), "device": "cpu", **how},
            "strategy": {"name": "pairwise", "k": 2, "q": 3},
            "aligner": {"name": "orpo", "epochs": 1, "batch_size": 4, "lora_rank": 2},
            "predict": {"max_new_tokens": 4},
            "name": how["quantize"],
        }
        Path("run.yaml").write_text(yaml.safe_dump(config))
        answer = mint("run", "--config", "run.yaml")
        assert answer.code == 0, answer.err
        return Path("runs", how["quantize"]).resolve()

    return make


@pytest.mark.parametrize("how", [WAYS[0], WAYS[2]])
def test_a_run_trains_saves_and_answers_on_them(how: dict, run, mint, folder: Path) -> None:
    place = run(**how)
    record = json.loads((place / "run.json").read_text())
    bits = "4-bit weights (nf4, scales quantised too)" if how["quantize"] == "nf4" else "8-bit weights (LLM.int8)"
    assert record["student"]["weights"] == f"{bits}, the rest in float32"
    assert bits in (place / "adapter" / "README.md").read_text()
    assert read_record(place / "adapter").student.quantize == how["quantize"]
    assert json.loads((place / "training" / "history.json").read_text())["steps"] >= 2
    adapted = load_adapter(load_student(settings(folder, **how)).model, place / "adapter")
    assert any(p.abs().sum() > 0 for name, p in adapted.named_parameters() if "lora_B" in name)

    Path("new.jsonl").write_text('{"id": "a", "text": "one"}\n')
    asked = mint("predict", "--adapter", place / "adapter", "--input", "new.jsonl", "--out", "answers.jsonl")
    assert asked.code == 0, asked.err


def test_an_adapter_of_few_bits_is_merged_into_the_weights_that_those_were_made_from(run, mint, folder: Path) -> None:
    place = run(quantize="nf4")
    out = place.parent / "merged"
    given = mint("export", place, "--to", "merged", "--out", out)
    assert given.code == 0, given.err
    assert "trained on 4-bit weights (nf4, scales quantised too)" in " ".join((given.out + given.err).split())
    assert "trained on 4-bit weights" in (out / "README.md").read_text()
    ids = torch.arange(30)[None]
    with torch.no_grad():
        wanted = load_adapter(load_student(settings(folder)).model, place / "adapter")(ids).logits
        merged = load_student(settings(out)).model(ids).logits
    assert torch.allclose(merged, wanted, atol=1e-5)


def test_options_that_nobody_set_change_no_key(folder: Path) -> None:
    plain = decisive(settings(folder))
    assert not {"quantize", "double_quantize"} & plain.keys()
    assert decisive(settings(folder, quantize="nf4"))["quantize"] == "nf4"
    assert decisive(settings(folder, quantize="nf4", double_quantize=False))["double_quantize"] is False


def test_what_is_quantised_already_is_refused(folder: Path, tmp_path: Path) -> None:
    student = load_student(settings(folder, quantize="nf4"))
    student.model.save_pretrained(tmp_path / "four")
    student.tokenizer.save_pretrained(tmp_path / "four")
    with pytest.raises(ConfigError, match=r"already \(stored with bitsandbytes\).*leave student"):
        load_student(settings(tmp_path / "four", quantize="int8"))


def test_without_bitsandbytes_the_extra_is_named(folder: Path, monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda n, *p: None if n == "bitsandbytes" else found(n, *p))
    with pytest.raises(ConfigError, match=r"pip install 'mint-core\[quantize\]'"):
        load_outline(settings(folder, quantize="nf4"))


def test_vllm_is_refused(folder: Path) -> None:
    from mint_core.answering.vllm import VllmEngine

    with pytest.raises(ModelError, match=r"use predict\.engine=transformers"):
        VllmEngine(settings(folder, quantize="nf4"), None, None, _Asking(), print, shows_images=False)


class _Asking:
    class config:
        vllm = {}  # noqa: RUF012
