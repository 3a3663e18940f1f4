"""Config: layers, overrides, errors that say what to do, and a dump that makes the same run."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mint_core.comparison.rows import aligner_rows
from mint_core.config import configured, merge, parse_override, read_config, resolve
from mint_core.errors import ConfigError
from mint_core.plugins import registry
from mint_core.students.load import resolve_device


def test_later_layers_win_and_short_forms_keep_options() -> None:
    merged = merge({"teacher": {"name": "plip", "head": "probe"}}, {"teacher": "plip"}, {"student": {"dtype": "bf16"}})
    assert merged == {"teacher": {"name": "plip", "head": "probe"}, "student": {"dtype": "bf16"}}


def test_another_component_drops_the_options_of_the_first() -> None:
    assert merge({"teacher": {"name": "plip", "head": "probe"}}, {"teacher": "other"}) == {"teacher": {"name": "other"}}


def test_an_option_that_is_called_like_a_section_stays_what_it_is() -> None:
    """`student` and `task` are short forms at the top of a config only."""
    merged = merge({"teacher": {"name": "t", "student": "a", "task": "b"}}, {"teacher": {"student": "c"}})
    assert merged == {"teacher": {"name": "t", "student": "c", "task": "b"}}
    nested = merge({"aligner": {"name": "a", "warm": {"name": "x", "steps": 3}}}, {"aligner": {"warm": {"name": "y"}}})
    assert nested["aligner"]["warm"] == {"name": "y", "steps": 3}


def test_what_belongs_to_one_model_goes_with_it() -> None:
    first = {
        "student": {"model": "a", "revision": "r", "dtype": "bf16"},
        "teacher": {"name": "plip", "pretrained": "p"},
    }
    assert merge(first, {"student": "b"})["student"] == {"model": "b", "dtype": "bf16"}
    assert merge(first, {"student": "a"})["student"] == first["student"]
    assert merge(first, {"teacher": {"model": "x"}})["teacher"] == {"name": "plip", "pretrained": "p", "model": "x"}
    named = merge({"teacher": {**first["teacher"], "model": "w"}}, {"teacher": {"model": "x"}})
    assert named["teacher"] == {"name": "plip", "model": "x"}


def test_files_count_by_content_and_what_changes_no_result_not_at_all(install_plugin, tmp_path: Path) -> None:
    install_plugin("mint-weights", "weights_under_test", WEIGHTS)
    file = tmp_path / "weights.bin"
    file.write_text("one")

    def identity(**options):
        return configured("teacher", {"name": "weights", "file": str(file), **options}, registry()).identity()

    first = identity()
    assert identity(threads=7) == first
    assert identity(scale=2.0) != first
    moved = tmp_path / "moved.bin"
    moved.write_text("one")
    assert identity(file=str(moved)) == first
    assert identity(more=[str(moved)]) != first
    file.write_text("two")
    assert identity() != first
    file.unlink()
    with pytest.raises(ConfigError, match=r"teacher\.file: .* does not exist"):
        identity()


WEIGHTS = """
from pathlib import Path
from typing import ClassVar
from pydantic import Field
from mint_core.plugin import ComponentConfig, Teacher, hookimpl

class WeightsConfig(ComponentConfig):
    neutral: ClassVar[frozenset[str]] = frozenset({"threads"})
    file: Path = Field(description="Weights.")
    more: tuple[Path, ...] = Field((), description="Further files.")
    threads: int = Field(1, description="Threads.")
    scale: float = Field(1.0, description="Scale.")

class Weights(Teacher):
    name = "weights"
    Config = WeightsConfig

    def log_probs(self, samples):
        raise NotImplementedError

@hookimpl
def mint_teachers():
    return [Weights]
