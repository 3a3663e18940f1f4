"""Opens the engine that a config names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mint_core.answering.endpoint import Endpoint, check_consent
from mint_core.answering.engine import Asking, Engine
from mint_core.answering.vllm import VllmEngine
from mint_core.config import StudentConfig
from mint_core.errors import ConfigError
from mint_core.students.load import load_student
from mint_core.types import Modality


@dataclass(frozen=True, slots=True)
class Who:
    """Whose answers are wanted."""

    student: StudentConfig | None
    """None where a server is asked."""
    path: str | None
    """A folder to load from instead of `student.model`: the embedded student."""
    adapter: Path | None
    """What the aligned student has; None where nobody is aligned."""
    modality: Modality


def open_engine(asking: Asking, who: Who, tell: Callable[[str], None], *, isolate: bool = False) -> Engine:
    """Loads the student, or connects to the server. The adapter is not put on yet (`Engine.put_on`).

    Args:
        asking: What is the same for all questions; its config names the engine.
        who: Whose answers are wanted.
        tell: Gets what the person who waits must know.
        isolate: A sample that cannot be answered is named as such and does not stop the others.

    Raises:
        ConfigError: The engine cannot do what is asked for.
        ModelError: The student cannot be loaded.
    """
    name = asking.config.engine
    if name == "endpoint":
        check_consent(asking.config.endpoint, who.modality)
        return Endpoint(asking)
    if who.student is None:
        raise ConfigError("Nobody is named who could answer; name a student, or an endpoint.")
    images = who.modality == "image"
    if name == "vllm":
        return VllmEngine(who.student, who.path, who.adapter, asking, tell, shows_images=images)
    from mint_core.answering.transformers import TransformersEngine

    student = load_student(who.student, who.path)
    return TransformersEngine(student, asking, shows_images=images, isolate=isolate)
