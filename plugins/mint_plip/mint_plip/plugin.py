"""What mint-plip registers."""

from __future__ import annotations

from mint_core.plugin import Task, Teacher, hookimpl


@hookimpl
def mint_tasks() -> list[type[Task]]:
    """The tissue-type task."""
    from mint_plip.task import TissueType

    return [TissueType]


@hookimpl
def mint_teachers() -> list[type[Teacher]]:
    """The PLIP teacher."""
    from mint_plip.teacher import Plip

    return [Plip]
