"""Students that are GGUF files: loaded like the folder that they were made from, and refused in one sentence."""

import json
import struct
from pathlib import Path

import pytest
import torch
import yaml

from mint_core.config import StudentConfig
from mint_core.errors import ModelError
from mint_core.students.gguf import find_gguf
from mint_core.students.load import load_outline, load_student

gguf = pytest.importorskip("gguf", reason="students in GGUF need the extra gguf")

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers": "blk",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def write_gguf(folder: Path, file: Path, architecture: str = "llama", **extra: int) -> Path:
    """A tiny llama as llama.cpp's converter writes it: attention and embedding in Q8_0, the rest in F32."""
    model = load_student(StudentConfig(model=str(folder), device="cpu")).model
    config, words = model.config, json.loads((folder / "tokenizer.json").read_text())
    vocabulary = {**words["model"]["vocab"], **{one["content"]: one["id"] for one in words["added_tokens"]}}
    special = {one["id"] for one in words["added_tokens"]}
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_name("Tiny Llama")
    writer.add_organization("The tests")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if vocabulary[token] in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in words["model"]["merges"]])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(vocabulary["<|eot_id|>"])
    writer.add_chat_template((folder / "chat_template.jinja").read_text())
    for key, value in extra.items():
        writer.add_uint32(key.replace("__", "."), value)
    for name, tensor in model.state_dict().items():
        weights = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:  # llama.cpp turns pairs of numbers by the position, not halves
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            weights = weights.reshape(heads, 2, -1, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape)
        kind = gguf.GGMLQuantizationType.Q8_0 if "self_attn" in name or "embed" in name else None
        for ours, theirs in _NAMES.items():
            name = name.replace(ours, theirs)
        stored = weights if kind is None else gguf.quantize(weights, kind)
        writer.add_tensor(name, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture(scope="module")
def file(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(folder, tmp_path_factory.mktemp("gguf") / "tiny.Q8_0.gguf")


def settings(source: Path) -> StudentConfig:
    return StudentConfig(model=str(source), device="cpu")


def test_a_gguf_answers_like_the_folder_that_it_was_made_from(file: Path, folder: Path) -> None:
    student, original = load_student(settings(file)), load_student(settings(folder))
    text = "<|start_header_id|>user<|end_header_id|>\n\nSex female, age 3 years."
    ids = student.tokenizer(text, return_tensors="pt").input_ids
    assert ids.tolist() == original.tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids.tolist()
    assert student.tokenizer.chat_template == original.tokenizer.chat_template
    with torch.no_grad():
        mine, theirs = (one.model(ids).logits.log_softmax(-1) for one in (student, original))
    assert student.model.dtype == torch.float32
    assert 0 < (mine - theirs).abs().max() < 0.1  # eight bits, unpacked
    assert not getattr(student.model, "is_quantized", False)
    assert student.model.name_or_path == str(file)


def test_what_lies_beside_a_gguf_is_not_taken_for_its_own(file: Path, folder: Path, tmp_path: Path) -> None:
    own = load_outline(settings(file)).tokenizer
    beside = tmp_path / "tiny.gguf"
    beside.write_bytes(file.read_bytes())
    for name in ("chat_template.jinja", "generation_config.json", "tokenizer_config.json", "tokenizer.json"):
        (tmp_path / name).write_text((folder / name).read_text().replace("<|eot_id|>", "<|eom_id|>"))
    student = load_outline(settings(beside))
    assert student.tokenizer.chat_template == own.chat_template
    assert student.tokenizer.eos_token_id == own.eos_token_id
    assert student.source == str(beside)


def test_a_folder_with_one_gguf_is_that_file_and_an_outline_reads_no_weights(file: Path) -> None:
    outline = load_outline(settings(file.parent))
    assert next(outline.model.parameters()).device.type == "meta"
    found = find_gguf(str(file.parent))
    assert found is not None
    assert found.numbers == sum(one.numel() for one in outline.model.parameters())
    assert found.record() == {
        "file": "tiny.Q8_0.gguf",
        "architecture": "llama",
        "quantised_from": {"name": "Tiny Llama", "organisation": "The tests"},
        "stored_as": {"Q8_0": 9, "F32": 12},
    }


def test_a_run_and_its_adapter_say_what_the_student_was_quantised_from(
    install_plugin, mint, file: Path, tmp_path: Path
) -> None:
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    aligner = {"name": "orpo", "epochs": 1, "warmup": 0, "lora_rank": 2, "batch_size": 8}
    config = {"task": "toy", "student": str(file), "out": str(tmp_path / "runs"), "name": "t", "aligner": aligner}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    said = mint("align", "--config", tmp_path / "c.yaml")
    assert said.code == 0, said.err
    assert "9 tensors Q8_0" in said.err
    assert "unpacked to float32" in said.err
    run = tmp_path / "runs" / "t"
    assert json.loads((run / "run.json").read_text())["student"]["gguf"]["stored_as"] == {"Q8_0": 9, "F32": 12}
    assert json.loads((run / "adapter" / "mint.json").read_text())["student"]["gguf"]["quantised_from"] == {
        "name": "Tiny Llama",
        "organisation": "The tests",
    }
    assert "tiny.Q8_0.gguf, a GGUF file" in (run / "adapter" / "README.md").read_text()
    named = json.loads((run / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(file)
    said = mint("export", run, "--to", "merged", "--out", tmp_path / "merged")
    assert said.code == 0, said.err
    assert "quantization_config" not in json.loads((tmp_path / "merged" / "config.json").read_text())
    merged = load_student(StudentConfig(model=str(tmp_path / "merged"), device="cpu"))
    assert "tiny.Q8_0.gguf, a GGUF file" in (tmp_path / "merged" / "README.md").read_text()
    assert merged.model.dtype == torch.float32
    recipe = mint("export", run, "--to", "vllm", "--out", tmp_path / "vllm").out
    assert "does not read this student's GGUF file" in recipe and "--enable-lora" not in recipe


def _cut(content: bytes, file: Path, folder: Path) -> None:
    file.write_bytes(content[:-1000])


def _cut_in_its_header(content: bytes, file: Path, folder: Path) -> None:
    file.write_bytes(content[:900])


def _no_gguf(content: bytes, file: Path, folder: Path) -> None:
    file.write_text("I am a text.")


def _empty(content: bytes, file: Path, folder: Path) -> None:
    file.write_bytes(b"")


def _endless(content: bytes, file: Path, folder: Path) -> None:
    file.write_bytes(content[:16] + struct.pack("<Q", 2**60) + content[24:])


def _another_version(content: bytes, file: Path, folder: Path) -> None:
    file.write_bytes(content[:4] + struct.pack("<I", 1) + content[8:])


def _another_architecture(content: bytes, file: Path, folder: Path) -> None:
    write_gguf(folder, file, "clip")


def _part(content: bytes, file: Path, folder: Path) -> None:
    write_gguf(folder, file, split__count=3)


def _too_many_layers(content: bytes, file: Path, folder: Path) -> None:
    write_gguf(folder, file, clip__block_count=10**6)


def _two(content: bytes, file: Path, folder: Path) -> None:
    file.write_bytes(content)
    file.with_name("b.gguf").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_cut, "is cut short"),
        (_cut_in_its_header, "cut short"),
        (_no_gguf, "is no GGUF file"),
        (_empty, "is no GGUF file"),
        (_endless, "copy it again"),
        (_another_version, "GGUF version 1"),
        (_another_architecture, "architecture 'clip', which transformers"),
        (_part, "one of 3 parts"),
        (_too_many_layers, "`clip.block_count` in its header is larger"),
        (_two, "holds 2 GGUF files"),
    ],
)
def test_what_is_no_whole_gguf_is_refused_in_one_sentence(damage, told, file: Path, folder: Path, tmp_path) -> None:
    bad = tmp_path / "a.gguf"
    damage(file.read_bytes(), bad, folder)
    with pytest.raises(ModelError, match=told) as error:
        load_outline(settings(bad.parent if damage is _two else bad))
    assert error.value.exit_code == 6
    assert str(error.value).count(". ") == 0


def test_a_gguf_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"a\.gguf does not exist"):
        load_student(settings(tmp_path / "a.gguf"))
