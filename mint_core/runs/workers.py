"""What the further processes of torchrun do: they train along whenever the first one does."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mint_core import processes
from mint_core.config import resolve
from mint_core.observer import Observer
from mint_core.plugins import registry
from mint_core.runs import stages
from mint_core.runs.context import Context
from mint_core.runs.folder import RunFolder


def call(context: Context, work: Path) -> None:
    """Has the other processes train along. Does nothing in a process that is alone.

    Args:
        context: The run.
        work: Working folder of its stage `align`, whose checkpoints all processes read.
    """
    if processes.count() > 1 and processes.is_first():
        processes.tell(
            {
                "config": context.resolved.dump(),
                "folder": str(context.folder.path),
                "cache": str(context.cache),
                "work": str(work),
            }
        )


def follow() -> None:
    """Trains along until the first process is done, which alone writes results."""
    while (task := processes.listen()) is not None:
        resolved = resolve(task["config"], registry())
        context = Context(resolved, RunFolder(Path(task["folder"])), Observer(), Path(task["cache"]), {})
        with tempfile.TemporaryDirectory() as own:
            stages.align(context, Path(task["work"]), Path(own))
