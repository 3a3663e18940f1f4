"""Fixtures: plugins that are installed for one test, the CLI in this process, tiny students."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.predicting import adapter, notes, predict, run_folder  # noqa: F401

if TYPE_CHECKING:
    from mint_core.interfaces import Student
    from tests.robustness.forks import Forks
    from tests.servers import Server


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs a plugin as pip would leave it: a module and its metadata on sys.path."""
    from mint_core.plugins import registry

    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def install(distribution: str, module: str, source: str, version: str = "1.0") -> None:
        (site / f"{module}.py").write_text(source, encoding="utf-8")
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[mint]\n{module} = {module}\n")
        modules.add(module)
        forget()

    def forget() -> None:
        """Another test installs another module of the same name."""
        for module in modules:
            sys.modules.pop(module, None)
        importlib.invalidate_caches()
        registry.cache_clear()

    modules: set[str] = set()
    forget()
    yield install
    forget()


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str


@pytest.fixture
def mint(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Runs the CLI in this process."""
    from mint_core.cli import main

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Answer(int(stop.value.code or 0), said.out, said.err)

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny text student on disk."""
    from tests.tiny_students import build

    return build("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def student(folder: Path) -> Student:
    """The same, loaded anew for every test."""
    return _load(folder)


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Student]:
    """Tiny students by family, each loaded once."""
    from tests.tiny_students import build

    root = tmp_path_factory.mktemp("students")
    found: dict[str, Student] = {}

    def load(family: str) -> Student:
        if family == "smolvlm":
            pytest.importorskip("num2words", reason="the processor of SmolVLM needs num2words")
        if family not in found:
            found[family] = _load(build(family, root / family))
        return found[family]

    return load


def _load(folder: Path) -> Student:
    from mint_core.config import StudentConfig
    from mint_core.students.load import load_student

    return load_student(StudentConfig(model=str(folder), device="cpu"))


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Starts servers, and stops them after the test."""
    from mint_core.answering import endpoint
    from tests.servers import Server

    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    servers = []

    def start(*script: object) -> Server:
        server = Server(*script)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.released.set()
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Imports everything once for all launches of two processes."""
    from tests.robustness.forks import Forks

    forks = Forks(tmp_path_factory.mktemp("nothing"))
    yield forks
    forks.close()


@pytest.fixture
def two_processes(forks: Forks, tmp_path: Path) -> Callable[..., tuple[list[int], str]]:
    """`mint` in two processes that torchrun could have started: their exit codes, and what they said on stderr."""

    def run(*arguments: object) -> tuple[list[int], str]:
        given = [str(tmp_path / "site"), [str(one) for one in arguments]]
        answer = forks.call(tmp_path, function="tests.two_processes:both", arguments=given)
        return answer.result, answer.err

    return run
