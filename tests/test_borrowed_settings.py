"""What a student brings along beside its weights changes no greedy answer, or is told before hours of work."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import mint_core
from mint_core.answering.generate import generate, stop_tokens
from mint_core.answering.record import read_record
from mint_core.config import StudentConfig
from mint_core.errors import ConfigError, DataError, ModelError
from mint_core.stages.align import Align
from mint_core.stages.label import Label
from mint_core.students.encoding import StudentCounter, encode_prompt, encode_response
from mint_core.students.load import load_outline, load_student
from mint_core.students.prompts import parse_response, render_prompt, write_response
from mint_core.types import Message, Prompt
from tests.tiny_students import HEADER, LABELS, QWEN_TEMPLATE, build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
PROMPTS = {f"s{i}": Prompt((Message("system", "Keep."), Message("user", "Name it. " * i))) for i in (1, 2, 3)}


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("qwen2", tmp_path_factory.mktemp("borrowed") / "qwen2")


@pytest.fixture
def folder(qwen: Path, tmp_path: Path) -> Path:
    return shutil.copytree(qwen, tmp_path / "student")


def load(folder: Path, **options: Any):
    return load_student(StudentConfig(model=str(folder), device="cpu", **options))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def answers(student) -> dict[str, str]:
    return dict(generate(student, PROMPTS, max_new_tokens=10, batch_size=3))


# --- the generation config

BORROWED: dict[str, dict[str, Any]] = {
    "stop strings": {"stop_strings": ["a", "e", " "]},
    "sampling": {"do_sample": True, "temperature": 5.0, "top_k": 3, "top_p": 0.2, "min_p": 0.3, "typical_p": 0.5},
    "beams": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "length_penalty": 3.0},
    "several answers": {"num_return_sequences": 3, "do_sample": True},
    "a repetition penalty": {"repetition_penalty": 5.0, "encoder_repetition_penalty": 2.0},
    "no repeated words": {"no_repeat_ngram_size": 1, "encoder_no_repeat_ngram_size": 1},
    "suppressed tokens": {"suppress_tokens": list(range(50, 400)), "begin_suppress_tokens": list(range(50, 300))},
    "bad words": {"bad_words_ids": [[i] for i in range(60, 300)]},
    "a bias": {"sequence_bias": [[[70], 50.0]]},
    "a forced first token": {"forced_bos_token_id": 70},
    "a forced last token": {"forced_eos_token_id": 70},
    "a shortest length": {"min_length": 500, "min_new_tokens": 400},
    "a longest length": {"max_length": 3, "max_new_tokens": 2},
    "a longest time": {"max_time": 1e-9},
    "a watermark": {"watermarking_config": {"greenlist_ratio": 0.1, "bias": 50.0}},
    "guidance": {"guidance_scale": 3.0},
    "a decay": {"exponential_decay_length_penalty": [1, 5.0]},
    "contrast": {"penalty_alpha": 0.6, "top_k": 4},
    "layers": {"dola_layers": "low"},
    "a cache": {"cache_implementation": "static"},
    "no cache": {"use_cache": False},
    "lookup": {"prompt_lookup_num_tokens": 3},
    "an assistant": {"num_assistant_tokens": 9, "assistant_early_exit": 1},
    "more than the text": {"output_scores": True, "output_attentions": True, "return_dict_in_generate": True},
    "a renormalisation": {"renormalize_logits": True, "remove_invalid_values": True},
    "other token ids": {"pad_token_id": 3, "bos_token_id": 5, "decoder_start_token_id": 4},
    "something that nobody knows": {"magic": {"x": 1}},
}


@pytest.fixture(scope="module")
def plain(qwen: Path) -> dict[str, str]:
    return answers(load(qwen))


@pytest.mark.parametrize("kind", BORROWED)
def test_a_generation_config_changes_no_answer(folder: Path, plain: dict[str, str], kind: str) -> None:
    edit(folder / "generation_config.json", **BORROWED[kind])
    student = load(folder)
    assert answers(student) == plain
    kept = {key for key, value in student.model.generation_config.to_diff_dict().items() if value is not None}
    assert kept <= {"bos_token_id", "eos_token_id", "pad_token_id", "transformers_version"}


def test_settings_in_the_config_of_the_model_change_none_either(folder: Path, plain: dict[str, str]) -> None:
    """Old models keep them there, and transformers refuses them when they are asked."""
    edit(
        folder / "config.json", num_beams=3, repetition_penalty=4.0, do_sample=True, max_length=4, suppress_tokens=[70]
    )
    assert answers(load(folder)) == plain


def test_tokens_that_end_an_answer_stay(folder: Path) -> None:
    student = load(folder)
    stops = stop_tokens(student, "<|im_end|>")
    assert {student.tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")} <= set(stops)
    outline = load_outline(StudentConfig(model=str(folder), device="cpu"))
    assert stop_tokens(outline, "<|im_end|>") == stops
    edit(folder / "generation_config.json", eos_token_id=[70, 71, 10**6])
    assert {70, 71} <= set(stop_tokens(load(folder), "<|im_end|>"))
    assert 10**6 not in stop_tokens(load(folder), "<|im_end|>")


@pytest.mark.parametrize("value", ["<|im_end|>", 1.5, [None], {"a": 1}, [[70]], True])
def test_an_end_that_is_no_token_id_is_refused(folder: Path, value: Any) -> None:
    edit(folder / "generation_config.json", eos_token_id=value)
    with pytest.raises(ModelError):
        load(folder)


# --- tokens that the embedding does not hold


def test_a_padding_token_outside_the_embedding_is_replaced(folder: Path, plain: dict[str, str]) -> None:
    """Added to the tokenizer, and the embedding was never made larger; padding is never looked at."""
    student = load(folder)
    student.tokenizer.add_tokens([f"<extra_{i}>" for i in range(9)])
    student.tokenizer.add_special_tokens({"pad_token": "<padding>"})
    student.tokenizer.save_pretrained(folder)
    student = load(folder)
    assert 0 <= student.tokenizer.pad_token_id < student.model.get_input_embeddings().num_embeddings
    assert answers(student) == plain


def test_text_that_the_embedding_does_not_hold_is_one_sentence(folder: Path) -> None:
    student = load(folder)
    student.tokenizer.add_tokens([f"organ{i}" for i in range(9)])
    student.tokenizer.save_pretrained(folder)
    student = load(folder)
    rows = student.model.get_input_embeddings().num_embeddings
    assert len(student.tokenizer) > rows
    assert answers(student)  # nobody asks for them
    with pytest.raises(ModelError, match=rf"holds {rows}: the two do not belong together"):
        encode_prompt(student, "p", Prompt((Message("user", "An organ8."),)))
    with pytest.raises(ModelError, match="an answer with token"):
        encode_response(student, "1. organ8", "")


def without_an_end(folder: Path, *, declared: list[int] | None) -> None:
    edit(folder / "tokenizer_config.json", eos_token=None)
    for file in ("config.json", "generation_config.json"):
        edit(folder / file, eos_token_id=declared)
    (folder / "special_tokens_map.json").unlink(missing_ok=True)


def test_an_end_that_only_the_generation_config_names_is_used(folder: Path) -> None:
    end = load(folder).tokenizer.eos_token_id
    without_an_end(folder, declared=[end])
    assert load(folder).tokenizer.eos_token_id == end


def test_a_student_that_cannot_end_is_refused(folder: Path) -> None:
    without_an_end(folder, declared=None)
    with pytest.raises(ModelError, match="has no token that ends an answer"):
        load(folder)


# --- what the template writes before an answer

THOUGHT = "<think>\n\n</think>\n\n"
# Qwen 3: an empty thought before every answer; asked for one, it writes it only where thinking is turned off.
THINKING = QWEN_TEMPLATE.replace(
    "{{ '<|im_start|>' + m['role'] + '\n' }}",
    "{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}",
).replace(
    "{{ '<|im_start|>assistant\n' }}",
    "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}",
)


@pytest.fixture
def thinking(folder: Path) -> Path:
    assert THINKING.count("<think>") == 2
    (folder / "chat_template.jinja").write_text(THINKING)
    return folder


@pytest.mark.parametrize("options", [{}, {"chat_template_kwargs": {"enable_thinking": False}}])
def test_the_prompt_is_all_that_stands_before_an_answer(thinking: Path, options: dict[str, Any]) -> None:
    student = load(thinking, **options)
    made = render_prompt(PROMPTS["s1"], student.processor, parts=False)
    assert made.text.endswith(f"<|im_start|>assistant\n{THOUGHT}")
    assert made.text.count("<think>") == 1
    assert made.end_of_turn == "<|im_end|>"
    encoded = encode_prompt(student, "p", PROMPTS["s1"])
    assert student.tokenizer.decode(encoded.tensors["input_ids"][0]) == made.text
    assert encoded.tensors["attention_mask"].shape == encoded.tensors["input_ids"].shape
    assert StudentCounter(student).prompt(PROMPTS["s1"]) == encoded.length


def test_thinking_can_stay_on(thinking: Path) -> None:
    (thinking / "chat_template.jinja").write_text(THINKING.replace(" and enable_thinking is false", ""))
    student = load(thinking, chat_template_kwargs={"enable_thinking": True})
    assert render_prompt(PROMPTS["s1"], student.processor, parts=False).text.count("<think>") == 1


def test_a_perfect_answer_to_such_a_prompt_is_well_formed(thinking: Path) -> None:
    """The whole turn as the template writes it is prompt and answer, with nothing between them."""
    student = load(thinking)
    made = render_prompt(PROMPTS["s1"], student.processor, parts=False)
    text = write_response(HEADER, LABELS[:2])
    whole = student.processor.apply_chat_template([*made.turns, {"role": "assistant", "content": text}], tokenize=False)
    assert whole.startswith(made.text)
    assert parse_response(whole[len(made.text) :].partition("<|im_end|>")[0], HEADER).well_formed


def test_white_space_before_an_answer_stays_with_the_answer(students) -> None:
    student = students("llava")
    assert render_prompt(PROMPTS["s1"], student.processor, parts=True).text.endswith("ASSISTANT:")


def test_image_students_read_the_same_tokens(tmp_path: Path) -> None:
    folder = build("qwen2_5_vl", tmp_path / "vl")
    (folder / "chat_template.jinja").write_text(THINKING)
    student = load(folder)
    encoded = encode_prompt(student, "p", PROMPTS["s1"])
    assert student.tokenizer.decode(encoded.tensors["input_ids"][0]).endswith(THOUGHT)
    widths = {
        value.shape[1] for key, value in encoded.tensors.items() if key in ("attention_mask", "mm_token_type_ids")
    }
    assert widths == {encoded.length}


# --- the config


@pytest.fixture
def config(install_plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    return {
        "task": "toy", "student": {"model": str(tmp_path / "student"), "device": "cpu"}, "name": "t",
        "aligner": {"name": "sft", "epochs": 1, "warmup": 0, "lora_rank": 4}, "evaluate": {"bootstrap": 100},
    }  # fmt: skip


def test_what_is_set_in_the_template_is_recorded_and_decides(config: dict[str, Any], thinking: Path) -> None:
    set_off = {**config["student"], "chat_template_kwargs": {"enable_thinking": False}}
    made = mint_core.run({**config, "student": set_off}, until="align")
    assert json.loads((made.path / "run.json").read_text())["config"]["student"]["chat_template_kwargs"] == {
        "enable_thinking": False
    }
    assert read_record(made.path / "adapter").student.chat_template_kwargs == {"enable_thinking": False}
    other = mint_core.run(config, until="align", overwrite=True)
    assert "align" not in other.reused
    with pytest.raises(ConfigError, match="reads no `thinking`"):
        unread = {**config["student"], "chat_template_kwargs": {"thinking": 1}}
        mint_core.run({**config, "student": unread}, until="align", overwrite=True)
    assert thinking.exists()


# --- the probe


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages that were made."""
    made: list[str] = []
    for stage in (Label, Align):
        make = stage.make

        def counted(self, *arguments: Any, _make: Any = make) -> Any:
            made.append(self.name)
            return _make(self, *arguments)

        monkeypatch.setattr(stage, "make", counted)
    return made


