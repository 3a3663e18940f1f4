"""Fixtures: plugins that are installed for one test, and the CLI in this process."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


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
