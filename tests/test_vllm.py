"""`mint predict --engine vllm`: refusals and prompts anywhere, the engine itself where vLLM is installed."""

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mint_core
from mint_core.answering import generate as with_transformers
from mint_core.answering import vllm
from mint_core.answering.generate import generate, stop_tokens
from mint_core.config import StudentConfig
from mint_core.errors import ModelError
from mint_core.images import FileImage
from mint_core.students.adapter import add_lora, load_adapter, target_modules
from mint_core.students.encoding import encode_prompt
from mint_core.students.load import load_outline, load_student
from mint_core.types import Message, Prompt
from tests import tiny_students
from tests.tiny_students import LABELS, build

SECRET = "SECRET-PATIENT-TEXT"  # noqa: S105 - no password
TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")


@cache
def why_not() -> str | None:
    """Why vLLM cannot be run here."""
    if importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed"
    script = "from vllm.platforms import current_platform as p; from vllm import LLM; print('on', p.device_type)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    place = said.stdout.rpartition("on ")[2].strip()
    return None if said.returncode == 0 and place else "this vLLM cannot be imported, or finds nothing to compute on"


@pytest.fixture
def installed() -> None:
    if reason := why_not():
        pytest.skip(reason)


def prompts(folder: Path, *, images: bool) -> dict[str, Prompt]:
    made = {}
    for number in range(5):
        path = folder / f"{number}.png"
        pixels = np.random.default_rng(number).integers(0, 255, (40 + 4 * number, 40 + 8 * number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        turns = (Message("system", "You are a pathologist."), Message("user", "Name the tissues." + " word" * number))
        made[f"s{number}"] = Prompt(turns, FileImage(path) if images else None)
    return made


def write_adapter(student, folder: Path, **options) -> Path:
    """An adapter of rank 12 that says something: fresh ones add nothing."""
    import torch

    names = target_modules(student.model, "all-linear", vision=options.get("vision", False))
    model = add_lora(student.model, names, 12, 24, 0.0)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    return folder


# --- what needs no vLLM


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--engine", "vllm", "--decode", "score"), "decode=score needs predict.engine=transformers"),
        (("--engine", "vllm", "--decode", "constrained"), "decode=constrained needs predict.engine=transformers"),
        (("--engine", "vllm", "--endpoint", "http://localhost/v1", "--model", "m"), "leave one out"),
        (("--engine", "transformers", "--endpoint", "http://localhost/v1", "--model", "m"), "leave one out"),
        (("--vllm", "enforce_eager=true"), "add --engine vllm"),
        (("--engine", "vllm", "--vllm", "dtype=half"), "predict.vllm takes no dtype"),
        (("--engine", "vllm"), "pip install 'mint-core[vllm]'"),
    ],
)
def test_what_vllm_cannot_do_is_refused_at_once(mint, tmp_path: Path, monkeypatch, options, said: str) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)  # as where it is not installed
    answer = mint("predict", "--adapter", tmp_path / "none", "--input", tmp_path / "none.jsonl", *options)
    assert (answer.code, said in answer.err) == (2, True), answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(("rank", "allowed"), [(1, 1), (2, 8), (12, 16), (32, 32), (129, 256), (257, 320), (512, 512)])
def test_the_rank_is_rounded_up_to_one_that_vllm_takes(rank: int, allowed: int) -> None:
    assert vllm.allowed_rank(rank) == allowed


def test_a_rank_beyond_all_is_refused() -> None:
    with pytest.raises(ModelError, match="up to rank 512, and this one has 513"):
        vllm.allowed_rank(513)