def spoil(folder: Path, kind: str) -> None:
    if kind == "a tokenizer that is longer":
        student = load(folder)
        student.tokenizer.add_tokens([f" {label}" for label in LABELS])
        student.tokenizer.save_pretrained(folder)
    elif kind == "a tokenizer that loses numbers":
        student = load(folder)
        student.tokenizer.add_special_tokens({"additional_special_tokens": ["2."]})
        student.tokenizer.save_pretrained(folder)
    elif kind == "weights that are not finite":
        state = load_file(folder / "model.safetensors")
        state["model.layers.0.mlp.up_proj.weight"][3] = float("nan")
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    elif kind == "a template that refuses":
        (folder / "chat_template.jinja").write_text("{{ raise_exception('Not today') }}")
    elif kind == "no template":
        (folder / "chat_template.jinja").unlink()
        edit(folder / "tokenizer_config.json", chat_template=None)


@pytest.mark.parametrize(
    "kind",
    [
        "a tokenizer that is longer", "a tokenizer that loses numbers", "weights that are not finite",
        "a template that refuses", "no template",
    ],
)  # fmt: skip
def test_a_fault_is_found_before_the_first_stage(
    mint, config: dict[str, Any], folder: Path, stages: list[str], kind: str
) -> None:
    spoil(folder, kind)
    Path("c.json").write_text(json.dumps(config))
    answer = mint("run", "--config", "c.json")
    assert answer.code == 6, answer.err
    assert stages == []
    assert "SECRET-PATIENT-TEXT" not in answer.err
    assert "Unexpected" not in answer.err


