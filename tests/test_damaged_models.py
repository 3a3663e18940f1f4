"""Damaged and strange adapters and students: refused in one sentence with exit 6, or read as they are; never a bug."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mint_core.answering.engine import Asking
from mint_core.answering.outcome import outcome
from mint_core.answering.transformers import TransformersEngine
from mint_core.config import PredictConfig, StudentConfig
from mint_core.errors import ModelError
from mint_core.files import read_json, write_json, write_line
from mint_core.interfaces import Unreadable
from mint_core.students.adapter import add_lora, continue_adapter, load_adapter, target_modules
from mint_core.students.adapter_files import check_recorded, describe_files, put_in_order
from mint_core.students.load import load_outline, load_student
from mint_core.types import LabelSpace, Message, Prediction, Prompt
from tests.tiny_students import HEADER, LABELS, build

LABEL_SPACE = LabelSpace(LABELS)
PROMPTS = {f"s{i}": Prompt((Message("system", "Keep."), Message("user", "Name it." * i))) for i in (1, 2, 3)}
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("llama", tmp_path_factory.mktemp("damaged") / "llama")


@pytest.fixture(scope="module")
def sound(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that fits."""
    student = load(llama)
    names = target_modules(student.model, "attention", vision=False)
    folder = tmp_path_factory.mktemp("damaged") / "adapter"
    add_lora(student.model, names, 4, 8.0, 0.0).save_pretrained(folder)
    put_in_order(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(llama: Path):
    return load(llama)


def load(folder: Path):
    return load_student(StudentConfig(model=str(folder), device="cpu"))


@pytest.fixture
def adapter(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "adapter")


@pytest.fixture
def folder(llama: Path, tmp_path: Path) -> Path:
    return shutil.copytree(llama, tmp_path / "student")


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


def drop(path: Path, key: str) -> None:
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))


def refused(call: Callable[[], Any]) -> None:
    """One sentence of ours, short enough to be read, without a library's words about bugs."""
    with pytest.raises(ModelError) as found:
        call()
    said = str(found.value)
    assert "\n" not in said
    assert len(said) < 700
    assert found.value.exit_code == 6


# --- bytes: every file of an adapter and of a student

BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut in the middle": lambda data: data[: len(data) // 2],
    "cut at its end": lambda data: data[:-3],
    "noise": lambda data: np.random.default_rng(0).integers(0, 256, max(len(data), 64), dtype=np.uint8).tobytes(),
    "zeros": lambda data: bytes(len(data)),
    "a pickle": lambda _: b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0etouch /tmp/mine\x85R.",
    "a header of 2**63 bytes": lambda data: (2**63).to_bytes(8, "little") + data[8:],
    "a header beyond the file": lambda data: (10**9).to_bytes(8, "little") + data[8:],
    "nested without end": lambda _: b'{"a":' * 100_000,
    "a list": lambda _: b"[1, 2, 3]",
    "null": lambda _: b"null",
    "a number": lambda _: b"7",
    "NaN": lambda _: b"NaN",
    "a mapping of nothing": lambda _: b"{}",
}


@pytest.mark.parametrize("damage", BYTES)
@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_the_bytes_of_an_adapter(adapter: Path, loaded, file: str, damage: str) -> None:
    (adapter / file).write_bytes(BYTES[damage]((adapter / file).read_bytes()))
    refused(lambda: load_adapter(loaded.model, adapter))
    refused(lambda: continue_adapter(loaded.model, adapter, 0.0))


STUDENT_FILES = (
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
)  # fmt: skip
HARMLESS = {
    ("generation_config.json", "a mapping of nothing"),
    ("tokenizer_config.json", "a mapping of nothing"),
}
"""What a folder may hold: the library has a default for all that is missing."""


@pytest.mark.parametrize("damage", BYTES)
@pytest.mark.parametrize("file", STUDENT_FILES)
def test_the_bytes_of_a_student(folder: Path, file: str, damage: str) -> None:
    (folder / file).write_bytes(BYTES[damage]((folder / file).read_bytes()))
    if (file, damage) in HARMLESS:
        with suppress(ModelError):
            load(folder)
        return
    refused(lambda: load(folder))
    assert not Path("/tmp/mine").exists()  # noqa: S108 - what the pickle would have made


@pytest.mark.parametrize("file", STUDENT_FILES[:3])
def test_a_file_that_is_gone(folder: Path, file: str) -> None:
    (folder / file).unlink()
    refused(lambda: load(folder))


# --- values of an adapter's config

