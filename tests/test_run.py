"""Whole runs on a toy plugin and a tiny text student: stages, reuse, resumption, privacy, errors."""

import json
import os
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import ModelCard

import mint_core
from mint_core.config import resolve, with_whole_paths
from mint_core.errors import ConfigError, ContractError, DataError
from mint_core.files import digest_of_path, read_lines, write_line
from mint_core.plugins import registry
from mint_core.runs.folder import RunFolder
from mint_core.testing import RETRIEVER_CHECKS, TASK_CHECKS, TEACHER_CHECKS, teacher_context
from tests.tiny_students import build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
STAGES = ("label", "prefer", "align", "predict", "evaluate", "report")


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("llama", tmp_path_factory.mktemp("student") / "llama")


@pytest.fixture
def toy(install_plugin, tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch):
    """Options of a run on the toy, in an empty folder."""
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    return {
        "task": "toy",
        "student": {"model": str(student)},
        "out": str(tmp_path / "runs"),
        "name": "t",
        "aligner": {"name": "orpo", "epochs": 1, "warmup": 0, "lora_rank": 4, "save_steps": 2, "batch_size": 4},
        "evaluate": {"bootstrap": 200},
    }


def write(toy: dict) -> Path:
    """The toy's config as a file for the CLI."""
    config = Path(toy["out"]).parent / "mint.yaml"
    config.write_text(yaml.safe_dump(toy))
    return config


def test_the_toy_keeps_its_contracts(toy, tmp_path: Path) -> None:
    from mint_core.plugins import registry

    task = registry().get("task", "toy").component()
    for check in TASK_CHECKS:
        check(task)
    data = task.load()
    oracle = registry().get("teacher", "oracle").component
    teacher = oracle(oracle.Config(), teacher_context(data.labels, tmp_path))
    TEACHER_CHECKS[0](teacher, list(data.samples))
    with pytest.raises(AssertionError, match="teacher 3"):  # its noise is drawn by row, so it is caught
        noisy = oracle(oracle.Config(sharpness=0.0), teacher_context(data.labels, tmp_path))
        TEACHER_CHECKS[2](noisy, list(data.samples))
    for retriever_check in RETRIEVER_CHECKS:
        retriever_check(registry().get("retriever", "echo").component(), list(data.samples), data.labels)


def test_a_run_makes_what_the_design_names_and_the_second_one_nothing(toy, capfd) -> None:
    told = []
    observer = mint_core.Observer()
    observer.message = told.append
    first = mint_core.run(toy, observer=observer)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")  # no bar and no warning of a library
    assert (
        "Warning: 4 of 4 labels have fewer than 10 training samples (Bile duct: 4, Colon: 4, Liver: 4 and 1 "
        "more); little can be learnt of them, and figures about them are uncertain."
    ) in told
    assert first.reused == ()
    for name in (
        "run.json",
        "rankings/rankings.parquet",
        "preferences/preferences.parquet",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "predictions.jsonl",
        "metrics.json",
        "samples.parquet",
        "report.html",
        "log.jsonl",
    ):
        assert (first.path / name).is_file(), name
    assert not list((first.path / ".work").iterdir())
    before = {path: path.stat().st_mtime_ns for path in first.path.rglob("*") if path.is_file()}
    second = mint_core.run(toy)
    assert second.reused == STAGES
    assert second.metrics == first.metrics
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed <= {"run.json", ".lock"}


def test_run_json_makes_the_same_run_again(toy, tmp_path: Path) -> None:
    first = mint_core.run(toy)
    record = json.loads((first.path / "run.json").read_text())
    assert record["status"] == "complete"
    assert {c["distribution"] for c in record["components"]} >= {"mint-core", "mint-toy", "mint-metrics"}
    assert record["versions"]["torch"]
    again = mint_core.run(first.path / "run.json", overrides=(f"out={tmp_path / 'elsewhere'}",))
    assert again.reused == ()
    assert again.metrics == first.metrics
    weights = "adapter/adapter_model.safetensors"
    assert digest_of_path(again.path / weights) == digest_of_path(first.path / weights)
    card = (first.path / "adapter" / "README.md").read_text()
    assert (again.path / "adapter" / "README.md").read_text() == card  # the results included
    assert {one.metric_type for one in ModelCard(card).data.eval_results} == set(first.metrics["titles"])
    assert card.count("## Results") == 1 and "| learning_rate | 5e-05 |" in card
    assert str(tmp_path) not in card and toy["student"]["model"] not in card


