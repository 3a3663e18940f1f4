"""What mint-gestalt registers."""

from __future__ import annotations

from mint_core.plugin import Task, Teacher, hookimpl


@hookimpl
def mint_tasks() -> list[type[Task]]:
    """The rare-disease task."""
    from mint_gestalt.task import RareDisease

    return [RareDisease]


@hookimpl
def mint_teachers() -> list[type[Teacher]]:
    """The teachers, and the sanity row."""
    from mint_gestalt.regression import Regression
    from mint_gestalt.teacher import Gestalt

    return [Gestalt, Regression]
