"""Inputs without an end, a bottom or a sense are refused at once, in one sentence."""

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mint_core.config import parse_override, read_config
from mint_core.documents import DocumentError, parse_json, parse_yaml
from mint_core.errors import ConfigError, DataError, MintError, ModelError
from mint_core.files import UnreadableFile, check_regular, read_bytes, read_json, read_utf8
from mint_core.students.adapter_files import check_files
from mint_core.students.template_limits import check_template
from mint_core.tables import first_row, read_text, split_rows

posix = pytest.mark.skipif(os.name == "nt", reason="files of POSIX")
SPECIAL = ("pipe", "device", "folder", "socket")


@pytest.fixture(params=SPECIAL)
def special(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> Callable[[str], Path]:
    """Something that is no file, under the name that is asked for."""
    monkeypatch.chdir(tmp_path)  # the path of a socket is short

    def make(name: str) -> Path:
        path = Path(name)
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "device":
            path.symlink_to("/dev/zero")
        elif request.param == "folder":
            path.mkdir()
        else:
            with socket.socket(socket.AF_UNIX) as opened:
                opened.bind(name)
        return path

    return make


def _promptly(call: Callable[[], object], expected: type[BaseException]) -> str:
    """What a call says that must fail, and must not wait for anything."""
    said: list[BaseException | None] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            said.append(error)
        else:
            said.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert said, "it waits"
    assert isinstance(said[0], expected), said[0]
    return str(said[0])


@posix
def test_every_reader_refuses_what_is_no_file(special) -> None:
    from mint_core.tasks.labels import labels_given, read_labels
    from mint_core.tasks.rows import read_table as read_rows
    from mint_gestalt.vilt import read_dictionary, read_state
    from mint_plip.clip import _read_json
    from mint_rag.annotations import read_annotations
    from mint_rag.reading import read
    from mint_rag.synonyms import read_synonyms

    readers: list[tuple[str, Callable[[Path], object], type[BaseException]]] = [
        ("a.yaml", read_config, ConfigError),
        ("a.json", read_config, ConfigError),
        ("b.json", read_json, UnreadableFile),
        ("c", read_bytes, UnreadableFile),
        ("d.csv", lambda path: read_text(path, "Table"), DataError),
        ("e.csv", read_labels, DataError),
        ("f.json", read_dictionary, ModelError),
        ("g.bin", read_state, ModelError),
        ("h.json", _read_json, UnreadableFile),
        ("i.parquet", lambda path: read_rows(path, {}, {}), DataError),
        ("j.txt", labels_given, DataError),
        ("k.hpoa", read_annotations, DataError),
        ("l.obo", read_synonyms, DataError),
    ]
    for name, reader, expected in readers:
        path = special(name)
        said = _promptly(lambda path=path, reader=reader: reader(path), expected)
        assert name in said and "\n" not in said, said
    if special("m.jsonl").is_dir():
        return
    _promptly(lambda: read(Path("m.jsonl"), None, "fail"), DataError)


@posix
def test_commands_say_what_it_is(special, mint) -> None:
    path = special("config.yaml")
    answer = mint("config", "show", "--config", path)
    assert answer.code == 2
    assert "not a file" in answer.err and len(answer.err.splitlines()) == 1


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, mint) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as stream:
        stream.truncate(60 * 2**20)  # a hole: it takes no room
    begin = time.perf_counter()
    answer = mint("config", "show", "--config", path)
    assert (answer.code, "larger than 1 MiB" in answer.err) == (2, True), answer.err
    assert time.perf_counter() - begin < 20
    with path.open("wb") as stream:
        stream.truncate(2**30)
    with pytest.raises(DataError, match="larger than 512 MiB"):
        read_text(path, "Table")
    with pytest.raises(UnreadableFile):
        read_utf8(path, 2**29)
    check_regular(path)


YAMLS = {
    "deep lists": ("a: " + "[" * 5000 + "]" * 5000, "more than 50 levels"),
    "deep mappings": ("a: " + "{b: " * 5000 + "1" + "}" * 5000, "more than 50 levels"),
    "deep blocks": ("".join(" " * n + "a:\n" for n in range(1000)), "more than 50 levels"),
    "open lists": ("a: " + "[" * 100_000, "more than 50 levels"),
    "laughs": (
        "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)),
        "counting every use of an alias",
    ),
    "an alias of itself": ("a: &a [*a]", "inside of what it names"),
    "a mapping of itself": ("a: &a {b: *a}", "inside of what it names"),
    "many digits": ("seed: " + "9" * 1_000_000, "digits"),
    "negative digits": ("seed: -" + "9" * 1_000_000, "digits"),
    "hexadecimal digits": ("seed: 0x" + "f" * 1_000_000, "digits"),
    "sexagesimal": ("seed: 1" + ":59" * 300_000, "digits"),
    "no date": ("a: 2026-99-99", "date"),
    "a list as key": ("[1, 2]: 3", "key"),
    "a mapping as key": ("{a: 1}: 3", "key"),
    "a key twice": ("seed: 1\nname: x\nseed: 2", "'seed' stands in line 1 and in line 3"),
    "a key twice below": ("student:\n  model: a\n  dtype: fp32\n  model: b", "'model' stands in line 2 and in line 4"),
    "in braces": ("student: {model: a, model: b}", "'model' stands in line 1 and in line 1"),
    "in a list": ("metrics:\n- name: a\n  name: b", "'name' stands in line 2 and in line 3"),
    "one key in two spellings": ("'seed': 1\nseed: 2", "'seed' stands in line 1"),
    "the same number": ("a: {1: x, 0x1: y}", "'1' stands"),
    "merges twice": ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a", "'<<' stands"),
    "objects": ("a: !!python/object/apply:os.system [ls]", "not valid"),
    "two documents": ("a: 1\n---\nb: 2", "not valid"),
    "a tab": ("a:\n\t- b", "not valid"),
    "binary": ("a: \x00\x01", "not valid"),
}


