"""Processes that are killed, and power cuts, at the N-th change of a file; the same command again ends equal."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator

from tests.robustness.file_layer import Act
from tests.robustness.table import Trial
from tests.robustness.world import COMMANDS, World, half_states, is_a_bug

SHARES = {"run": 0.6, "compare": 0.3, "predict": 0.1}
"""Of the trials, by command; a run has most stages and checkpoints."""
EQUAL = "same command again, results equal"


def kills(world: World, count: int) -> Iterator[Trial]:
    """SIGKILL: what was handed to the operating system stays, what was not is gone."""
    yield from _ended(world, "kill", count)


def power_cuts(world: World, count: int) -> Iterator[Trial]:
    """SIGKILL, and what was not synced to the disk is lost: ends of files, the last changes of folders."""
    yield from _ended(world, "power", count)


def _ended(world: World, kind: str, count: int) -> Iterator[Trial]:
    for command, share in SHARES.items():
        points = world.points(command)
        draw = random.Random(f"{kind} {command}")
        wanted = round(share * count)
        if wanted <= len(points):
            chosen = draw.sample(range(len(points)), wanted)
        else:
            chosen = [draw.randrange(len(points)) for _ in range(wanted)]
        for number, at in enumerate(sorted(chosen)):
            yield _trial(world, command, Act(kind, at, number), points[at])


def _trial(world: World, command: str, act: Act, point: tuple[str, str]) -> Trial:
    """One kill and the same command again."""
    name = "kill" if act.kind == "kill" else "power cut"
    case = f"point {act.at}: {point[0]} {point[1]}"
    folder = world.start(command)
    ended = world.forks.call(folder, COMMANDS[command], act=act)
    visible = half_states(folder) if act.kind == "kill" else []
    again = world.forks.call(folder, COMMANDS[command])
    if ended.code not in (-signal.SIGKILL, 0):
        how = f"ended with {ended.code} before the point: {ended.told}"
    elif visible:
        how = f"half states: {', '.join(visible)}"
    elif again.code or is_a_bug(again):
        how = f"the same command ended with {again.code}: {again.told}"
    else:
        how = "; ".join(world.differences(folder, command))
    world.done(folder)
    return Trial(f"{name} in `mint {command}`", case, how or EQUAL, survived=not how)
