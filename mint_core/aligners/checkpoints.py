"""When a checkpoint is written, and which one a training goes on from: the newest whose files are as written."""

from __future__ import annotations

import shutil
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from mint_core import processes
from mint_core.files import read_json, seal, sealed
from mint_core.interrupts import Stop

COMPLETE = "mint-complete"
"""Marks a checkpoint whose last byte is on the disk, with the digest of each file."""


class Checkpoints(TrainerCallback):  # type: ignore[misc]  # transformers is untyped to mypy here
    """Saves behind the step in which it is time to, or in which the work is to end; marks complete checkpoints.

    All processes save and stop in the same step: the clock is that of the first one, and a signal may come to any.

    Args:
        minutes: After which a checkpoint is written in any case; None = never.
        stop: Asked by a signal, and by this callback where the signal came to another process.
    """

    _SAVE, _STOP = 1, 2

    def __init__(self, minutes: float | None, stop: Stop) -> None:
        self.seconds = None if minutes is None else 60 * minutes
        self.stop = stop
        self.saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Decides together with the other processes."""
        due = processes.is_first() and self.seconds is not None and time.monotonic() - self.saved >= self.seconds
        wanted = processes.largest(self._STOP if self.stop.asked else self._SAVE if due else 0)
        if wanted:
            control.should_save = True
        if wanted == self._STOP:
            control.should_training_stop = self.stop.asked = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Marks the checkpoint as complete, once every process has written its part."""
        self.saved = time.monotonic()
        processes.wait()
        if state.is_world_process_zero:
            complete(checkpoint_folder(args, state))


def checkpoint_folder(args: Any, state: Any) -> Path:
    """Where the checkpoint of the current step lies, from the Trainer's arguments and state."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def complete(checkpoint: Path) -> None:
    """Marks a checkpoint as complete; every process has written its part."""
    seal(checkpoint, COMPLETE)


def usable_checkpoint(work: Path, steps: int) -> Path | None:
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
    return next(iter(_newest_first(work)), None)


def _newest_first(work: Path) -> list[Path]:
    found = [path for path in work.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lambda path: -step_of(path))


def step_of(checkpoint: Path) -> int:
    """The step behind which a checkpoint was written."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _steps(checkpoint: Path) -> int | None:
    """All steps of the training that a checkpoint belongs to; None where it does not say."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return int(read_json(checkpoint / "trainer_state.json")["max_steps"])
    return None