"""


def test_an_adapter_counts_without_its_card(tmp_path: Path) -> None:
    """`mint preserve` and `mint evaluate` write the card anew; what begins from the adapter stays as it is."""
    adapter, texts = tmp_path / "adapter", tmp_path / "texts"
    for folder in (adapter, texts):
        folder.mkdir()
        (folder / "README.md").write_text("One.")
    (adapter / "adapter_config.json").write_text("{}")

    def identities() -> list:
        return [
            configured("aligner", {"name": "dpo", "sft_adapter": str(folder)}, registry()).identity()
            for folder in (adapter, texts)
        ]

    before = identities()
    for folder in (adapter, texts):
        (folder / "README.md").write_text("Two.")
    after = identities()
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)
    (adapter / "adapter_config.json").write_text('{"r": 2}')
    assert identities()[0] != before[0]


def test_overrides_are_read_as_yaml() -> None:
    assert parse_override("aligner.epochs=3") == {"aligner": {"epochs": 3}}
    assert parse_override("task.data=null") == {"task": {"data": None}}
    with pytest.raises(ConfigError, match=r"a\.b=c"):
        parse_override("aligner.epochs")


def test_the_task_follows_from_the_teacher_and_the_other_way_round() -> None:
    by_teacher = resolve({"teacher": "plip"}, registry())
    by_task = resolve({"task": "tissue-type"}, registry())
    assert by_teacher.dump() == by_task.dump()
    assert by_teacher.task.registered.component.name == "tissue-type"


def test_the_dump_resolves_to_itself() -> None:
    first = resolve({"teacher": "plip", "seed": 3, "aligner": {"name": "orpo", "weight": 0.5}}, registry())
    again = resolve(json.loads(json.dumps(first.dump())), registry())
    assert again.dump() == first.dump()


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        ({"teacher": "plib"}, "did you mean 'plip'"),
        ({"aligner": "oprpo"}, "did you mean 'orpo'"),
        ({"metrics": ["hfaa"]}, "did you mean 'hfa'"),
        ({"strategy": "listwize"}, "did you mean 'listwise'"),
        ({"studnet": {"model": "x"}}, "did you mean 'student'"),
        ({"aligner": {"name": "orpo", "learnin_rate": 1}}, "did you mean 'learning_rate'"),
        ({"student": {"dtyp": "bf16"}}, "did you mean 'dtype'"),
        ({"predict": {"batchsize": 3}}, "did you mean 'batch_size'"),
        ({"aligner": {"name": "orpo", "learning_rate": -1}}, "learning_rate: Input should be greater than 0"),
        ({"aligner": {"name": "orpo", "preset": "neurips"}}, "'icml', 'arxiv' or 'scripts'"),
        ({"metrics": []}, "at least one metric"),
        ({"compare": []}, "`mint compare`"),
        ({"strategy": None}, "leave the key out"),
        ({"aligner": ["orpo"]}, "leave the key out"),
        ({"name": "../up"}, "letters, digits, '.', '_' and '-', the first one a letter or a digit"),
        ({"teacher": "GESTLT"}, "did you mean 'gestalt'"),
        ({"aligner": "sft,orpo"}, "A run has one aligner, not several; `mint compare --aligners sft,orpo`"),
        ({"aligner": "sft, orpo"}, "`mint compare --aligners sft,orpo`"),
        ({"aligner": ["sft", "orpo"]}, "`mint compare --aligners sft,orpo`"),
        (
            {"teacher": "plip,gestalt"},
            "A run has one teacher, not several; `mint compare --row NAME=ALIGNER:teacher.name",
        ),
        ({"task": {"name": "tissue-type", "source": "folders"}}, "did you mean 'folder'"),
        ({"task": {"name": "tissue-type", "source": "folder"}}, "--data"),
    ],
)
def test_mistakes_get_one_sentence(user: dict, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve({"teacher": "plip", **user}, registry())
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert "[A-Z" not in str(error.value)  # nobody reads a regular expression


def test_names_of_all_kinds_are_found_in_any_case_with_hyphens_or_underscores(tmp_path: Path) -> None:
    plain = {
        "task": "rare-disease", "teacher": "gestalt", "strategy": "near-miss", "aligner": "mult-dpo",
        "metrics": ["top-n", {"name": "top-1"}], "retriever": "hpo",
    }  # fmt: skip
    odd = {
        "task": "Rare_Disease", "teacher": {"name": "GESTALT"}, "strategy": "NEAR_miss", "aligner": "Mult_DPO",
        "retriever": "HPO", "metrics": ["TOP_N", {"name": "Top_1"}],
    }  # fmt: skip
    assert resolve(odd, registry()).dump() == resolve(plain, registry()).dump()
    (tmp_path / "c.yaml").write_text("teacher: {name: PLIP, head: probe}\naligner: ORPO\n")
    layer = merge(read_config(tmp_path / "c.yaml"), {"teacher": "plip", "aligner": {"name": "Orpo", "weight": 0.5}})
    assert layer["teacher"] == {"name": "plip", "head": "probe"}  # the same teacher keeps its options
    assert layer["aligner"] == {"name": "orpo", "weight": 0.5}
    assert merge({"aligner": "NONE"})["aligner"] is None
    assert [row.name for row in aligner_rows(["BASE", "Trl_ORPO"], {})] == ["base", "trl-orpo"]
    assert registry().get("metric", "HFA").component.name == "hfa"


def test_flags_win_over_set_wins_over_file(tmp_path: Path, mint) -> None:
    file = tmp_path / "mint.yaml"
    file.write_text("teacher: plip\nseed: 1\naligner: {name: orpo, weight: 0.3, epochs: 2}\n")
    answer = mint(
        "config", "show", "--resolved", "-c", file, "--set", "seed=2", "--set", "aligner.epochs=7", "--seed", 5
    )
    shown = yaml.safe_load(answer.out)
    assert answer.code == 0
    assert (shown["seed"], shown["aligner"]["epochs"], shown["aligner"]["weight"]) == (5, 7, 0.3)
    again = tmp_path / "again.yaml"
    again.write_text(answer.out)
    assert mint("config", "show", "--resolved", "-c", again).out == answer.out


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("a: [", "not valid"), ("- a", "mapping"), (None, "cannot be read"), ("sed: 3", "did you mean 'seed'")],
)
def test_bad_files_get_one_sentence(tmp_path: Path, mint, content: str | None, sentence: str) -> None:
    file = tmp_path / "bad.yaml"
    if content is not None:
        file.write_text(content)
    answer = mint("config", "show", "-c", file)
    assert (answer.code, answer.out) == (2, "")
    assert sentence in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_help_is_fast_and_free_of_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom mint_core.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'pydantic', 'numpy', 'transformers'} & set(sys.modules)"
    )
    begin = time.perf_counter()
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "Exit codes" in answer.stdout
    assert time.perf_counter() - begin < 30  # a hang, not a speed


def test_another_model_drops_what_belongs_to_the_old_one() -> None:
    old = {"student": {"model": "a/b", "revision": "v1", "trust_remote_code": True, "dtype": "bf16"}}
    assert merge(old, {"student": "c/d"})["student"] == {"model": "c/d", "dtype": "bf16"}
    assert merge(old, {"student": {"model": "c/d", "revision": "v2"}})["student"]["revision"] == "v2"
    assert merge(old, {"student": "a/b"}) == old
    assert merge(old, {"student": {"dtype": "fp32"}})["student"]["revision"] == "v1"
    teacher = {"teacher": {"name": "plip", "model": "ViT-B-32", "pretrained": "laion", "head": "probe"}}
    assert merge(teacher, {"teacher": {"model": "vinid/plip"}})["teacher"] == {
        "name": "plip", "model": "vinid/plip", "head": "probe",
    }  # fmt: skip


def test_no_aligner_is_none_or_null_everywhere() -> None:
    for none in (None, "none", {"name": "none"}):
        resolved = resolve({"teacher": "plip", "aligner": none}, registry())
        assert resolved.aligner is None
        assert resolve(resolved.dump(), registry()).dump() == resolved.dump()
    assert merge({"aligner": {"name": "orpo", "epochs": 3}}, {"aligner": "none"}, {"aligner": "orpo"}) == {
        "aligner": {"name": "orpo"}
    }


def test_the_embedded_student_s_needs_reach_every_aligner(install_plugin) -> None:
    """Another aligner than the one that the task names gets the options that it shares with it."""
    install_plugin("mint-other", "other_aligner", OTHER_ALIGNER)
    named = resolve({"teacher": "plip"}, registry()).aligner
    other = resolve({"teacher": "plip", "aligner": "other"}, registry()).aligner
    assert named is not None and other is not None
    assert other.config.epochs == named.config.epochs
    assert other.config.learning_rate == named.config.learning_rate
    assert (
        resolve({"teacher": "plip", "aligner": {"name": "other", "epochs": 9}}, registry()).aligner.config.epochs == 9
    )


def test_the_embedded_student_s_own_options_of_one_aligner_reach_only_that_one(monkeypatch) -> None:
    task = registry().get("task", "tissue-type").component
    plain = task().embedded_student()
    monkeypatch.setattr(task, "embedded_student", lambda _: replace(plain, aligners={"dpo": {"learning_rate": 1e-5}}))
    dpo, sft = (resolve({"teacher": "plip", "aligner": name}, registry()).aligner for name in ("dpo", "sft"))
    assert dpo.config.learning_rate == 1e-5
    assert dpo.config.lora_rank == sft.config.lora_rank == plain.overrides["aligner"]["lora_rank"]
    assert sft.config.learning_rate == plain.overrides["aligner"]["learning_rate"]
    own = resolve({"teacher": "plip", "aligner": {"name": "dpo", "learning_rate": 2e-5}}, registry()).aligner
    assert own.config.learning_rate == 2e-5


OTHER_ALIGNER = """
from mint_core import hookimpl
from mint_core.interfaces import Aligner, ComponentConfig
from pydantic import Field