VALUES: dict[str, dict[str, Any]] = {
    "rank of 1e9": {"r": 10**9},
    "rank of 1e400": {"r": 10**400},
    "rank 0": {"r": 0},
    "negative rank": {"r": -4},
    "rank as text": {"r": "4"},
    "rank as a list": {"r": [4]},
    "rank as a truth": {"r": True},
    "rank as a fraction": {"r": 4.5},
    "another rank than the weights": {"r": 5},
    "a rank by pattern": {"rank_pattern": {"q_proj": 10**9}},
    "a pattern that backtracks": {"rank_pattern": {"(a+)+$": 4}},
    "a pattern as a list": {"rank_pattern": ["q_proj"]},
    "alpha as text": {"lora_alpha": "x"},
    "alpha NaN": {"lora_alpha": float("nan")},
    "alpha by pattern NaN": {"alpha_pattern": {"q_proj": float("nan")}},
    "dropout of 7": {"lora_dropout": 7},
    "dropout as text": {"lora_dropout": "much"},
    "no targets": {"target_modules": []},
    "targets null": {"target_modules": None},
    "a regex": {"target_modules": r".*\.(q|v)_proj"},
    "a regex that backtracks": {"target_modules": r"(.*)*(.*)*(.*)*x"},
    "targets as a mapping": {"target_modules": {"q_proj": 1}},
    "targets as numbers": {"target_modules": [1, 2]},
    "targets nested": {"target_modules": [["q_proj"]]},
    "targets that are nowhere": {"target_modules": ["c_attn"]},
    "excluded by a regex": {"exclude_modules": r"(a+)+$"},
    "modules to save": {"modules_to_save": ["lm_head"]},
    "modules to save as text": {"modules_to_save": "lm_head"},
    "trained tokens": {"trainable_token_indices": [1]},
    "layers copied": {"layer_replication": [[0, 10**9]]},
    "layers as text": {"layers_to_transform": "all"},
    "a layers pattern that backtracks": {"layers_to_transform": [0], "layers_pattern": "(a+)+"},
    "biases": {"bias": "all"},
    "a bias of no kind": {"bias": 3},
    "parameters": {"target_parameters": ["q_proj.weight"]},
    "pissa": {"init_lora_weights": "pissa"},
    "eva": {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}},
    "megatron": {"megatron_config": {"x": 1}},
    "another peft type": {"peft_type": "LOHA"},
    "prompt tuning": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 10**9},
    "ia3": {"peft_type": "IA3"},
    "a peft type of no kind": {"peft_type": "NOTHING"},
    "a peft type as a number": {"peft_type": 4},
    "another task": {"task_type": "SEQ_CLS"},
    "a task as a number": {"task_type": 4},
    "an unknown key that says something": {"quantum": {"qubits": 5}},
    "base model as a number": {"base_model_name_or_path": 4},
    "dora without its weights": {"use_dora": True},
    "dora as text": {"use_dora": "yes"},
}


@pytest.mark.parametrize("damage", VALUES)
def test_the_values_of_an_adapters_config(adapter: Path, loaded, damage: str) -> None:
    edit(adapter / CONFIG, **VALUES[damage])
    refused(lambda: load_adapter(loaded.model, adapter))
    refused(lambda: continue_adapter(loaded.model, adapter, 0.0))


@pytest.mark.parametrize("key", ["peft_type", "r", "target_modules"])
def test_a_key_that_is_gone(adapter: Path, loaded, key: str) -> None:
    drop(adapter / CONFIG, key)
    refused(lambda: load_adapter(loaded.model, adapter))


def test_what_a_plain_adapter_of_another_program_says_is_read(adapter: Path, llama: Path) -> None:
    """Short names, a task that was left out, keys of a newer library that say nothing."""
    names = ["q_proj", "k_proj", "v_proj", "o_proj"]
    edit(adapter / CONFIG, target_modules=names, task_type=None, some_new_option=None, other_option=False)
    assert load_adapter(load(llama).model, adapter).peft_config["default"].r == 4


# --- tensors of an adapter

Tensors = dict[str, torch.Tensor]


def first(state: Tensors, part: str = "lora_A") -> str:
    return next(key for key in state if part in key)


def with_value(value: float, part: str) -> Callable[[Tensors], Tensors]:
    def change(state: Tensors) -> Tensors:
        state[first(state, part)].view(-1)[3] = value
        return state

    return change


TENSORS: dict[str, Callable[[Tensors], Tensors]] = {
    "NaN": with_value(float("nan"), "lora_B"),
    "inf": with_value(float("inf"), "lora_A"),
    "-inf": with_value(float("-inf"), "lora_A"),
    "whole numbers": lambda state: {key: value.to(torch.int32) for key, value in state.items()},
    "a tensor too few": lambda state: dict(list(state.items())[1:]),
    "a layer too few": lambda state: dict(list(state.items())[2:]),
    "another size": lambda state: {key: value[:, :-1].contiguous() for key, value in state.items()},
    "another rank": lambda state: {k: (v[:-1] if "lora_A" in k else v[:, :-1]).contiguous() for k, v in state.items()},
    "one dimension": lambda state: {key: value.reshape(-1) for key, value in state.items()},
    "a rank of nothing": lambda state: {**state, first(state): torch.zeros(10**9, 0)},
    "no tensors": lambda _: {},
    "other names": lambda state: {f"x.{key}": value for key, value in state.items()},
    "the whole model's head": lambda state: {**state, "base_model.model.lm_head.weight": torch.zeros(4, 4)},
    "layers that the student lacks": lambda s: {key.replace("layers.0", "layers.9"): value for key, value in s.items()},
}


