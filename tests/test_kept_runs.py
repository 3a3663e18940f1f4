"""What a run made is never lost unasked, no report tells of other stages, and misfits are told before the first one."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

import mint_core
from mint_core.comparison.folder import config_of, record_of, refuse_another, tables
from mint_core.comparison.rows import aligner_rows
from mint_core.comparison.schedule import make_schedule
from mint_core.config import merge, resolve
from mint_core.errors import ConfigError, MintError
from mint_core.files import contents, write_json
from mint_core.interfaces import TrainingPhase
from mint_core.plugins import registry
from mint_core.runs.pipeline import Shared, run_resolved
from mint_core.runs.store import Store
from mint_core.stages import STAGES
from tests.tiny_students import build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny student, and beside it what is made once for all tests."""
    root = tmp_path_factory.mktemp("kept")
    build("llama", root / "student")
    return root


@pytest.fixture
def toy(install_plugin, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    return {
        "task": "toy", "student": {"model": str(cache / "student"), "device": "cpu"}, "out": "runs", "name": "t",
        "aligner": {"name": "orpo", "epochs": 1, "warmup": 0, "lora_rank": 4, "save_steps": 1, "batch_size": 8},
        "evaluate": {"bootstrap": 100},
    }  # fmt: skip


@pytest.fixture
def finished(toy: dict, cache: Path) -> Path:
    """The folder of a run that is complete; it is made once."""
    if not (cache / "t").exists():
        shutil.copytree(mint_core.run(toy).path, cache / "t")
    shutil.copytree(cache / "t", "runs/t", dirs_exist_ok=True)
    return Path("runs/t")


class Stop(mint_core.Observer):
    """Presses Ctrl-C when a stage is to be made, or with its first progress."""

    def __init__(self, stage: str, *, working: bool = False) -> None:
        self.wanted, self.working, self.said, self.made = stage, working, [], []

    def message(self, text: str) -> None:
        self.said.append(text)

    def stage(self, name: str, *, reused: bool, reason: str = "") -> None:
        self.made += [] if reused else [name]
        if name == self.wanted and not reused and not self.working:
            raise KeyboardInterrupt

    def progress(self, done, total, unit, figures=None) -> None:
        if self.working and self.made[-1:] == [self.wanted] and done >= 2:
            raise KeyboardInterrupt


def seen(folder: Path) -> dict[str, str]:
    """What lies there, without the lock and the log."""
    return {name: digest for name, digest in contents(folder).items() if name not in (".lock", "log.jsonl")}


@pytest.mark.parametrize(
    ("change", "stage", "told"),
    [
        ({"aligner": {"weight": 0.5}}, "align", "aligner.weight: none, now 0.5"),
        ({"aligner": "sft"}, "align", "aligner: orpo, now sft"),
        ({"aligner": "none"}, "align", "aligner: orpo, now none"),
        ({"strategy": {"k": 1}}, "align", "strategy.k: none, now 1"),
        ({"seed": 1}, "label", "seed: 0, now 1"),
        ({"teacher": {"sharpness": 1.0}}, "label", "teacher.sharpness: 2.0, now 1.0"),
        ({"predict": {"decode": "score"}}, "predict", "predict.decode: free, now score"),
        ({"retriever": "echo"}, "predict", "retriever: none, now echo"),
    ],
)
def test_a_finished_run_is_not_replaced_by_another_one(toy, finished: Path, change, stage: str, told: str) -> None:
    before = seen(finished)
    with pytest.raises(ConfigError) as error:
        mint_core.run(merge(toy, change))
    said = str(error.value)
    assert all(words in said for words in (f"finished '{stage}'", told, "another --name", "--overwrite")), said
    assert seen(finished) == before


def test_what_changes_no_result_or_is_made_in_seconds_needs_no_leave(toy, finished: Path, mint) -> None:
    same = mint_core.run(merge(toy, {"aligner": {"save_steps": 9}}), until="evaluate")
    assert same.reused == ("label", "prefer", "align", "predict", "evaluate")
    judged = mint_core.run(merge(toy, {"evaluate": {"bootstrap": 150}}))
    assert judged.reused == ("label", "prefer", "align", "predict")
    (Path("mint.yaml")).write_text(yaml.safe_dump(toy))
    refused = mint("align", "-c", "mint.yaml", "--set", "aligner.weight=0.5")
    assert (refused.code, "--overwrite" in refused.err) == (2, True)
    other = mint_core.run(merge(toy, {"aligner": {"weight": 0.5}, "name": "other"}), until="prefer")
    assert other.reused == ("label", "prefer")


def test_numbers_and_report_go_before_what_they_tell_of(toy, finished: Path) -> None:
    """An interruption right before the stage is made again leaves neither; a table of a comparison goes too."""
    table = Path("runs/compare.json")
    table.touch()
    resolved = resolve(merge(toy, {"aligner": {"weight": 0.5}}), registry())
    shared = Shared(Store(Path("runs")), overwrite=True, tables=(table,))
    with pytest.raises(KeyboardInterrupt):
        run_resolved(resolved, until="report", observer=Stop("align"), shared=shared)
    for gone in (finished / "report.html", finished / "metrics.json", finished / "samples.parquet", table):
        assert not gone.exists(), gone
    assert (finished / "adapter").is_dir()  # the old one, until the new one is there
    done = run_resolved(resolved, until="align", observer=Stop(""), shared=shared)
    assert done.reused == ("label", "prefer")
    assert not (finished / "predictions.jsonl").exists()  # of the adapter that is gone
    assert mint_core.run(resolved.dump()).reused == ("label", "prefer", "align")


def test_other_data_or_versions_are_told_where_the_options_are_the_same(toy, finished: Path, monkeypatch) -> None:
    oracle = registry().get("teacher", "oracle").component
    monkeypatch.setattr(oracle, "version", "2")
    with pytest.raises(ConfigError, match=r"finished 'label' of another run \(teacher.version: 1, now 2\)"):
        mint_core.run(toy)
    monkeypatch.setattr(oracle, "version", "1")
    monkeypatch.setattr("mint_core.stages.run.Run.data_fingerprint", "0" * 32)
    with pytest.raises(ConfigError, match=r"finished 'label' of another run \(data: other content\)"):
        mint_core.run(toy)


def test_the_stages_say_all_that_they_write(finished: Path) -> None:
    for stage in STAGES:
        made = json.loads((finished / "stages" / f"{stage.name}.json").read_text())["outputs"]
        assert made.keys() <= set(stage.writes), stage.name


def test_damaged_answers_take_the_report_with_them(toy, finished: Path) -> None:
    (finished / "predictions.jsonl").write_text("")
    with pytest.raises(KeyboardInterrupt):
        mint_core.run(toy, observer=Stop("predict"))
    assert not (finished / "report.html").exists()
    assert (finished / "adapter").is_dir()


def test_a_run_without_an_aligner_takes_away_what_does_not_belong_to_it(toy, finished: Path) -> None:
    mint_core.run(merge(toy, {"aligner": "none"}), until="label", overwrite=True)
    assert {path.name for path in finished.iterdir()} >= {"rankings", "predictions.jsonl"}
    assert not {path.name for path in finished.iterdir()} & {"adapter", "preferences", "training", "report.html"}


def test_answers_of_the_base_student_are_kept_before_hours_of_alignment(toy, finished: Path) -> None:
    for name in ("prefer", "align", "predict", "evaluate", "report"):
        (finished / "stages" / f"{name}.json").unlink()
    mint_core.run(merge(toy, {"aligner": "none"}), until="predict")
    log = Stop("")
    with pytest.raises(ConfigError, match=r"finished 'predict' .*aligner: none, now orpo"):
        mint_core.run(toy, observer=log)
    assert log.made == []


def test_checkpoints_of_another_config_are_kept(toy) -> None:
    toy["aligner"]["batch_size"] = 4
    with pytest.raises(KeyboardInterrupt):
        mint_core.run(toy, until="align", observer=Stop("align", working=True))
    with pytest.raises(ConfigError, match=r"unfinished 'align' .*aligner.weight: none, now 0.5"):
        mint_core.run(merge(toy, {"aligner": {"weight": 0.5}}), until="align")
    assert list(Path("runs/t/.work").glob("align-*/checkpoints/*"))
    assert mint_core.run(toy, until="align").reused == ("label", "prefer")


def test_a_comparison_is_not_replaced_by_one_of_another_config(toy) -> None:
    layer = {key: value for key, value in toy.items() if key != "aligner"}

    def planned(names: list[str], **change):
        return make_schedule("compare", {**layer, **change}, aligner_rows(names, layer), 1)

    made = planned(["base", "sft"])
    write_json(record_of(made), {"config": config_of(made)})
    assert record_of(made) == tables(made)[0] == Path("runs/t/compare.json")
    for same in (planned(["base", "orpo"]), planned(["sft"], student={**toy["student"], "device": "auto"})):
        refuse_another(same)
    with pytest.raises(ConfigError, match=r"holds another comparison \(strategy.k: none, now 1\).*--overwrite"):
        refuse_another(planned(["base", "sft"], strategy={"k": 1}))


# --- before the first stage


def at(url: str) -> dict:
    """A run that asks a server."""
    return {"aligner": "none", "predict": {"engine": "endpoint", "endpoint": {"url": url, "model": "m"}}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"student": {"device": "cuda:77"}}, "device 'cuda:77' cannot be used"),
        ({"student": {"model": "nowhere/at/all"}}, "student nowhere/at/all does not exist"),
        ({"student": {"attention": "flash_attention_2"}}, "student"),
        ({"retriever": {"name": "library", "folder": "nowhere"}}, r"retriever\.folder: nowhere does not exist"),
        ({"retriever": {"name": "library", "folder": "."}}, "retriever 'library'"),
        ({"retriever": {"name": "library", "ranks": False}, "retrieval": {"fuse": "rrf"}}, "nothing can be fused"),
        ({"aligner": {"name": "dpo", "sft_adapter": "nowhere"}}, r"aligner\.sft_adapter: nowhere does not exist"),
        ({"aligner": {"name": "dpo", "sft_adapter": "."}}, "is no adapter"),
        (at("ftp://x"), "An endpoint is an address"),
        (at("http://127.0.0.1:1/v1"), "cannot be reached"),
    ],
)
def test_what_cannot_work_is_told_before_the_teacher_begins(toy, change, sentence: str) -> None:
    log = Stop("label")  # not reached
    with pytest.raises(MintError, match=sentence):
        mint_core.run(merge(toy, change), observer=log)
    assert log.made == []