def test_a_record_finds_its_data_from_every_folder(toy, tmp_path: Path, monkeypatch) -> None:
    """Data, student and output were named by relative paths, and the record is used elsewhere."""
    records = [{"id": f"p{i}", "split": "train", "label": "Colon", "group": f"g{i}"} for i in range(4)]
    records += [{"id": f"q{i}", "split": "test", "label": "Liver", "group": f"h{i}"} for i in range(4)]
    (tmp_path / "records.json").write_text(json.dumps(records))
    student = Path(os.path.relpath(toy["student"]["model"], tmp_path))
    options = {"task": {"name": "toy", "source": "file", "data": "records.json"}, "student": {"model": str(student)}}
    first = mint_core.run({**toy, **options}, until="prefer")
    written = {**toy, **options}
    resolved = resolve(written, registry()).dump()
    assert with_whole_paths(written, resolved)["task"]["data"] == str(tmp_path / "records.json")
    assert Path(with_whole_paths(written, resolved)["student"]["model"]).is_absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = mint_core.run(first.path / "run.json", overrides=("name=again",), until="prefer")
    assert again.reused == ("label", "prefer")


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"evaluate": {"bootstrap": 300}}, ("evaluate", "report")),
        ({"retriever": "echo"}, ("predict", "evaluate", "report")),
        ({"aligner": {"weight": 0.5}}, ("align", "predict", "evaluate", "report")),
        ({"strategy": {"k": 1}}, ("prefer", "align", "predict", "evaluate", "report")),
        ({"seed": 1}, None),
    ],
)
def test_a_change_runs_what_depends_on_it(toy, change, again) -> None:
    from mint_core.config import merge

    mint_core.run(toy)
    second = mint_core.run(merge(toy, change), overwrite=True)
    expected = again or STAGES
    # what comes out the same bit for bit is reused even below a stage that ran again
    assert set(STAGES) - set(second.reused) <= set(expected)
    assert expected[0] not in second.reused
    assert set(second.reused) >= set(STAGES[: STAGES.index(expected[0])])


def test_tampered_outputs_are_made_again(toy) -> None:
    first = mint_core.run(toy)
    (first.path / "metrics.json").write_text("{}")
    second = mint_core.run(toy)
    assert "evaluate" not in second.reused
    assert second.metrics == first.metrics


class Interrupt(mint_core.Observer):
    """Presses Ctrl-C when a stage has made some progress, or at its beginning where it makes none."""

    def __init__(self, stage: str) -> None:
        self.wanted, self.now, self.calls = stage, "", 0

    def stage(self, name: str, *, reused: bool, reason: str = "") -> None:
        self.now = name
        if name == self.wanted and name in ("prefer", "evaluate", "report"):
            raise KeyboardInterrupt

    def progress(self, done, total, unit, figures=None) -> None:
        self.calls += self.now == self.wanted
        if self.now == self.wanted and self.calls == 3:
            raise KeyboardInterrupt


_STRAIGHT: list[dict] = []
"""The metrics of the run that nobody interrupted, which is the same for all stages."""


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_in_every_stage_loses_nothing(toy, stage: str) -> None:
    toy["predict"] = {"batch_size": 1}
    with pytest.raises(KeyboardInterrupt):
        mint_core.run(toy, observer=Interrupt(stage))
    run = Path(toy["out"]) / "t"
    assert not (run / "stages" / f"{stage}.json").exists()
    assert not (run / "report.html").exists()
    resumed = mint_core.run(toy)
    assert resumed.reused == STAGES[: STAGES.index(stage)]
    if not _STRAIGHT:
        _STRAIGHT.append(mint_core.run({**toy, "name": "straight", "out": str(Path(toy["out"]) / "apart")}).metrics)
    assert resumed.metrics == _STRAIGHT[0]
    facts = json.loads((run / "run.json").read_text())["stages"]["predict"]["facts"]
    assert facts["resumed"] == (2 if stage == "predict" else 0)