@pytest.mark.parametrize("damage", TENSORS)
def test_the_tensors_of_an_adapter(adapter: Path, loaded, damage: str) -> None:
    save_file(TENSORS[damage](load_file(adapter / WEIGHTS)), adapter / WEIGHTS, metadata={"format": "pt"})
    refused(lambda: load_adapter(loaded.model, adapter))
    refused(lambda: continue_adapter(loaded.model, adapter, 0.0))


def test_a_pickle_beside_missing_weights_is_not_read(adapter: Path, loaded) -> None:
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    refused(lambda: load_adapter(loaded.model, adapter))


# --- values of a student's files

STUDENT_VALUES: dict[str, dict[str, Any]] = {
    "hidden size of 1e9": {"hidden_size": 10**9},
    "hidden size of 1e6": {"hidden_size": 10**6},
    "1e9 words": {"vocab_size": 10**9},
    "1e9 layers": {"num_hidden_layers": 10**9},
    "1e9 heads": {"num_attention_heads": 10**9},
    "an intermediate size of 1e9": {"intermediate_size": 10**9},
    "1e400": {"hidden_size": 10**400},
    "a negative size": {"hidden_size": -32},
    "no heads": {"num_attention_heads": 0},
    "size as text": {"hidden_size": "big"},
    "size null": {"hidden_size": None},
    "size as a list": {"hidden_size": [32]},
    "size as a mapping": {"hidden_size": {"a": 1}},
    "layers as a fraction": {"num_hidden_layers": 1.5},
    "activation of no kind": {"hidden_act": "nothing"},
    "a type of no kind": {"model_type": "nothing"},
    "a type as a number": {"model_type": 4},
    "another type": {"model_type": "bert"},
    "dtype of no kind": {"rope_parameters": "no"},
    "code that nobody trusts": {"model_type": "mine", "auto_map": {"AutoConfig": "m.C", "AutoModelForCausalLM": "m.M"}},
    "a pad id outside": {"pad_token_id": 10**6},
    "one layer more": {"num_hidden_layers": 3},
}  # fmt: skip


@pytest.mark.parametrize("damage", STUDENT_VALUES)
def test_the_values_of_a_students_config(folder: Path, damage: str) -> None:
    edit(folder / "config.json", **STUDENT_VALUES[damage])
    refused(lambda: load(folder))


@pytest.mark.parametrize("damage", ["1e9 layers", "1e9 heads", "size as text", "a type of no kind", "1e400"])
def test_the_same_without_weights(folder: Path, damage: str) -> None:
    edit(folder / "config.json", **STUDENT_VALUES[damage])
    refused(lambda: load_outline(StudentConfig(model=str(folder), device="cpu")))