def test_a_comparison_tries_all_rows_before_the_first_is_made(toy, mint) -> None:
    (Path("mint.yaml")).write_text(yaml.safe_dump({key: value for key, value in toy.items() if key != "aligner"}))
    options = ",epochs=1,warmup=0,lora_rank=4"
    for row in ("student.model=nowhere/at/all", "student.device=cuda:77"):
        answer = mint("compare", "-c", "mint.yaml", "--seeds", "1", "--row", f"a=sft:{options[1:]}", "--row",
                      f"b=sft:{row}{options}")  # fmt: skip
        assert (answer.code > 0, "Row 'b'" in answer.err, "label" in answer.err) == (True, True, False), answer.err
    assert mint("plan", "-c", "mint.yaml", "--device", "cuda:77").code == 2


def test_an_adapter_of_another_student_is_refused_before_the_first_stage(toy, finished: Path, cache: Path) -> None:
    if not (cache / "other").exists():
        build("llava", cache / "other")
    dpo = {"name": "dpo", "epochs": 1, "warmup": 0, "sft_adapter": str(finished / "adapter")}
    log = Stop("")
    with pytest.raises(MintError, match="does not fit this student"):
        mint_core.run({**toy, "name": "u", "aligner": dpo, "student": {"model": str(cache / "other")}}, observer=log)
    assert log.made == []


# --- a warm-up that fits


def test_a_preset_warms_up_by_a_share_where_its_steps_do_not_fit() -> None:
    preset = TrainingPhase("orpo", epochs=5, batch_size=8, warmup=500, warmup_share=0.1)
    assert [preset.warmup_steps(steps) for steps in (45, 999, 1000, 4000)] == [5, 100, 500, 500]
    assert [preset.shortens_warmup(steps) for steps in (999, 1000)] == [True, False]
    asked = TrainingPhase("orpo", epochs=5, batch_size=8, warmup=500)
    assert asked.warmup_steps(600) == 500
    with pytest.raises(ConfigError, match="as long as the training"):
        asked.warmup_steps(500)


def test_the_share_is_said_once_and_recorded(toy) -> None:
    del toy["aligner"]["warmup"]
    log = Stop("")
    done = mint_core.run(toy, until="align", observer=log)
    assert sum("warm-up of 500 steps" in text for text in log.said) == 1
    settings = json.loads((done.path / "training" / "history.json").read_text())["settings"]
    assert settings["warmup_steps"] == [1]
    with pytest.raises(ConfigError, match="warm-up of 500 steps is as long"):
        mint_core.run(merge(toy, {"name": "u", "aligner": {"warmup": 500}}))