def test_a_cut_off_line_of_predictions_is_answered_again(toy) -> None:
    toy["predict"] = {"batch_size": 1}
    with pytest.raises(KeyboardInterrupt):
        mint_core.run(toy, observer=Interrupt("predict"))
    (partial,) = (Path(toy["out"]) / "t" / ".work").glob("predict-*/predictions.jsonl")
    text = partial.read_text()
    partial.write_text(text[: len(text) - 5])
    resumed = mint_core.run(toy)
    lines = (resumed.path / "predictions.jsonl").read_text().splitlines()
    pairs = [(json.loads(line)["variant"], json.loads(line)["sample_id"]) for line in lines]
    assert len(pairs) == len(set(pairs)) == 16


def test_a_full_disk_is_one_sentence_and_leaves_no_half_stage(toy, mint, monkeypatch) -> None:
    """ENOSPC from the write itself; /dev/full gives the same error where a real full disk cannot be had."""
    config = write(toy)
    monkeypatch.setattr(
        "mint_core.stages.prefer.write_preferences", lambda *_: Path("/dev/full").write_text("x" * 10**6)
    )
    answer = mint("run", "-c", config)
    assert answer.code == 8
    assert "is full" in answer.err.strip().splitlines()[-1]
    assert not (Path(toy["out"]) / "t" / "preferences").exists()


def test_two_processes_cannot_share_a_run(toy, mint) -> None:
    config = write(toy)
    with RunFolder(Path(toy["out"]) / "t"):
        answer = mint("run", "-c", config)
    assert answer.code == 8
    assert "Another process" in answer.err


def test_patients_text_stays_out_of_everything(toy, mint) -> None:
    config = write(toy)
    answer = mint("run", "-c", config)
    assert answer.code == 0, answer.err
    secret = b"SECRET-PATIENT-TEXT number"
    for path in (Path(toy["out"]) / "t").rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path
    assert secret.decode() not in answer.out + answer.err


def test_stages_are_commands_that_run_what_is_missing(toy, mint) -> None:
    config = write(toy)
    run = Path(toy["out"]) / "t"
    assert mint("prefer", "-c", config).code == 0
    assert (run / "preferences").is_dir()
    assert not (run / "adapter").exists()
    assert json.loads((run / "run.json").read_text())["status"] == "complete until prefer"
    answer = mint("run", "-c", config)
    assert answer.code == 0
    assert answer.err.count("complete, reused") == 2
    assert "aligned student" in answer.out
    assert "aligned student" not in answer.err


def test_tables_can_be_read_by_others(toy) -> None:
    run = mint_core.run(toy)
    preferences = pq.read_table(run.path / "preferences" / "preferences.parquet").to_pylist()
    assert len(preferences) == 16
    assert all(len(row["chosen"]) == len(row["rejected"]) == 1 for row in preferences)
    samples = pq.read_table(run.path / "samples.parquet").to_pylist()
    assert {row["variant"] for row in samples} == {"base", "aligned", "teacher", "chance", "majority"}
    assert len(samples) == 8 * 5
    teacher = next(row for row in run.metrics["rows"] if row["variant"] == "teacher")
    assert teacher["metrics"]["top-1"]["mean"] == 1.0


def test_a_teacher_that_breaks_its_contract_is_named(toy) -> None:
    toy["teacher"] = {"name": "oracle", "fail": True}
    with pytest.raises(ContractError, match="oracle"):
        mint_core.run(toy)
    assert not (Path(toy["out"]) / "t" / "rankings").exists()


def test_an_empty_split_is_refused(toy, mint, tmp_path: Path) -> None:
    data = tmp_path / "toy.json"
    data.write_text(json.dumps([{"id": f"p{i}", "split": "train", "label": "Colon", "group": None} for i in range(4)]))
    toy["task"] = {"name": "toy", "source": "file", "data": str(data)}
    config = write(toy)
    answer = mint("run", "-c", config)
    assert answer.code == 4
    assert "0 samples" in answer.err


