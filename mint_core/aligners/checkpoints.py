"""Which checkpoint a training goes on from: the newest whose files are all as they were written."""

from __future__ import annotations

import shutil
import warnings
from contextlib import suppress
from pathlib import Path

from mint_core import processes
from mint_core.files import read_json, seal, sealed

COMPLETE = "mint-complete"
"""Marks a checkpoint whose last byte is on the disk, with the digest of each file."""


def complete(checkpoint: Path) -> None:
    """Marks a checkpoint as complete; every process has written its part."""
    seal(checkpoint, COMPLETE)


def usable_checkpoint(work: Path, steps: int) -> str | None:
    """The newest usable checkpoint of a training of so many steps, or None; all others are deleted.

    A training that goes on with another number of processes has other steps: the old ones mean nothing for it.

    Args:
        work: The phase's folder.
        steps: All optimiser steps of the phase.
    """
    if processes.is_first():
        for checkpoint in _newest_first(work):
            if not (checkpoint / COMPLETE).is_file() or _steps(checkpoint) not in (steps, None):
                shutil.rmtree(checkpoint)
            elif not sealed(checkpoint, COMPLETE):
                warnings.warn(f"{checkpoint.name} is damaged; the training goes on from the one before.", stacklevel=2)
                shutil.rmtree(checkpoint)
    processes.wait()
    return next(map(str, _newest_first(work)), None)


def _newest_first(work: Path) -> list[Path]:
    found = [path for path in work.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lambda path: -int(path.name.removeprefix("checkpoint-")))


def _steps(checkpoint: Path) -> int | None:
    """All steps of the training that a checkpoint belongs to; None where it does not say."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return int(read_json(checkpoint / "trainer_state.json")["max_steps"])
    return None
