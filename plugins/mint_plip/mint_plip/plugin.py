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
    """Teachers with a dual encoder: `clip` for any image task, and `plip`."""
    from mint_plip.clip_teacher import ClipTeacher
    from mint_plip.teacher import Plip

    return [ClipTeacher, Plip]
