"""Which checkpoint a training goes on from."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

from mint_core import processes

COMPLETE = "mint-complete"
"""Marks a checkpoint whose last byte is written; transformers would resume from the newest even when it is not."""


def usable_checkpoint(work: Path, steps: int) -> str | None:
    """The newest complete checkpoint of a training of so many steps, or None; those of others are deleted.

    A training that goes on with another number of processes has other steps: the old ones mean nothing for it.

    Args:
        work: The phase's folder.
        steps: All optimiser steps of the phase.
    """
    if processes.is_first():
        for state in work.glob("checkpoint-*/trainer_state.json"):
            with suppress(ValueError):  # half-written: its checkpoint is not complete either
                if json.loads(state.read_text(encoding="utf-8"))["max_steps"] != steps:
                    shutil.rmtree(state.parent)
    processes.wait()
    return newest_complete_checkpoint(work)


def newest_complete_checkpoint(work: Path) -> str | None:
    """The newest checkpoint whose writing was finished, or None."""
    complete = [path.parent for path in work.glob(f"checkpoint-*/{COMPLETE}")]
    return str(max(complete, key=lambda path: int(path.name.split("-")[1]))) if complete else None