@pytest.mark.parametrize("case", YAMLS)
def test_yaml_that_nobody_means_is_refused_with_its_place(case: str, tmp_path: Path) -> None:
    text, sentence = YAMLS[case]
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    begin = time.perf_counter()
    with pytest.raises(ConfigError, match=r"config\.yaml") as caught:
        read_config(path)
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 400
    assert time.perf_counter() - begin < 10


def test_yaml_that_people_write_is_read() -> None:
    text = "a: &a {x: 1, y: [1, 2]}\nb:\n  <<: *a\n  x: 2\nc: [*a, *a]\nd: 1e-4\ne: 2026-01-01\nf: 0x1f\n"
    content = parse_yaml(text)
    assert content["b"] == {"x": 2, "y": [1, 2]}
    assert content["c"] == [content["a"], content["a"]]
    assert content["f"] == 31
    assert parse_yaml("") is None
    deep = "[" * 40 + "]" * 40
    assert parse_yaml(deep) == parse_json(deep, strict=True)


@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 100_000, "{a: 1, a: 2}", "&a [*a]", "2026-99-99", "'"])
def test_values_on_the_command_line_too(value: str) -> None:
    with pytest.raises(ConfigError, match=r"--set seed=… cannot be read"):
        parse_override(f"seed={value}")


JSONS = {
    "deep lists": ("[" * 100_000 + "]" * 100_000, True),
    "open lists": ("[" * 100_000, True),
    "deep objects": ('{"a":' * 100_000 + "1" + "}" * 100_000, True),
    "many digits": ('{"a": ' + "9" * 1_000_000 + "}", True),
    "a key twice": ('{"seed": 1, "seed": 2}', False),
    "60 levels": ("[" * 60 + "]" * 60, False),
    "not a number": ('{"a": NaN}', False),
    "infinity": ('{"a": -Infinity}', False),
}


@pytest.mark.parametrize("case", JSONS)
def test_json_that_nobody_means_is_refused(case: str, tmp_path: Path) -> None:
    text, always = JSONS[case]
    with pytest.raises(DocumentError) as caught:
        parse_json(text, strict=True)
    assert len(str(caught.value)) < 150
    if always:
        with pytest.raises(DocumentError):
            parse_json(text)
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="cannot be used"):
        read_config(path)


def test_tables_without_end(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    tries = {
        "columns": ",".join(f"c{n}" for n in range(1_000_000)),
        "cells": "a,b\n" + "," * 1_000_000,
        "a field": "a,b\n" + "x" * 2_000_000 + ",1",
        "a quoted field": 'a,b\n"' + "x\n" * 1_000_000,
    }
    for name, text in tries.items():
        begin = time.perf_counter()
        with pytest.raises(DataError, match=r"t\.csv"):
            split_rows(path, text, "Table", ",")
        assert time.perf_counter() - begin < 10, name
    assert first_row("x" * 2_000_000, ",") == []
    assert first_row("a, b\n", ",") == ["a", "b"]
    assert first_row("", ",") == []


@pytest.mark.parametrize(
    "content",
    [
        "x" * 300_000 + ",label\n1,2\n",
        '"' + "x" * 300_000,
        ",".join(["c"] * 20_000) + "\n",
        "image,label\n" + "y" * 300_000,
    ],
    ids=["wide name", "open quote", "columns", "wide cell"],
)
def test_a_manifest_without_end_is_an_error_of_the_data(mint, tmp_path: Path, content: str, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "manifest.csv").write_text(content)
    given = ["--task", "tissue-type", "--source", "manifest", "--data", tmp_path / "manifest.csv", "--aligner", "none"]
    answer = mint("run", "--until", "label", *given)
    assert answer.code in (2, 4), answer.err
    assert "Unexpected" not in answer.err and len(answer.err.splitlines()[-1]) < 500


def test_ages_that_nobody_reaches() -> None:
    from mint_gestalt.sources.ages import from_duration, of_gestation

    for duration in ("P" + "9" * 400 + "Y", "P1e9Y", "P99999999M"):
        with pytest.raises(DataError):
            from_duration(duration)
    with pytest.raises(DataError):
        of_gestation(10**4000)
    assert from_duration("P4Y6M") == "4 years 6 months"


def test_errors_of_limits_are_errors_of_mint() -> None:
    assert issubclass(UnreadableFile, OSError) and issubclass(DocumentError, ValueError)
    assert not issubclass(DocumentError, MintError)


TEMPLATES = {
    "a loop": ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "to an end"),
    "a large text": ("{{ 'a' * 10**10 }}", "MiB"),
    "doubling": (
        "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}", "MiB",
    ),
    "a long prompt": ("{% for i in range(99999) %}{% for j in range(99) %}xxx{% endfor %}{% endfor %}", "writes more"),
    "a huge number": ("{{ (10 ** 9999) ** 99999 }}", "chat template"),
    "a long source": ("x" * 2_000_000, "longer than"),
    "on later turns": (
        "{% if messages[-1].role == 'assistant' %}{{ 'a' * 10**10 }}{% endif %}x", "MiB",
    ),
}  # fmt: skip


