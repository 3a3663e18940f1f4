"""The small students that tasks bring along, as `student.model` names them."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from mint_core.config.schema import EMBEDDED
from mint_core.interfaces import EmbeddedStudent, Task
from mint_core.plugins import Registry


def is_embedded(model: str) -> bool:
    """Whether a task brings the student: `embedded`, or `embedded:TASK` for another task's."""
    return model == EMBEDDED or model.startswith(f"{EMBEDDED}:")


def embedded_student(model: str, task: Task, components: Registry) -> EmbeddedStudent | None:
    """The embedded student that is meant.

    Args:
        model: `student.model`.
        task: The run's own task.
        components: What is installed.

    Returns:
        None where another kind of student is named, or the task brings none. What a borrowed student needs of the task
        that brings it is left out where the run's task has no such option.

    Raises:
        ConfigError: There is no task of the name behind `embedded:`.
    """
    if not is_embedded(model):
        return None
    name = model.partition(":")[2] or task.name
    if name == task.name:
        return task.embedded_student()
    found = cast(Task, components.get("task", name).make()).embedded_student()
    if found is None:
        return None
    known = type(task).Config.model_fields
    own = {key: value for key, value in found.overrides.get("task", {}).items() if key in known}
    return replace(found, overrides={**found.overrides, "task": own})
