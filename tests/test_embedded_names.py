"""`student: embedded` and `embedded:TASK`: whose small student is meant."""

from pathlib import Path

import pytest

from mint_core.config import embedded_student, is_embedded, resolve
from mint_core.errors import ConfigError
from mint_core.plugins import registry

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")


@pytest.fixture
def toy(install_plugin):
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    return registry().get("task", "toy").make()


def test_a_task_borrows_the_student_of_another_with_what_it_needs(toy) -> None:
    own = registry().get("task", "rare-disease").make().embedded_student()
    borrowed = embedded_student("embedded:rare-disease", toy, registry())
    assert borrowed.path == own.path
    assert own.overrides["task"] == {"train_prompt": "full"}  # the toy has no such option
    assert borrowed.overrides == {**own.overrides, "task": {}}
    found = resolve({"task": "toy", "student": "embedded:rare-disease"}, registry())
    assert found.aligner.config.learning_rate == own.overrides["aligner"]["learning_rate"]


def test_no_name_means_the_tasks_own(toy) -> None:
    assert embedded_student("embedded", toy, registry()) is None
    assert embedded_student("embedded:toy", toy, registry()) is None
    assert embedded_student("some/embedded", toy, registry()) is None
    assert [is_embedded(name) for name in ("embedded", "embedded:x", "embedded-x", "x/embedded")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_task_that_is_not_there_is_named(toy, mint) -> None:
    with pytest.raises(ConfigError, match=r"'rare-diseases'.*did you mean 'rare-disease'"):
        embedded_student("embedded:rare-diseases", toy, registry())
    refused = mint("run", "--task", "toy", "--student", "embedded:toy")
    assert refused.code == 2
    assert "borrow another task's with --student embedded:TASK" in refused.err


def test_a_run_and_its_adapter_use_the_borrowed_student(toy, mint, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("--set", "task.count=6", "--set", "aligner.validate_samples=0")
    ran = mint("align", "--task", "toy", "--student", "embedded:rare-disease", "--name", "b", "--quick", *small)
    assert ran.code == 0, ran.err
    assert "Student: a Llama of 1.9 M parameters" in ran.err
    (tmp_path / "notes.jsonl").write_text('{"id": "a", "text": "a note"}\n')
    told = mint("predict", "--adapter", "runs/b/adapter", "--input", "notes.jsonl", "--set", "predict.decode=free")
    assert told.code == 0, told.err