@posix
@pytest.mark.parametrize("case", TEMPLATES)
def test_a_chat_template_without_end_is_refused(case: str) -> None:
    template, sentence = TEMPLATES[case]
    with pytest.raises(ModelError, match="chat template") as caught:
        check_template(template)
    assert sentence in str(caught.value)


def test_chat_templates_that_come_to_an_end_are_left_to_their_student(folder: Path) -> None:
    from transformers import AutoTokenizer

    check_template(AutoTokenizer.from_pretrained(folder).chat_template)
    wordy = "{% for m in messages %}{% generation %}{{ m | tojson }}{% endgeneration %}{% break %}{% endfor %}"
    for template in (wordy, "{{ raise_exception('no') }}", "{{ unknown.name }}", "{% if", "{{ strftime_now('%d') }}"):
        check_template(template)


def test_a_student_with_such_a_template_is_refused_before_a_prompt(folder: Path, student) -> None:
    from mint_core.students.prompts import render_prompt
    from mint_core.types import Message, Prompt

    student.tokenizer.chat_template = TEMPLATES["a large text"][0]
    with pytest.raises(ModelError, match="chat template"):
        render_prompt(Prompt((Message("user", "a"),)), student.tokenizer, parts=False)


def test_a_students_folder_is_looked_at_first(folder: Path, tmp_path: Path) -> None:
    from mint_core.config import StudentConfig
    from mint_core.students.load import load_outline, load_student

    copy = tmp_path / "student"
    shutil.copytree(folder, copy)
    for name, content in {"config.json": "[" * 100_000, "generation_config.json": '{"a": ' + "9" * 10**6 + "}"}.items():
        before = (copy / name).read_bytes()
        (copy / name).write_text(content)
        for load in (load_student, load_outline):
            with pytest.raises(ModelError, match=name):
                load(StudentConfig(model=str(copy), device="cpu"))
        (copy / name).write_bytes(before)
    if os.name != "nt":
        os.mkfifo(copy / "chat_template.jinja2")
        _promptly(lambda: load_student(StudentConfig(model=str(copy), device="cpu")), ModelError)


PATTERNS = {
    "a regular expression": {"target_modules": "(a+)+$"},
    "one in a list": {"target_modules": ["(a|a)*b"]},
    "what is left out": {"exclude_modules": "(a+)+$"},
    "ranks": {"rank_pattern": {"(a+)+$": 4}},
    "scales": {"alpha_pattern": {"(.*)*x": 4}},
    "layers": {"layers_pattern": "(a+)+"},
    "numbers": {"target_modules": [1]},
    "a wrong type": {"target_modules": 7},
}


@pytest.mark.parametrize("case", PATTERNS)
def test_an_adapter_names_layers_and_holds_no_patterns(case: str, tmp_path: Path) -> None:
    content = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, **PATTERNS[case]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(content))
    save_file({"base_model.model.q_proj.lora_A.weight": torch.zeros(4, 8)}, tmp_path / "adapter_model.safetensors")
    (key,) = PATTERNS[case]
    assert key in _promptly(lambda: check_files(tmp_path), ModelError)


def test_servers_and_outputs_that_are_nested_without_end_are_no_bugs() -> None:
    from mint_core.answering.endpoint import TryAgain, _code, _content
    from mint_core.answering.formats import JsonLines

    for text in ("[" * 100_000, '{"a":' * 100_000, '{"error": ' + "9" * 10**6 + "}"):
        assert _code(text.encode()) == ""
        with pytest.raises(TryAgain):
            _content(text.encode())
        with pytest.raises(ValueError):
            JsonLines().read(text)


@posix
def test_packets_are_no_pipe(special) -> None:
    from collections import Counter

    from mint_gestalt.sources.options import RareDiseaseOptions
    from mint_gestalt.sources.phenopackets import read_new

    path = special("packets")
    _promptly(lambda: list(read_new(path, RareDiseaseOptions(), Counter())), DataError)


@pytest.mark.parametrize("content", ["[" * 100_000, "{"], ids=["deep", "cut"])
def test_the_config_of_an_adapter_that_cannot_be_read_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    save_file({"base_model.model.q_proj.lora_A.weight": torch.zeros(4, 8)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"adapter_config\.json"):
        check_files(tmp_path)
