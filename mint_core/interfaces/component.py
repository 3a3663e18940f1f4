"""What all components share: a name, a typed config, a version, and what they are given to work with."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from mint_core.errors import ContractError
from mint_core.types import LabelSpace

if TYPE_CHECKING:
    from mint_core.interfaces.task import Task

MAX_SEED = 2**32 - 1
"""The largest seed that all libraries below take."""


class ComponentConfig(BaseModel):
    """Base of every component's nested `Config`: frozen, no unknown keys, no NaN or infinity.

    Errors never quote the input. Give every number a largest value too (`le=`): what is absurd is then refused before
    anything is read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)
    neutral: ClassVar[frozenset[str]] = frozenset()
    """Options that change no result (a batch size, the number of workers): stages are reused when they change."""
    later: ClassVar[frozenset[str]] = frozenset()
    """Options that came after runs were made without them: at their defaults they are in no key, so that those runs
    stay as they are."""
    of_one_model: ClassVar[frozenset[str]] = frozenset()
    """Options that say nothing about another `model`: a layer of the config that names another one drops them."""


C = TypeVar("C", bound=ComponentConfig)


def _silent(count: int) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Context:
    """One for all six seams; a task is made before its labels are known."""

    labels: LabelSpace | None = None
    """The label space; None for a task that loads its data, known to one that reads new samples."""
    n: int = 1
    """How many labels the student lists at inference (N)."""
    seed: int = 0
    device: str = "cpu"
    """A torch device string: `cpu`, `cuda`, `mps`."""
    cache: Path = Path("runs", ".cache")
    """A folder that lives longer than the run; what lies there must be named by content."""
    advance: Callable[[int], None] = _silent
    """Call it with the number of samples or passages just done."""
    task: Task | None = None
    """The task of the run, for teachers that ask its question; None where there is no run."""


class Component(ABC, Generic[C]):
    """Base of the six seams.

    A component is a class with `name`, a nested `Config` whose fields all carry a description, and a docstring.
    Importing its module must not import torch: heavy imports stand inside the methods.

    Args:
        config: A validated `Config`; its defaults where absent.
        context: Labels, seed, device and the like.
    """

    name: ClassVar[str]
    """What the user writes: lower case, words joined by hyphens."""
    kind: ClassVar[str]
    """The seam: task, teacher, strategy, aligner, retriever or metric."""
    version: ClassVar[str] = "1"
    """Raise it when the same input gives another output: stages that used the old one run again."""
    tasks: ClassVar[tuple[str, ...]] = ()
    """Names of the tasks that it serves; empty = any. A run that pairs it with another is refused at once."""
    Config: ClassVar[type[Any]] = ComponentConfig

    def __init__(self, config: C | None = None, context: Context | None = None) -> None:
        self.config: C = self.Config() if config is None else config
        self.context = Context() if context is None else context

    @property
    def labels(self) -> LabelSpace:
        """The label space.

        Raises:
            ContractError: The component was made without one.
        """
        if self.context.labels is None:
            raise ContractError(f"The {self.kind} '{self.name}' was made without a label space.")
        return self.context.labels
