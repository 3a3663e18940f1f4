"""What every component is given to work with, whatever its seam."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mint_core.types import LabelSpace


def _silent(count: int) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Context:
    """One for all six seams; a task is made before its labels are known."""

    labels: LabelSpace | None = None
    """The label space; None for a task."""
    n: int = 1
    """How many labels the student lists at inference (N)."""
    seed: int = 0
    device: str = "cpu"
    """A torch device string: `cpu`, `cuda`, `mps`."""
    cache: Path = Path("runs", ".cache")
    """A folder that lives longer than the run; what lies there must be named by content."""
    advance: Callable[[int], None] = _silent
    """Call it with the number of samples or passages just done."""
