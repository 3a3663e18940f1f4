"""Several processes under torchrun: the first makes the run, the others join its training and wait in between."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mint_core.runs.stages import Context

_PATIENCE = timedelta(days=30)
"""The others wait while the first process labels and predicts."""


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that makes the run."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def joined() -> Iterator[None]:
    """Connects the processes that torchrun started, and lets the others go when the first one is done.

    After an error nobody is told anything: torchrun ends the others when one has failed, and they may be waiting for
    gradients.
    """
    if count() == 1:
        yield
        return
    import torch
    from torch import distributed

    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    yield
    if is_first():
        _tell(None)
    distributed.destroy_process_group()


def call_others(context: Context, work: Path) -> None:
    """Has the other processes train along. Does nothing in a process that was called, or that is alone.

    Args:
        context: The run.
        work: Working folder of its stage `align`, whose checkpoints all processes read.
    """
    if count() > 1 and is_first():
        _tell(
            {
                "config": context.resolved.dump(),
                "folder": str(context.folder.path),
                "cache": str(context.cache),
                "work": str(work),
            }
        )


def follow() -> None:
    """Trains along whenever the first process does, until it is done. The first one alone writes results."""
    from mint_core.config import resolve
    from mint_core.plugins import registry
    from mint_core.runs import stages
    from mint_core.runs.folder import RunFolder
    from mint_core.runs.observer import Observer

    while (task := _tell(None)) is not None:
        resolved = resolve(task["config"], registry())
        context = stages.Context(resolved, RunFolder(Path(task["folder"])), Observer(), Path(task["cache"]), {})
        with tempfile.TemporaryDirectory() as own:
            stages.align(context, Path(task["work"]), Path(own))


def _tell(task: dict[str, Any] | None) -> dict[str, Any] | None:
    """Hands the first process's task to all."""
    from torch import distributed

    box = [task]
    distributed.broadcast_object_list(box, src=0)
    return box[0]