def test_the_rank_is_the_largest_and_the_adapter_must_fit(tmp_path: Path) -> None:
    config = StudentConfig(model=str(build("llama", tmp_path / "llama")), device="cpu")
    adapter = write_adapter(load_student(config), tmp_path / "adapter")
    assert vllm._adapter_rank(load_outline(config), adapter) == 12
    other = StudentConfig(model=str(build("qwen2", tmp_path / "qwen2")), device="cpu")
    deep = json.loads((tmp_path / "qwen2" / "config.json").read_text()) | {"intermediate_size": 64}
    (tmp_path / "qwen2" / "config.json").write_text(json.dumps(deep))
    with pytest.raises(ModelError, match="does not fit this student"):
        vllm._adapter_rank(load_outline(other), adapter)
    written = json.loads((adapter / "adapter_config.json").read_text())
    from safetensors.torch import load_file, save_file

    tensors = load_file(adapter / "adapter_model.safetensors")
    name = next(key for key in tensors if "layers.1.self_attn.q_proj.lora_A" in key)
    for key in (name, name.replace("lora_A", "lora_B")):
        tensors[key] = tensors[key].repeat((3, 1) if "lora_A" in key else (1, 3))
    save_file(tensors, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    written["rank_pattern"] = {"model.layers.1.self_attn.q_proj": 36}
    (adapter / "adapter_config.json").write_text(json.dumps(written))
    assert vllm._adapter_rank(load_outline(config), adapter) == 36


@pytest.mark.parametrize("name", ["llama", "qwen2", "llava", "qwen2_5_vl"])
def test_vllm_is_given_the_tokens_that_the_student_reads(tmp_path: Path, monkeypatch, name: str) -> None:
    """The student without weights against the loaded one, whose batch is caught on its way into the model."""
    config = StudentConfig(model=str(build(name, tmp_path / name)), device="cpu")
    student = load_student(config)
    caught: list = []
    greedy = with_transformers.greedy

    def catch(student, model, rows, end_of_turn, **how):
        caught.extend((row["input_ids"][0].tolist(), stop_tokens(student, end_of_turn)) for row in rows)
        return greedy(student, model, rows, end_of_turn, **how)

    monkeypatch.setattr(with_transformers, "greedy", catch)
    asked = prompts(tmp_path, images=student.reads_images)
    assert len(list(generate(student, asked, max_new_tokens=1, batch_size=8))) == 5
    outline = load_outline(config)
    image = getattr(outline.model.config, "image_token_id", None)
    for (sample_id, prompt), (ids, stops) in zip(asked.items(), caught, strict=True):
        row = vllm._Row(outline, prompt, encode_prompt(outline, sample_id, prompt))
        assert row.ids == ids
        assert stop_tokens(outline, row.end_of_turn) == stops
        given = row.prompt["prompt_token_ids"]
        if not student.reads_images:
            assert given == ids
            continue
        # vLLM itself puts as many tokens there as the image takes.
        assert given.count(image) == 1 < ids.count(image)
        assert [token for token in given if token != image] == [token for token in ids if token != image]
        assert row.prompt["multi_modal_data"]["image"].size == prompt.image.open().size


def test_nothing_is_reported_and_a_folder_needs_no_hub(monkeypatch) -> None:
    own = {key: value for key, value in os.environ.items() if not key.startswith(("VLLM", "HF_", "DO_NOT"))}
    monkeypatch.setattr(os, "environ", own)
    vllm._set_environment(offline=False)
    assert (own["VLLM_NO_USAGE_STATS"], own["DO_NOT_TRACK"]) == ("1", "1")
    assert own["VLLM_LOGGING_STREAM"] == "ext://sys.stderr"
    assert "HF_HUB_OFFLINE" not in own
    vllm._set_environment(offline=True)
    assert own["HF_HUB_OFFLINE"] == "1"


def test_a_reason_is_one_short_line() -> None:
    told = "1 validation error for ModelConfig\n  Value error, The model is odd. [type=value_error, input_value=…]\n"
    assert vllm._reason(ValueError(told)) == "The model is odd"
    assert vllm._reason(KeyError("x")) == "KeyError"
    assert len(vllm._reason(ValueError("word " * 200))) <= 240


def test_a_vllm_that_does_not_tell_what_it_left_out_is_no_error() -> None:
    assert vllm._left_out(object()) is None


# --- the engine itself


def run(script: str, *arguments: object, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: vLLM leaves much behind in one."""
    roots = [str(Path(mint_core.__file__).parents[1]), str(folder / "site"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **{key: value for key, value in os.environ.items() if key not in vllm._ENVIRONMENT},
        **{"PYTHONPATH": os.pathsep.join(roots), "HOME": str(folder), "VLLM_CPU_KVCACHE_SPACE": "1", **more},
    }
    command = [sys.executable, *script.split(), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)


@pytest.mark.usefixtures("installed")
def test_the_command_answers_as_transformers_does(install_plugin, tmp_path: Path, monkeypatch) -> None:
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.setattr(tiny_students, "HEADS", 1)  # vLLM's attention wants heads of 32 numbers
    patients = [
        {"id": f"p{i}", "split": "train" if i % 3 else "test", "label": LABELS[i % 6], "group": None} for i in range(12)
    ]
    (tmp_path / "patients.json").write_text(json.dumps(patients))
    mint_core.run(
        {
            "task": {"name": "toy", "source": "file", "data": str(tmp_path / "patients.json")},
            "student": {"model": str(build("llama", tmp_path / "llama"))},
            "out": str(tmp_path / "runs"),
            "name": "t",
            "aligner": {"name": "orpo", "epochs": 3, "warmup": 0, "lora_rank": 12, "learning_rate": 5e-3},
        },
        until="align",
    )
    notes = [{"id": f"n{i}", "text": f"{SECRET} of note {i}" + " word" * i} for i in range(12)]
    notes.insert(5, {"id": "long", "text": f"{SECRET} " * 400})
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes))
    ask = ["predict", "--adapter", tmp_path / "runs/t/adapter", "--input", tmp_path / "notes.jsonl", "--response"]
    ask += ["--on-error", "skip", "--set", "student.dtype=fp32"]
    expected = run("-m mint_core", *ask, folder=tmp_path)
    engine = ("--engine", "vllm", "--vllm", "enforce_eager=true", "--batch-size", 5)
    got = run("-m mint_core", *ask, *engine, folder=tmp_path)
    assert (expected.returncode, got.returncode) == (9, 9), got.stderr
    records = [json.loads(line) for line in got.stdout.splitlines()]
    assert records == [json.loads(line) for line in expected.stdout.splitlines()]
    assert [record["id"] for record in records if record["error"]] == ["long"]
    assert len({record["response"] for record in records}) > 3
    assert SECRET not in got.stderr
    assert not list(tmp_path.rglob("usage_stats.json"))


IMAGES = """
import sys
from pathlib import Path
from mint_core.config import StudentConfig
from mint_core.answering.engine import Asking
from mint_core.answering.vllm import VllmEngine
from mint_core.config import PredictConfig
from mint_core.types import LabelSpace
from tests.test_vllm import prompts
folder, options = Path(sys.argv[1]), {"enforce_eager": True, **dict.fromkeys(sys.argv[2:], False)}
config = PredictConfig(engine="vllm", vllm=options, max_new_tokens=16, batch_size=3)
asking = Asking(LabelSpace(("Colon", "Liver")), "HEADER:", 2, 2, config)
student = StudentConfig(model=str(folder / "student"), dtype="fp32")
told = []
engine = VllmEngine(student, None, folder / "adapter", asking, told.append, shows_images=True)
engine.put_on(folder / "adapter")
assert not told
for some in engine.answers("aligned", prompts(folder, images=True)):
    for one in some:
        print("ANSWER", ascii(one.text))
"""


@pytest.mark.usefixtures("installed")
def test_images_are_read_and_an_adapted_tower_is_used_or_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tiny_students, "HEADS", 1)
    config = StudentConfig(model=str(build("idefics3", tmp_path / "student")), device="cpu")
    adapter = write_adapter(load_student(config), tmp_path / "adapter", vision=True)
    student = load_student(config)
    asked = prompts(tmp_path, images=True)
    plain = dict(generate(student, asked, max_new_tokens=16, batch_size=5))
    model = load_adapter(student.model, adapter)
    expected = dict(generate(student, asked, max_new_tokens=16, batch_size=5, model=model))
    assert all(plain[key] != expected[key] for key in asked)
    (tmp_path / "ask.py").write_text(IMAGES)
    got = run("ask.py", tmp_path, folder=tmp_path)
    answers = [line.removeprefix("ANSWER ") for line in got.stdout.splitlines() if line.startswith("ANSWER ")]
    assert answers == [ascii(text) for text in expected.values()], got.stderr
    refused = run("ask.py", tmp_path, "enable_tower_connector_lora", folder=tmp_path)
    assert "ModelError: vLLM would leave out" in refused.stderr


DEVICES = """
import sys
from mint_core.errors import MintError
from mint_core.answering.vllm import _device, _set_environment, _start
_set_environment(offline=True)
for act in (lambda: _device("cuda:1"), lambda: _device("mps"), lambda: _start("x", {"colour": 1}),
            lambda: _start(sys.argv[1], {"model": sys.argv[1], "enforce_eager": True})):
    try:
        act()
    except MintError as error:
        print("SAID", error.exit_code, error)
"""


@pytest.mark.usefixtures("installed")
def test_what_this_vllm_does_not_have_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "devices.py").write_text(DEVICES)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "llama", "architectures": ["NoSuchModel"]}')
    said = [line for line in run("devices.py", tmp_path / "odd", folder=tmp_path).stdout.splitlines() if "SAID" in line]
    assert [line.split()[1] for line in said] == ["2", "2", "2", "6"]
    assert "CUDA_VISIBLE_DEVICES; set that to 1" in said[0]
    assert "not on 'mps'" in said[1]
    assert "no option 'colour'" in said[2]
    assert "vLLM cannot start with the student" in said[3]
