"""Full disks: a real one of a few hundred KiB where one may be mounted, else every write from the N-th on refused."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mint_core.errors import StorageError
from tests.robustness.file_layer import Act
from tests.robustness.forks import Answer
from tests.robustness.table import Trial
from tests.robustness.world import COMMANDS, World, half_states, is_told

FULL = StorageError.exit_code
"""The exit code of a full disk."""
TOLD = "exit 8, one sentence; with space the same command ends equal"
_SHARES = {"run": 0.6, "compare": 0.2, "predict": 0.2}
_PAGE = 4096
_TYPE = "tmpfs"


def full_disks(world: World, count: int) -> Iterator[Trial]:
    """Half of them real, where a disk can be mounted; the rest in the file layer."""
    real = count // 2 if _may_mount(world.path) else 0
    for command, share in _SHARES.items():  # a sample leaves the smaller shares out
        yield from _refused(world, command, round(share * (count - real)))
        if real:
            yield from _mounted(world, command, round(share * real))


def _refused(world: World, command: str, count: int) -> Iterator[Trial]:
    """The N-th write, and all after it, fail with ENOSPC."""
    points = world.points(command)
    writes = [at for at, (kind, _) in enumerate(points) if kind in ("write", "create", "mkdir")]
    draw = random.Random(f"full {command}")
    for at in sorted(draw.sample(writes, min(count, len(writes)))):
        folder = world.start(command)
        full = world.forks.call(folder, COMMANDS[command], act=Act("full", at))
        how = _judge(world, folder, command, full)
        world.done(folder)
        case = f"no space from point {at} on: {points[at][0]} {points[at][1]}"
        yield Trial(f"full disk in `mint {command}`, injected", case, how or TOLD, survived=not how)


def _mounted(world: World, command: str, count: int) -> Iterator[Trial]:
    """A disk that holds less than the command writes."""
    begin = world.start(command)
    least = _taken(begin)
    answer = world.forks.call(begin, COMMANDS[command])
    assert answer.code == 0, answer.err
    need = _taken(begin) - least  # what lies there in the end; on the way it is more
    world.done(begin)
    draw = random.Random(f"mounted {command}")
    for _ in range(count):
        # A disk is asked for by the page; some have so little left that not even a folder fits.
        room = draw.randrange(_PAGE, max(need, 4 * _PAGE), _PAGE)
        template = world.start(command)
        folder = world.folder()
        shutil.rmtree(folder)
        folder.mkdir()
        _mount(folder, "64m")
        try:
            shutil.copytree(template, folder, dirs_exist_ok=True)
            _resize(folder, _blocks(folder) + room)
            full = world.forks.call(folder, COMMANDS[command])
            if full.code == 0:  # the disk was large enough: nothing to judge but the result
                how, end = "; ".join(world.differences(folder, command)), "it was large enough, results equal"
            else:
                how, end = _judge(world, folder, command, full, grow=True), TOLD
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        world.done(folder)
        world.done(template)
        yield Trial(
            f"full disk in `mint {command}`, {_TYPE}", f"{room // 1024} KiB of room", how or end, survived=not how
        )


def _judge(world: World, folder: Path, command: str, full: Answer, *, grow: bool = False) -> str:
    """What went wrong; empty where all is right."""
    if not is_told(full, {FULL}):
        return f"exit {full.code}: {full.told}"
    if "full" not in full.told:
        return f"the sentence does not say that the disk is full: {full.told}"
    if visible := half_states(folder):
        return f"half states: {', '.join(visible)}"
    if grow:
        _resize(folder, 2**26)
    again = world.forks.call(folder, COMMANDS[command])
    if again.code:
        return f"with space the same command ends with {again.code}: {again.told}"
    return "; ".join(world.differences(folder, command))


@cache
def _may_mount(place: Path) -> bool:
    probe = place / "mount"
    probe.mkdir()
    try:
        _mount(probe, "1m")
    except (OSError, subprocess.CalledProcessError):
        return False
    subprocess.run(["umount", str(probe)], check=True)
    return True


def _mount(folder: Path, size: str) -> None:
    subprocess.run(
        ["mount", "-t", _TYPE, "-o", f"size={size},mode=0700", "none", str(folder)], check=True, capture_output=True
    )


def _resize(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True, capture_output=True)


def _blocks(folder: Path) -> int:
    """Bytes that are taken on a mounted disk."""
    usage = shutil.disk_usage(folder)
    return usage.used


def _taken(folder: Path) -> int:
    """Bytes of all files, in whole pages."""
    return sum(-(-path.stat().st_size // _PAGE) * _PAGE for path in folder.rglob("*") if path.is_file())