class OtherConfig(ComponentConfig):
    epochs: float | None = Field(None, description="Passes.")
    learning_rate: float | None = Field(None, description="Rate.")

class Other(Aligner):
    name = "other"
    Config = OtherConfig

    def align(self, job):
        raise NotImplementedError

@hookimpl
def mint_aligners():
    return [Other]
"""


def test_help_names_debug(mint) -> None:
    assert "--debug" in mint("--help").out


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("gpu", "write cuda."), ("GPU", "write cuda."), ("gpu:1", "write cuda:1."), ("CUDA", "write cuda."),
        ("cuda0", "write cuda:0."), ("nvidia", "write cuda."), ("1", "write cuda:1."), ("Metal", "write mps."),
        ("CPU", "write cpu."), ("tpuu", "write auto, cpu, cuda, cuda:1 or mps."),
    ],
)  # fmt: skip
def test_an_unknown_device_is_told_what_to_write(name: str, advice: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve_device(name)
    assert f"There is no device '{name}'; {advice}" in str(error.value)
    assert "privateuseone" not in str(error.value)


@pytest.mark.parametrize("command", [[], ["config"]])
def test_a_command_without_anything_prints_its_help_and_is_no_error(mint, command: list[str]) -> None:
    answer = mint(*command)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == mint(*command, "--help").out