def test_a_missing_student_is_one_sentence(toy, mint, tmp_path: Path) -> None:
    config = write(toy)
    for model in ("some-lab/a-model-that-is-nowhere", str(tmp_path / "nowhere")):
        answer = mint("run", "-c", config, "--student", model)
        assert answer.code == 6
        last = answer.err.strip().splitlines()[-1]
        assert last.startswith("mint: The student")
        assert "Traceback" not in answer.err
    assert not (Path(toy["out"]) / "t" / "adapter").exists()


def test_an_unexpected_error_shows_no_traceback_without_debug(toy, mint, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("SECRET-PATIENT-TEXT")

    monkeypatch.setattr("mint_core.config.read_config", fail)
    answer = mint("run", "-c", "any.yaml")
    assert answer.code == 1
    assert "SECRET" not in answer.err
    assert "--debug" in answer.err
    assert "SECRET" in mint("run", "-c", "any.yaml", "--debug").err


def test_ctrl_c_has_its_exit_code(toy, mint, monkeypatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    config = write(toy)
    monkeypatch.setattr("mint_core.stages.prefer.Prefer.make", interrupt)
    answer = mint("run", "-c", config)
    assert answer.code == 130
    assert "goes on from there" in answer.err
    assert (Path(toy["out"]) / "t" / "rankings").is_dir()


def test_answers_with_odd_line_separators_are_all_read(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    records = [{"text": f"a{c}b"} for c in ("\u2028", "\u0085", "\r", "\n", "é")]
    with path.open("w", encoding="utf-8") as stream:
        for record in records:
            write_line(stream, record)
    assert read_lines(path) == records
    path.write_bytes(path.read_bytes() + '{"text": "\u00e9'.encode()[:-1])  # cut off within a character
    assert read_lines(path) == records
    path.write_bytes(b"{\n" + path.read_bytes())
    with pytest.raises(DataError, match="Line 1"):
        read_lines(path)


def test_without_an_aligner_only_the_base_student_is_evaluated(toy, mint) -> None:
    toy["name"] = "base"
    first = mint_core.run({**toy, "aligner": None})
    run = first.path
    assert not (run / "preferences").exists()
    assert not (run / "adapter").exists()
    assert {row["variant"] for row in first.metrics["rows"]} == {"base", "teacher", "chance", "majority"}
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "complete"
    assert record["config"]["aligner"] is None
    assert list(record["stages"]) == ["label", "predict", "evaluate", "report"]
    assert "No alignment" in (run / "report.html").read_text()
    assert mint_core.run(run / "run.json").reused == ("label", "predict", "evaluate", "report")
    del toy["aligner"]
    answer = mint("run", "-c", write(toy), "--aligner", "none", "--set", "predict.base=false", "--overwrite")
    assert answer.code == 0, answer.err
    assert "base student" in answer.out
    assert "aligned" not in answer.out
    refused = mint("align", "-c", write(toy), "--aligner", "none")
    assert (refused.code, "no stage 'align'" in refused.err) == (2, True)


def test_the_alignment_has_a_seed_of_its_own(toy) -> None:
    first = mint_core.run(toy)
    adapter = digest_of_path(first.path / "adapter")
    second = mint_core.run({**toy, "align_seed": 5}, overwrite=True)
    assert second.reused[:2] == ("label", "prefer")
    assert "align" not in second.reused
    assert "seed 5" in (second.path / "adapter" / "README.md").read_text()
    assert digest_of_path(second.path / "adapter") != adapter
    same = mint_core.run({**toy, "align_seed": 0}, overwrite=True)
    assert digest_of_path(same.path / "adapter") == adapter
    assert same.metrics == first.metrics


def test_another_reported_split_or_prompt_does_not_label_again(toy, tmp_path: Path) -> None:
    labels = ("Colon", "Liver", "Skin")
    records = [
        {"id": f"p{i}", "split": ("train", "train", "val", "test")[i % 4], "label": labels[i % 3], "group": None}
        for i in range(24)
    ]
    (tmp_path / "toy.json").write_text(json.dumps(records))
    toy["task"] = {"name": "toy", "source": "file", "data": str(tmp_path / "toy.json")}
    mint_core.run(toy)
    second = mint_core.run({**toy, "evaluate": {"bootstrap": 200, "split": "val"}}, overwrite=True)
    assert second.reused == ("label", "prefer", "align")
    assert second.metrics["split"] == "val"


def test_unseen_labels_and_external_data_have_rows_of_their_own(toy, tmp_path: Path, mint) -> None:
    def record(number: int, split: str, label: str, cohort: str | None = None) -> dict:
        return {"id": f"p{number}", "split": split, "label": label, "group": None, "cohort": cohort}

    seen = [record(i, "train", ("Colon", "Liver")[i % 2]) for i in range(8)]
    own = [record(10 + i, "test", ("Colon", "Liver", "Skin")[i % 3]) for i in range(6)]
    other = [record(20 + i, "test", ("Colon", "Kidney")[i % 2], "clinic B") for i in range(4)]
    (tmp_path / "toy.json").write_text(json.dumps([*seen, *own, *other]))
    toy["task"] = {"name": "toy", "source": "file", "data": str(tmp_path / "toy.json")}
    answer = mint("run", "-c", write(toy))
    assert answer.code == 0, answer.err
    metrics = json.loads((Path(toy["out"]) / "t" / "metrics.json").read_text())
    sizes = {row["subset"]: row["n"] for row in metrics["rows"] if row["variant"] == "aligned"}
    assert sizes == {
        "all": 6, "seen": 4, "unseen": 2, "clinic B": 4, "clinic B: seen": 2, "clinic B: unseen": 2,
    }  # fmt: skip
    assert set(metrics["aligned_minus_base"]) == set(sizes)
    assert metrics["teacher_top_1"]["test"]["n"] == 6
    for shown in (answer.out, (Path(toy["out"]) / "t" / "report.html").read_text()):
        assert "clinic B: unseen" in shown
    assert "unseen: aligned student" in answer.out
    per_sample = pq.read_table(Path(toy["out"]) / "t" / "samples.parquet").to_pylist()
    assert {row["sample"] for row in per_sample if not row["seen"]} == {"p12", "p15", "p21", "p23"}


def test_own_val_is_reported_beside_an_external_cohort(toy, tmp_path: Path) -> None:
    """Own data with train and val only: the cohort's test samples do not take the place of val."""

    def record(number: int, split: str, cohort: str | None = None) -> dict:
        label = ("Colon", "Liver")[number % 2]
        return {"id": f"p{number}", "split": split, "label": label, "group": None, "cohort": cohort}

    own = [record(i, "val" if i > 7 else "train") for i in range(12)]
    (tmp_path / "toy.json").write_text(json.dumps([*own, *(record(20 + i, "test", "clinic B") for i in range(6))]))
    task = {"name": "toy", "source": "file", "data": str(tmp_path / "toy.json")}
    run = mint_core.run({**toy, "task": task, "aligner": "none"})
    assert {row["subset"]: row["n"] for row in run.metrics["rows"] if row["variant"] == "base"} == {
        "all": 4, "clinic B": 6, "clinic B: seen": 6,
    }  # fmt: skip
    assert run.metrics["split"] == "val, external: test"
    val = {"split": "val", "bootstrap": 200}
    only = mint_core.run({**toy, "task": task, "aligner": "none", "evaluate": val}, overwrite=True)
    assert {row["subset"] for row in only.metrics["rows"]} == {"all"}


def test_groups_of_one_sample_that_ask_for_lists_of_two_lengths_are_refused(toy, install_plugin) -> None:
    source = """
from mint_core.plugin import PreferenceGroup, TopK, hookimpl

class Uneven(TopK):
    name = "uneven"

    def group(self, ranking, truth):
        raise NotImplementedError

    def groups(self, ranking, truth):
        best, worst = self.top(ranking, truth), self.bottom(ranking, truth)
        return [PreferenceGroup(ranking.sample_id, (best[:n],), (worst,)) for n in (1, 2)]

@hookimpl
def mint_strategies():
    return [Uneven]
"""
    install_plugin("mint-uneven", "uneven_under_test", source)
    with pytest.raises(ContractError, match="'uneven' made groups of sample p1 whose first chosen"):
        mint_core.run({**toy, "strategy": "uneven"}, until="prefer")


def test_run_json_says_how_a_run_ended_and_keeps_earlier_stages(toy) -> None:
    record = Path(toy["out"]) / "t" / "run.json"
    with pytest.raises(KeyboardInterrupt):
        mint_core.run(toy, observer=Interrupt("align"))
    stopped = json.loads(record.read_text())
    assert stopped["status"] == "interrupted"
    assert list(stopped["stages"]) == ["label", "prefer"]
    mint_core.run(toy)
    with pytest.raises(ContractError):
        mint_core.run({**toy, "teacher": {"name": "oracle", "fail": True}}, overwrite=True)
    failed = json.loads(record.read_text())
    assert failed["status"] == "stopped: label"
    assert {name: stage["current"] for name, stage in failed["stages"].items()} == dict.fromkeys(STAGES[:4], False)
    mint_core.run(toy, until="prefer")
    again = json.loads(record.read_text())
    assert again["status"] == "complete until prefer"
    assert {name for name, stage in again["stages"].items() if stage["current"]} == {"label", "prefer"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"strategy": {"k": 4, "q": 4}}, "k + q = 4 + 4"),
        ({"aligner": {"warmup": 500}}, "warm-up of 500 steps"),
        ({"task": {"name": "toy", "n": 6}}, "lists of 3 names, and the student is asked for N = 6 of 6"),
        ({"task": {"name": "toy", "n": 3}, "strategy": {"k": 2, "q": 1, "complete": False}}, "lists of 2 names"),
    ],
)
def test_misfits_are_refused_before_the_first_stage(toy, change, sentence: str) -> None:
    from mint_core.config import merge

    with pytest.raises(ConfigError, match=re.escape(sentence)):
        mint_core.run(merge(toy, change))
    assert not (Path(toy["out"]) / "t" / "run.json").exists()
    assert not (Path(toy["out"]) / "t" / "rankings").exists()


