"""What a run makes of damaged files, full disks and short memories, and who may read what it leaves."""

import errno
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from safetensors import SafetensorError

import mint_core
from mint_core.errors import CapacityError, DataError, ModelError, StorageError
from mint_core.faults import explained
from mint_core.files import contents, intact, read_lines, replaced, seal, sealed, write_json, write_line
from mint_core.observer import Observer
from mint_core.runs import pipeline
from mint_core.runs.folder import RunFolder
from mint_core.stages.align import Align
from mint_core.stages.predict import Predict
from tests.tiny_students import build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("llama", tmp_path_factory.mktemp("student") / "llama")


@pytest.fixture
def toy(install_plugin, tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    return {
        "task": "toy", "student": {"model": str(student)}, "out": str(tmp_path / "runs"), "name": "t",
        "aligner": {"name": "orpo", "epochs": 1, "warmup": 0, "lora_rank": 4, "save_steps": 2, "batch_size": 4},
        "predict": {"max_new_tokens": 4}, "evaluate": {"bootstrap": 100},
    }  # fmt: skip


class Listener(Observer):
    """Keeps why stages ran again."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def stage(self, name: str, *, reused: bool, reason: str = "") -> None:
        if not reused:
            self.reasons[name] = reason


def again(toy: dict) -> dict[str, str]:
    listener = Listener()
    mint_core.run(toy, observer=listener)
    return listener.reasons


MANIFESTS = {
    "a byte that is no UTF-8": b'{"stage": "align", "key": "\xff"}',
    "a list": b"[]",
    "a number": b"7",
    "empty": b"",
    "deep": b"[" * 200_000,
    "wrong types": b'{"stage": "align", "key": "k", "inputs": {}, "outputs": [1], "seconds": "x", '
    b'"peak_memory_bytes": 0, "files": {}, "facts": {}}',
    "files outside": b'{"stage": "align", "key": "k", "inputs": {}, "outputs": {}, "seconds": 1, '
    b'"peak_memory_bytes": 0, "files": {"../x": "y"}, "facts": {}}',
    "another stage": b'{"stage": "label", "key": "k", "inputs": {}, "outputs": {}, "seconds": 1, '
    b'"peak_memory_bytes": 0, "files": {}, "facts": {}}',
}


def test_what_is_damaged_is_made_again_and_what_does_not_matter_is_not(toy: dict) -> None:
    run = mint_core.run(toy)
    weights = run.path / "adapter" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    manifest = run.path / "stages" / "align.json"
    for content in MANIFESTS.values():
        manifest.write_bytes(content)
        assert RunFolder(run.path).manifest("align") is None
    judged = {"evaluate": "", "report": ""}  # they go before what they tell of is made again
    assert again(toy) == {"align": "its manifest is damaged", **judged}
    assert weights.read_bytes() == whole
    (run.path / "adapter" / "README.md").write_text("My own words.")
    (run.path / "adapter" / "notes.txt").write_text("A stray file.")
    assert again(toy) == {}
    assert (run.path / "adapter" / "README.md").read_text() == "My own words."
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert again(toy) == {"align": "its files are damaged or were changed", **judged}
    assert weights.read_bytes() == whole
    assert not (run.path / "adapter" / "notes.txt").exists()  # the folder was replaced
    forged = json.loads(manifest.read_text())
    forged["outputs"]["adapter"] = "0" * 32
    manifest.write_text(json.dumps(forged))
    assert RunFolder(run.path).complete("align", forged["key"]) is None


def test_an_answer_that_was_damaged_before_it_was_published_is_asked_for_again(toy: dict, monkeypatch) -> None:
    toy = {**toy, "predict": {"decode": "score"}}
    straight = mint_core.run({**toy, "out": "elsewhere"})
    original = Predict.make

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mint_core.stages.predict._publish_answers", stopped)
    with pytest.raises(KeyboardInterrupt):
        mint_core.run(toy)
    monkeypatch.undo()
    monkeypatch.chdir(Path(toy["out"]).parent)
    (work,) = (Path(toy["out"]) / "t" / ".work").glob("predict-*")
    partial = work / "predictions.jsonl"
    lines = partial.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"well_formed": true', b'"well_formed": false')  # valid JSON, and not what was written
    lines[3] = lines[3][:20] + b"\xff" + lines[3][21:]
    partial.write_bytes(b"".join(lines))
    another = json.loads(lines[5])
    scores = np.load(work / "scores" / f"{another['variant']}.npy", mmap_mode="r+")
    scores[json.loads((work / "scores" / "index.json").read_text())["samples"].index(another["sample_id"]), 2] += 1
    scores.flush()
    monkeypatch.setattr(Predict, "make", original)
    resumed = mint_core.run(toy)
    facts = json.loads((resumed.path / "run.json").read_text())["stages"]["predict"]["facts"]
    assert facts["resumed"] == facts["responses"] - 3
    for name in ("predictions.jsonl", "scores/base.npy", "scores/aligned.npy"):
        assert (resumed.path / name).read_bytes() == (straight.path / name).read_bytes()


def test_lines_with_a_checksum(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        for number in range(3):
            write_line(stream, {"name": "Sjögren", "number": number}, checked=True)
    assert read_lines(path) == [{"name": "Sjögren", "number": number} for number in range(3)]
    path.write_bytes(path.read_bytes().replace(b'"number": 1', b'"number": 7'))
    assert [line["number"] for line in read_lines(path, drop=True)] == [0, 2]
    with pytest.raises(DataError, match="Line 2 of"):
        read_lines(path)


def test_a_folder_in_the_place_of_a_file_goes(tmp_path: Path) -> None:
    """Of one of mint's own files: a cache, a digest, a record."""
    (tmp_path / "x.json" / "inner").mkdir(parents=True)
    write_json(tmp_path / "x.json", {"a": 1})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_sealed_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.bin").write_bytes(b"abc")
    (tmp_path / "README.md").write_text("for people")
    assert not sealed(tmp_path, "mark")
    seal(tmp_path, "mark")
    assert sealed(tmp_path, "mark")
    assert set(contents(tmp_path)) == {"inner/a.bin", "mark"}
    assert intact(tmp_path, contents(tmp_path))
    (tmp_path / "README.md").write_text("other words")
    (tmp_path / "stray").write_text("x")
    assert sealed(tmp_path, "mark")
    (tmp_path / "inner" / "a.bin").write_bytes(b"abd")
    assert not sealed(tmp_path, "mark")


def test_what_a_killed_process_leaves_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with replaced(tmp_path / "run.json") as temporary:
        name = temporary.name
        temporary.write_text("{}")
    mine, theirs = tmp_path / name, tmp_path / name.replace(str(os.getpid()), str(ended.pid))
    parent = tmp_path / name.replace(str(os.getpid()), str(os.getppid()))
    elsewhere = tmp_path / re.sub(r"\.[0-9a-f]{8}-", ".00000000-", name)
    others = tmp_path / "notes.tmp"
    for path in (mine, theirs, parent, elsewhere, others):
        path.write_text("half")
    with RunFolder(tmp_path) as folder:
        assert not mine.exists()
        assert not theirs.exists()
        assert parent.exists()  # of a process that is at work
        assert elsewhere.exists()  # of another machine
        assert others.exists()
        (tmp_path / ".work" / "align-0" / "checkpoints").mkdir(parents=True)
        folder.clear("align")
        assert not list((tmp_path / ".work").iterdir())


FULL = (
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    SafetensorError('Error while serializing: I/O error: No space left on device (os error 28)'),
    RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/3: file write failed"),
    RuntimeError("[enforce fail at inline_container.cc:858] . unexpected pos 64 vs 0"),
    RuntimeError("basic_ios::clear: iostream error"),
    sqlite3.OperationalError("database or disk is full"),
    pyarrow.ArrowException("IOError: Error writing bytes to file. Detail: [errno 28] No space left on device"),
)  # fmt: skip
SHORT = (
    MemoryError(),
    np._core._exceptions._ArrayMemoryError((10**6, 10**6), np.dtype("float32")),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    pyarrow.lib.ArrowMemoryError("malloc of size 64 failed"),
    RuntimeError("std::bad_alloc"),
)


@pytest.mark.parametrize("error", FULL, ids=str)
def test_errors_that_mean_a_full_disk(error: Exception) -> None:
    told = explained(error, Path("runs"))
    assert isinstance(told, StorageError)
    assert str(told) == "The disk that holds runs is full; free some space and give the same command again."


@pytest.mark.parametrize("error", SHORT, ids=str)
def test_errors_that_mean_too_little_memory(error: Exception) -> None:
    told = explained(error, Path("runs"), "lower predict.batch_size")
    assert isinstance(told, CapacityError)
    assert str(told) == "The memory does not suffice; lower predict.batch_size, and give the same command again."


def test_other_errors_are_not_explained_away() -> None:
    for error in (
        ValueError("no space left"),
        KeyError("out of memory"),
        RuntimeError("shapes differ"),
        StorageError("x"),
    ):
        assert explained(error) is None
    wrapped = ModelError("The student in x cannot be loaded.")
    wrapped.__cause__ = OSError(errno.ENOMEM, "Cannot allocate memory")
    assert isinstance(explained(wrapped), CapacityError)
    assert explained(ModelError("The student in x is out of memory.")) is None  # a sentence of ours


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [(FULL[2], StorageError, "is full"), (SHORT[3], CapacityError, "lower aligner.batch_size or aligner.token_budget")],
    ids=["disk", "memory"],
)
def test_a_stage_says_what_to_do(toy: dict, monkeypatch, error: Exception, kind: type, said: str) -> None:
    def make(*_, **__):
        raise error

    monkeypatch.setattr(Align, "make", make)
    with pytest.raises(kind, match=said):
        mint_core.run(toy)
    assert json.loads((Path(toy["out"]) / "t" / "run.json").read_text())["status"] == "stopped: align"


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such permissions")
@pytest.mark.parametrize(("access", "folder_mode", "file_mode"), [("private", 0o700, 0o600), ("group", 0o770, 0o660)])
def test_who_may_read_a_run(toy: dict, access: str, folder_mode: int, file_mode: int) -> None:
    before = os.umask(0o000)
    try:
        out = Path(toy["out"])
        (out / "t").mkdir(parents=True)
        (out / ".cache").mkdir()
        run = mint_core.run({**toy, "access": access})
        assert os.umask(0o000) == 0o000
        for path in (run.path, out / ".cache", *run.path.rglob("*"), *(out / ".cache").rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode & ~(folder_mode if path.is_dir() else file_mode) == 0, (path, oct(mode))
        assert stat.S_IMODE(run.path.stat().st_mode) == folder_mode
        assert stat.S_IMODE((run.path / "metrics.json").stat().st_mode) == file_mode
        assert stat.S_IMODE((run.path / "adapter" / "adapter_model.safetensors").stat().st_mode) == file_mode
    finally:
        os.umask(before)


def test_who_may_read_changes_no_result(toy: dict) -> None:
    from mint_core.config import resolve
    from mint_core.plugins import registry

    names = {
        pipeline.default_name(resolve({**toy, "access": who}, registry())) for who in ("private", "group", "umask")
    }
    assert len(names) == 1
