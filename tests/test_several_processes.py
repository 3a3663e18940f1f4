"""Labelling and answering in two processes: the bytes of one, and what a killed one leaves to do."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from mint_core import processes
from mint_core.answering import engine
from mint_core.stages import label, predict
from mint_core.stages.parts import Parts
from tests.tiny_students import build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
SMALL = """
import os, signal
from mint_core.plugin import FittedTeacher
from mint_core.answering import engine
from mint_core.stages import label, predict

label.SIZE, predict.WINDOW, engine.WINDOW = 5, 1, 1
_keep = predict._keep


def keep(stream, writer, answers, sources):
    if "RANK" in os.environ:
        with open("keeps.txt", "a", encoding="utf-8") as kept:
            kept.write(os.environ["RANK"] * len(answers))
    _keep(stream, writer, answers, sources)


predict._keep = keep


class Counted(FittedTeacher):
    name = "counted"
    reads = ("text",)

    def features(self, samples):
        return np.array([[len(one.text), sum(map(ord, one.text))] for one in samples], np.float32)

    def extract(self, samples):
        self._count("extract", samples)
        super().extract(samples)

    def log_probs(self, samples):
        self._count("rank", samples)
        if os.environ.get("RANK") == "1" and os.path.exists("kill") and samples[0].id != "p25":
            os.remove("kill")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().log_probs(samples)

    def _count(self, what, samples):
        with open("calls.txt", "a", encoding="utf-8") as stream:
            stream.write(f"{what} {os.environ.get('RANK', '-')} {samples[0].id}\\n")


class Trained(Counted):
    name = "trained"
    shares_work = False

"""


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("llama", tmp_path_factory.mktemp("several") / "llama")


@pytest.fixture
def given(install_plugin, tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a config of 48 samples in parts of five, and gives the options of a run."""
    install_plugin(
        "mint-toy", "toy_plugin_under_test", TOY.replace("return [Oracle]", "return [Oracle, Counted, Trained]") + SMALL
    )
    monkeypatch.chdir(tmp_path)
    for room, name in ((label, "SIZE"), (predict, "WINDOW"), (engine, "WINDOW"), (predict, "_keep")):
        monkeypatch.setattr(room, name, getattr(room, name))  # what the plugin changes is changed back

    def write(out: str, teacher: str = "counted", until: str = "label", **predict) -> list[str]:
        config = {
            "task": {"name": "toy", "count": 48}, "teacher": teacher, "out": out,
            "strategy": {"name": "pairwise", "k": 2, "q": 3}, "student": {"model": str(student), "device": "cpu"},
            "aligner": {"name": "orpo", "epochs": 1, "lora_rank": 2, "batch_size": 16},
            "predict": {"batch_size": 3, "max_new_tokens": 6, **predict},
        }  # fmt: skip
        Path("config.yaml").write_text(yaml.safe_dump(config))
        return ["run", "--config", "config.yaml", "--until", until, "--name", "r", "--quiet"]

    return write


def rankings(out: str) -> bytes:
    return Path(out, "r", "rankings", "rankings.parquet").read_bytes()


def calls() -> Counter:
    lines = Path("calls.txt").read_text().split("\n")[:-1]
    Path("calls.txt").unlink()
    return Counter(line.split()[0] + " " + line.split()[1] for line in lines)


def test_two_processes_label_as_one(given, mint, two_processes) -> None:
    assert mint(*given("one")).code == 0
    assert calls() == {"extract -": 10, "rank -": 10}
    codes, said = two_processes(*given("two"))
    assert codes == [0, 0], said
    assert calls() == {"extract 0": 5, "rank 0": 5, "extract 1": 5, "rank 1": 5}
    assert rankings("two") == rankings("one")
    told = [json.loads(Path(out, "r", "rankings", "teacher.json").read_text()) for out in ("one", "two")]
    assert told[0] == told[1]


def test_what_a_killed_process_left_is_not_done_again(given, mint, two_processes) -> None:
    assert mint(*given("one")).code == 0
    calls()
    Path("kill").touch()
    codes, said = two_processes(*given("two"))
    assert codes[1] == -9, (codes, said)
    begun = calls()
    assert begun["rank 1"] == 2  # one part is whole, and the second one was its end
    parts = sorted(path.name for path in Path("two").rglob("parts/*.npy"))
    assert "000000025.npy" in parts
    assert mint(*given("two")).code == 0
    assert calls()["rank -"] == 10 - len(parts)
    assert rankings("two") == rankings("one")


def test_a_teacher_that_is_trained_once_is_not_shared(given, two_processes) -> None:
    codes, said = two_processes(*given("two", "trained"))
    assert codes == [0, 0], said
    assert calls() == {"extract 0": 10, "rank 0": 10}


@pytest.mark.parametrize("decode", ["free", "score"])
def test_two_processes_answer_as_one(decode: str, given, mint, two_processes) -> None:
    answer = mint(*given("one", until="predict", decode=decode))
    assert answer.code == 0, answer.err
    shutil.copytree("one", "two")
    Path("two", "r", "predictions.jsonl").unlink()
    codes, said = two_processes(*given("two", until="predict", decode=decode))
    assert codes == [0, 0], said
    record = json.loads(Path("two", "r", "run.json").read_text())
    assert record["stages"]["predict"]["facts"]["responses"] == 32  # 16 of the base student, 16 of the aligned one
    assert 10 < Path("keeps.txt").read_text().count("1") < 22  # six windows of three for each, three in each process
    one, two = (Path(out, "r") for out in ("one", "two"))
    assert (two / "predictions.jsonl").read_bytes() == (one / "predictions.jsonl").read_bytes()
    for scores in (one / "scores").glob("*.npy") if decode == "score" else ():
        assert (two / "scores" / scores.name).read_bytes() == scores.read_bytes()


def test_parts_that_are_damaged_are_missing(tmp_path: Path) -> None:
    parts = Parts(tmp_path, 7, 3)
    for part in parts.all:
        parts.write(part, np.full((part.stop - part.start, 2), part.start))
    assert [(place, rows[:, 0].tolist()) for place, rows in parts.read(2)] == [
        (slice(0, 6), [0, 0, 0, 3, 3, 3]),
        (slice(6, 7), [6]),
    ]
    assert parts.missing == []
    file = tmp_path / "000000003.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    assert parts.missing == [slice(3, 6)]


def test_shares_are_contiguous_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "count", lambda: 3)
    found = []
    for place in range(3):
        monkeypatch.setattr(processes, "rank", lambda place=place: place)
        found.append(processes.share(list(range(8))))
    assert found == [[0, 1], [2, 3, 4], [5, 6, 7]]