def test_single_names_with_free_answers_are_told_and_no_error(toy) -> None:
    from mint_core.config import merge
    from mint_core.observer import Observer
    from mint_core.runs.checks import check_run
    from mint_core.stages.run import Run

    def told(change: dict) -> list[str]:
        resolved = resolve(merge(toy, {"strategy": "pairwise"}, change), registry())
        run = Run(resolved, Path(toy["out"]) / "t", Observer(), Path(toy["out"]) / ".cache")
        return [note for note in check_run(run, STAGES) if "single names" in note]

    assert len(told({})) == 1
    assert told({"predict": {"decode": "score"}}) == []
    assert told({"strategy": "listwise"}) == []


def test_teacher_and_preferences_need_no_student(toy) -> None:
    without = {key: value for key, value in toy.items() if key != "student"}
    for _ in range(2):  # made, then reused
        mint_core.run(without, until="prefer")
    with pytest.raises(ConfigError, match="'toy' brings no embedded student; name one with --student"):
        mint_core.run(without)
    assert json.loads((Path(toy["out"]) / "t" / "run.json").read_text())["status"] == "complete until prefer"


def test_the_majority_list_holds_the_most_frequent_training_labels(toy) -> None:
    records = [
        {"id": f"p{i}", "split": "train" if i < 8 else "test", "label": label}
        for i, label in enumerate(["Skin"] + ["Liver"] * 4 + ["Colon"] * 3 + ["Colon", "Skin", "Liver", "Liver"])
    ]
    data = Path(toy["out"]).parent / "data.json"
    data.write_text(json.dumps(records))
    task = {"name": "toy", "source": "file", "data": str(data), "n": 1}
    made = mint_core.run({**toy, "task": task, "strategy": {"k": 1, "q": 1}, "aligner": None})
    rows = {row["variant"]: row["metrics"] for row in made.metrics["rows"]}
    assert rows["majority"]["top-1"]["mean"] == 0.5
    answers = pq.read_table(Path(made.path) / "samples.parquet").to_pylist()
    assert {tuple(one["answer"]) for one in answers if one["variant"] == "majority"} == {("Liver",)}