def test_a_weight_that_is_gone_is_not_drawn_at_random(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of its weights, model\.layers\.1\.mlp\.up_proj\.weight"):
        load(folder)


def in_parts(folder: Path, **changes: str) -> None:
    """The weights in an index and two files, whose names may be changed."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    parts = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    for file, some in parts.items():
        save_file({name: state[name] for name in some}, folder / file, metadata={"format": "pt"})
    where = {name: changes.get(file.partition(".")[0], file) for file, some in parts.items() for name in some}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def test_an_index(folder: Path) -> None:
    in_parts(folder)
    assert load(folder).model is not None


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/passwd", "sub/b.safetensors", "..", "", "gone.safetensors", "..\\b"]
)  # fmt: skip
def test_an_index_that_names_a_file_outside_its_folder(folder: Path, name: str) -> None:
    shutil.copy(folder / "model.safetensors", folder.parent / "other.safetensors")
    in_parts(folder, b=name)
    refused(lambda: load(folder))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', ""])
def test_an_index_that_is_damaged(folder: Path, content: str) -> None:
    in_parts(folder)
    (folder / "model.safetensors.index.json").write_text(content)
    refused(lambda: load(folder))


def test_pickled_weights_of_a_student_are_not_read(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="as pickles, which mint does not read"):
        load(folder)


# --- the seal


def test_files_of_an_adapter_are_those_of_its_record(adapter: Path, loaded) -> None:
    check_recorded(adapter)  # one without a record passes
    write_json(adapter / "mint.json", {"files": describe_files(adapter)})
    check_recorded(adapter)
    data = bytearray((adapter / WEIGHTS).read_bytes())
    data[-5] ^= 1
    (adapter / WEIGHTS).write_bytes(data)
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors in .* is not as the training left it"):
        continue_adapter(loaded.model, adapter, 0.0)
    (adapter / "mint.json").write_text("[")
    refused(lambda: check_recorded(adapter))


_WRITE = """
import sys
from pathlib import Path
from tests.test_damaged_models import write_adapter
write_adapter(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def write_adapter(llama: Path, out: Path) -> None:
    torch.manual_seed(0)
    student = load(llama)
    names = target_modules(student.model, "all-linear", vision=False)[1:]
    add_lora(student.model, names, 4, 8.0, 0.0).save_pretrained(out)
    put_in_order(out)


def test_two_processes_write_the_same_bytes(llama: Path, tmp_path: Path) -> None:
    """peft writes a set of names, whose order follows the seed of Python's hashes: here and in another process."""
    write_adapter(llama, tmp_path / "here")
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    there = [sys.executable, "-c", _WRITE, str(llama), str(tmp_path / "there")]
    subprocess.run(there, env=env, check=True, capture_output=True)
    for file in (CONFIG, WEIGHTS):
        assert (tmp_path / "here" / file).read_bytes() == (tmp_path / "there" / file).read_bytes()
    names = read_json(tmp_path / "here" / CONFIG)["target_modules"]
    assert names == sorted(names)
    assert len(names) > 3


# --- numbers that are not finite


@pytest.fixture
def broken(llama: Path):
    """A student whose head writes one NaN: every score that it gives is none."""
    student = load(llama)
    with torch.no_grad():
        student.model.lm_head.weight[7] = float("nan")
    return student


def engine(student, decode: str, *, isolate: bool) -> TransformersEngine:
    asking = Asking(LABEL_SPACE, HEADER, 2, 2, PredictConfig(decode=decode))
    return TransformersEngine(student, asking, shows_images=False, isolate=isolate)


@pytest.mark.parametrize("decode", ["free", "constrained", "score"])
def test_scores_that_are_not_finite_are_a_samples_failure(broken, decode: str) -> None:
    answers = [one for some in engine(broken, decode, isolate=True).answers("base", PROMPTS) for one in some]
    assert {one.id for one in answers if isinstance(one, Unreadable)} == set(PROMPTS)
    assert all("scores are not finite" in one.reason and one.id in one.reason for one in answers)
    with pytest.raises(ModelError, match=r"Sample s\d: the student's scores are not finite"):
        list(engine(broken, decode, isolate=False).answers("base", PROMPTS))


@pytest.mark.parametrize("decode", ["free", "constrained", "score"])
def test_only_the_sample_that_meets_the_fault_fails(llama: Path, decode: str) -> None:
    """One word of one prompt has a broken embedding; the others of the batch are answered as without it."""
    student = load(llama)
    want = [one for some in engine(student, decode, isolate=True).answers("base", PROMPTS) for one in some]
    mark = student.tokenizer("~", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        student.model.model.embed_tokens.weight[mark] = float("inf")
    asked = {**PROMPTS, "s2": Prompt((Message("system", "Keep."), Message("user", "Name ~ it.")))}
    got = [one for some in engine(student, decode, isolate=True).answers("base", asked) for one in some]
    assert [one.id for one in got if isinstance(one, Unreadable)] == ["s2"]
    others = {one.sample_id: one.labels for one in want if one.sample_id != "s2"}
    assert {one.sample_id: one.labels for one in got if isinstance(one, Prediction)} == others


@pytest.mark.parametrize(
    ("best", "abstains"), [(-0.1, False), (-3.0, True), (float("-inf"), True), (float("nan"), True)]
)
def test_what_is_not_at_least_the_threshold_abstains(best: float, abstains: bool) -> None:
    prediction = Prediction("p", "aligned", "", ("Liver",), 1, True, (best,))
    made = outcome(prediction, LABEL_SPACE, "score", 0.5, "")
    assert made.abstained is abstains
    assert made.log_probs == ((best,) if np.isfinite(best) else (None,))


def test_json_is_valid_whatever_stands_in_it(tmp_path: Path) -> None:
    content = {"a": float("nan"), "b": [1.5, float("inf")], "c": {"d": (float("-inf"), "NaN", np.float64("nan"))}}
    write_json(tmp_path / "a.json", content)

    def never(name: str) -> None:
        raise AssertionError(name)

    expected = {"a": None, "b": [1.5, None], "c": {"d": [None, "NaN", None]}}
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=never) == expected
    with (tmp_path / "b.jsonl").open("w") as stream:
        write_line(stream, content)
    assert json.loads((tmp_path / "b.jsonl").read_text(), parse_constant=never) == expected
