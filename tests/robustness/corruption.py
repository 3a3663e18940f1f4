"""Damaged files: every file that a command leaves x every damage; then the same command, a comparison and a prediction.

What is right: the file is made again with the same bytes, or the command refuses with a sentence and a documented exit
code, or the file decides nothing. Never: another result, or an error that nobody foresaw.
"""

from __future__ import annotations

import itertools
import pickle
import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mint_core.files import NOTES
from tests.robustness.file_layer import Act
from tests.robustness.forks import Answer
from tests.robustness.table import Trial
from tests.robustness.world import COMMANDS, World, is_told

EQUAL, REFUSED = "results equal", "refused with a sentence and a documented exit code"
CODE = "code-in-a-pickle-ran"
"""A file that the pickle writes when somebody loads it."""


class _Live:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (CODE, "w"))


def _flip(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    else:
        data = bytearray(b"\x01")
    path.write_bytes(data)


def _truncate(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: draw.randrange(max(1, len(data)))])


def _empty(path: Path, draw: random.Random) -> None:
    path.write_bytes(b"")


def _delete(path: Path, draw: random.Random) -> None:
    path.unlink()


def _pickle(path: Path, draw: random.Random) -> None:
    path.write_bytes(pickle.dumps(_Live()))


def _folder(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "flip a bit": _flip,
    "truncate": _truncate,
    "empty": _empty,
    "delete": _delete,
    "replace by a pickle": _pickle,
    "replace by a folder": _folder,
}
_NOT = re.compile(r".*\.lock|.*\.yaml|notes\.jsonl")
"""Locks, and what the user wrote."""


def matrix(world: World, count: int) -> Iterator[Trial]:
    """All combinations, or as many of them as are asked for.

    Args:
        world: Where.
        count: How many; 0 = all.
    """
    cases = list(_cases(world))
    if count:
        cases = random.Random("corruption").sample(cases, min(count, len(cases)))
    for place, command, file, damage in cases:
        yield _trial(world, place, command, file, damage)


def _cases(world: World) -> Iterator[tuple[str, str, str, str]]:
    """Where we begin from, the command, the file, the damage."""
    finished = _files(world.finished)
    for file, damage in itertools.product(finished, DAMAGES):
        if file.startswith(("runs/t/", "runs/.cache/")):
            yield "finished", "run", file, damage
        if file.startswith(("runs/c/", "runs/.cache/")):
            yield "finished", "compare", file, damage
        if file.startswith(("runs/t/adapter/", "answers")):
            yield "finished", "predict", file, damage
    for file, damage in itertools.product(_files(interrupted(world)), DAMAGES):
        yield "interrupted", "run", file, damage


def _files(folder: Path) -> list[str]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in names if not _NOT.fullmatch(name)]


@cache
def interrupted(world: World) -> Path:
    """A trial folder whose run was killed while it wrote its last checkpoint; those before are complete."""
    points = world.points("run")
    first = next(at for at, (_, path) in enumerate(points) if "checkpoint-4/" in path)
    folder = world.folder()
    world.forks.call(folder, COMMANDS["run"], act=Act("kill", first + 1))
    return folder


def _trial(world: World, place: str, command: str, file: str, damage: str) -> Trial:
    template = world.finished if place == "finished" else interrupted(world)
    folder = world.folder(template)
    if command == "predict" and not file.startswith("answers"):
        for path in folder.glob("*answers*"):
            path.unlink()  # otherwise everything is answered already
    DAMAGES[damage](folder / file, random.Random(f"{file} {damage}"))
    answer = world.forks.call(folder, COMMANDS[command])
    how, end = _judge(world, folder, command, answer, file, place)
    world.done(folder)
    kind = f"damaged files of what was {place}, `mint {command}`"
    return Trial(kind, f"{file}: {damage}", how or end, survived=not how)


def _judge(world: World, folder: Path, command: str, answer: Answer, file: str, place: str) -> tuple[str, str]:
    """What went wrong, and how it ended."""
    if list(folder.rglob(CODE)):
        return "code in the file was run", ""
    if answer.code:
        if place == "interrupted":
            return f"not made again: exit {answer.code}: {answer.told}", ""
        return ("", REFUSED) if is_told(answer) else (f"exit {answer.code}: {answer.told}", "")
    found = [one for one in world.differences(folder, command) if not _is_elsewhere(one, file, command)]
    return "; ".join(found), EQUAL


def _is_elsewhere(difference: str, file: str, command: str) -> bool:
    """A damage that decides nothing: a note for people, or a file of the run folder that a prediction does not read."""
    noted = Path(file).suffix in NOTES and file in difference
    return noted or (command == "predict" and difference.startswith("runs/"))