def test_a_step_that_fails_is_told_without_the_librarys_words(
    mint, config: dict[str, Any], folder: Path, stages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Qwen2ForCausalLM

    def forward(self, *_: Any, **__: Any) -> None:
        raise IndexError("SECRET-PATIENT-TEXT")

    monkeypatch.setattr(Qwen2ForCausalLM, "forward", forward)
    Path("c.json").write_text(json.dumps(config))
    answer = mint("run", "--config", "c.json", "--until", "align")
    assert answer.code == 6, answer.err
    assert "cannot take a training step (IndexError)" in answer.err
    assert "SECRET" not in answer.err
    monkeypatch.undo()
    assert folder.exists()


def test_no_probe_where_nobody_needs_the_student(config: dict[str, Any], folder: Path, stages: list[str]) -> None:
    spoil(folder, "no template")
    mint_core.run(config, until="prefer")
    assert stages == ["label"]
    with pytest.raises(ModelError, match="has no chat template"):
        mint_core.run({**config, "aligner": "none", "seed": 1}, until="predict", overwrite=True)
    assert stages == ["label"]


def test_the_probe_is_left_out_where_the_stages_are_complete(
    config: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mint_core.runs import pipeline

    asked: list[dict[str, bool]] = []
    monkeypatch.setattr(pipeline, "probe", lambda run, **what: asked.append(what) or {})
    mint_core.run(config, until="label")
    mint_core.run(config, until="align")
    mint_core.run(config)
    assert asked == [{"trains": True, "answers": False}]  # `predict` itself is the next stage, and finds out at once
    mint_core.run({**config, "evaluate": {"bootstrap": 200}})
    assert len(asked) == 1
    mint_core.run({**config, "seed": 3}, overwrite=True)
    assert asked[1:] == [{"trains": True, "answers": True}]
    assert folder.exists()


@pytest.mark.parametrize("decode", ["constrained", "score"])
def test_the_probe_answers_as_the_run_will(
    config: dict[str, Any], folder: Path, decode: str, stages: list[str], monkeypatch
) -> None:
    from mint_core.answering import automaton, score

    def fail(*_: Any, **__: Any) -> None:
        raise DataError("found")

    monkeypatch.setattr(score, "candidates", fail)
    monkeypatch.setattr(automaton, "Automaton", fail)
    with pytest.raises(DataError, match="found"):
        mint_core.run({**config, "predict": {"decode": decode}})
    assert stages == []
    assert folder.exists()


def test_the_probe_leaves_chance_as_it_was(config: dict[str, Any], folder: Path) -> None:
    """The teacher of a run and a probe draw from one generator."""
    from mint_core.config import resolve
    from mint_core.observer import Observer
    from mint_core.plugins import registry
    from mint_core.stages.probe import probe
    from mint_core.stages.run import Run

    run = Run(resolve(config, registry()), Path("runs/t"), Observer(), Path("runs/.cache"))
    before = torch.random.get_rng_state()
    probe(run, trains=True, answers=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert folder.exists()
