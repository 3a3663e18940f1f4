"""A sample of what `make robust` tries, and the whole where it is asked for with `-m slow`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.robustness.parts import PARTS
from tests.robustness.table import Trial, failures, table
from tests.robustness.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("robustness"))
    yield world
    world.close()


def test_every_part_tries_something_and_the_whole_tries_what_is_promised() -> None:
    assert set(PARTS) == {"kills", "power", "disks", "memory", "damage", "inputs", "canaries"}
    assert PARTS["kills"].whole >= 200
    assert PARTS["disks"].whole >= 50
    assert PARTS["memory"].whole >= 20


@pytest.mark.parametrize("name", PARTS)
def test_a_sample_survives(world: World, name: str) -> None:
    trials = list(PARTS[name].trials(world, PARTS[name].sample))
    assert trials
    assert not failures(trials)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_the_whole_survives(world: World, name: str) -> None:
    trials = list(PARTS[name].trials(world, PARTS[name].whole))
    assert len(trials) >= PARTS[name].whole
    assert not failures(trials)


def test_the_layer_meets_every_file_of_a_run(world: World) -> None:
    """A file that the layer did not see could be half-written without a trial that shows it."""
    met = {path.replace(".tmp", "") for kind, path in world.points("run") if kind in ("write", "rename")}
    made = {path.relative_to(world.ran).as_posix() for path in (world.ran / "runs" / "t").rglob("*") if path.is_file()}
    names = {Path(path).name for path in met}
    folders = {path for path in met if "/" in path}
    missed = {
        path
        for path in made
        if Path(path).name not in names and not any(path.startswith(f"{folder}/") for folder in folders)
    }
    assert missed <= {"runs/t/.lock"}
    kinds = {kind for kind, _ in world.points("run")}
    assert kinds >= {"rename", "write", "fsync", "mkdir", "unlink"}


def test_the_table_counts_what_failed() -> None:
    trials = [Trial("a", "1", "fine"), Trial("a", "2", "broken", survived=False), Trial("b", "1", "fine")]
    text = table(trials)
    assert "| a | 2 | 1 | 1 fine; 1 FAILED |" in text
    assert "| all | 3 | 2 | |" in text
    assert failures(trials) == ["a: 2: broken"]
