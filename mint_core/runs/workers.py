"""What the further processes of torchrun do: they join the stages that all processes work on."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mint_core import processes
from mint_core.config import resolve
from mint_core.observer import Observer
from mint_core.plugins import registry
from mint_core.stages import STAGES
from mint_core.stages.run import Run
from mint_core.stages.stage import Stage


def call(run: Run, stage: Stage, work: Path) -> None:
    """Has the other processes join a stage. Does nothing in a process that is alone.

    Args:
        run: The run.
        stage: One that is `joined`.
        work: Its working folder, whose checkpoints all processes read.
    """
    if processes.count() > 1 and processes.is_first():
        processes.tell(
            {
                "stage": stage.name,
                "config": run.resolved.dump(),
                "path": str(run.path),
                "cache": str(run.cache),
                "work": str(work),
            }
        )


def follow() -> None:
    """Joins stages until the first process is done, which alone writes results."""
    while (task := processes.listen()) is not None:
        run = Run(resolve(task["config"], registry()), Path(task["path"]), Observer(), Path(task["cache"]))
        stage = next(stage for stage in STAGES if stage.name == task["stage"])
        with tempfile.TemporaryDirectory() as own:
            stage.make(run, Path(task["work"]), Path(own))
