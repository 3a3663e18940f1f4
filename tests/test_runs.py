"""`mint runs` lists what lies in a folder, and `mint report FOLDER` makes a finished run's page again."""

import json
import re
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

import mint_core
from mint_core.cli.screen import Screen
from mint_core.runs.folder import RunFolder
from tests.tiny_students import build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def runs(install_plugin, made: Path, tmp_path: Path) -> Path:
    """A copy of a folder with one run, which the first test makes."""
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    if not (made / "runs" / "t").exists():
        mint_core.run(
            {
                "task": "toy", "student": {"model": str(build("llama", made / "llama"))}, "out": str(made / "runs"),
                "name": "t", "aligner": None, "evaluate": {"bootstrap": 200},
            }
        )  # fmt: skip
    return shutil.copytree(made / "runs", tmp_path / "runs")


def listed(mint, runs: Path) -> dict[str, dict]:
    answer = mint("runs", "--out", runs, "--json")
    assert answer.code == 0, answer.err
    return {one["folder"]: one for one in json.loads(answer.out)}


def test_runs_are_listed_with_what_became_of_them(mint, runs: Path, monkeypatch) -> None:
    record = json.loads((runs / "t" / "run.json").read_text())
    titles = json.loads((runs / "t" / "metrics.json").read_text())["titles"]
    for name, status in (("going", "running"), ("killed", "running"), ("half", "complete until align")):
        (runs / name).mkdir()
        (runs / name / "run.json").write_text(json.dumps({**record, "status": status}))
    (runs / "cut").mkdir()
    (runs / "cut" / "run.json").write_text('{"status": "comp')
    (runs / "no-run").mkdir()
    with FileLock(runs / "going" / ".lock"):
        found = listed(mint, runs)
        table = mint("runs", "--out", runs)
    assert {name: one["state"] for name, one in found.items()} == {
        "t": "complete", "going": "running", "killed": "stopped", "half": "complete until align", "cut": "damaged",
    }  # fmt: skip
    assert {key: found["t"][key] for key in ("task", "teacher", "aligner")} == {
        "task": "toy", "teacher": "oracle", "aligner": None,
    }  # fmt: skip
    assert found["t"]["figure"].startswith(f"{titles['top-n']} ") and found["half"]["figure"] is None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", found["t"]["date"])
    assert table.code == 0
    head, *lines = table.out.splitlines()
    assert head.split() == ["folder", "task", "teacher", "aligner", "state", "figure", "date"]
    assert {line.split()[0] for line in lines} == set(found)
    with monkeypatch.context() as terminal:
        terminal.setattr(Screen, "is_terminal", True)
        terminal.setenv("COLUMNS", "40")
        narrow = mint("runs", "--out", runs).out.splitlines()
    assert narrow[::2] == list(found) and narrow[1 + 2 * narrow[::2].index("t")].startswith("    toy, oracle, complete")
    empty = mint("runs", "--out", runs / "no-run")
    assert (empty.code, empty.out, "There is no run in" in empty.err) == (0, "", True)
    assert mint("runs", "--out", runs / "no-run", "--json").out == "[]\n"


def test_the_report_of_a_finished_run_is_made_again(mint, runs: Path) -> None:
    folder = runs / "t"
    page = folder / "report.html"
    before, metrics = page.read_text(), (folder / "metrics.json").read_bytes()
    page.write_text("scribbled over")
    answer = mint("report", folder)
    assert (answer.code, answer.out) == (0, f"{page}\n"), answer.err
    first, again = (re.findall(r"<table>.*?</table>", text, re.S)[:1] for text in (before, page.read_text()))
    assert first and again == first  # of the numbers; date and seconds are others
    assert (folder / "metrics.json").read_bytes() == metrics
    manifest = RunFolder(folder).manifest("report")
    assert RunFolder(folder).complete("report", manifest.key) is not None
    assert json.loads((folder / "run.json").read_text())["stages"]["report"]["outputs"] == manifest.outputs
    moved = shutil.copytree(folder, runs.parent / "elsewhere")
    assert mint("report", moved).out == f"{moved / 'report.html'}\n"
    assert "<h1>elsewhere</h1>" in (moved / "report.html").read_text()


def test_images_are_refused_where_the_student_read_none(mint, runs: Path) -> None:
    answer = mint("report", runs / "t", "--with-images")
    assert (answer.code, "reads text, so that there are no images to show" in answer.err) == (2, True)
    answer = mint("report", runs / "t", "--checklist", "tripod-llm")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("# TRIPOD-LLM, filled in from the run t\n") and "of 49 items filled" in answer.err
    answer = mint("report", runs, "--checklist", "tripod-ai")
    assert (answer.code, "holds no run.json" in answer.err) == (2, True)
    answer = mint("report", "--with-images")
    assert (answer.code, "takes the folder of a finished run" in answer.err) == (2, True)


def test_what_has_no_report_is_told_so(mint, runs: Path) -> None:
    folder = runs / "t"
    assert "leave --teacher out" in mint("report", folder, "--teacher", "oracle").err
    answer = mint("report", runs)
    assert (answer.code, "holds no run.json" in answer.err) == (2, True), answer.err
    metrics = folder / "metrics.json"
    metrics.write_text(metrics.read_text().replace("0", "1"))
    answer = mint("report", folder)
    assert (answer.code, "its stage 'evaluate' is not complete" in answer.err) == (2, True), answer.err
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "stages": {}}))
    assert "`mint run --config" in mint("report", folder).err
    (folder / "run.json").write_text(json.dumps({"config": record["config"]}))
    answer = mint("report", folder)
    assert (answer.code, "run.json is damaged" in answer.err) == (2, True), answer.err
