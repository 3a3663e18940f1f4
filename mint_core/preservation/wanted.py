"""What is measured: which tasks, on which data, how many items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from mint_core.interfaces import ComponentConfig
from mint_core.preservation.local import local_tasks

H6 = ("mmlu", "truthfulqa_mc2", "hellaswag", "winogrande", "arc_challenge", "gsm8k")
"""The six benchmarks of the papers' Figure 2c, under the harness's names."""
H6_SHOTS = 5
SEED_BENCH = "seed-bench"


class Wanted(ComponentConfig):
    """What `mint preserve` measures."""

    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    suite: tuple[str, ...] = Field(
        ("local",),
        min_length=1,
        description="local = tasks of mint over files that you name; h6 = the papers' six, through the hub or its "
        "cache; or any task of the harness.",
    )
    data: tuple[str, ...] = Field((), description="Folders with the files of local tasks, or FILE_NAME=PATH.")
    include_path: tuple[str, ...] = Field(
        (), description="Folders with tasks of your own; Python code that they name is run."
    )
    limit: int | None = Field(None, ge=1, description="So many items of each task, drawn at random; outputs say so.")
    shots: int | None = Field(
        None, ge=0, le=1000, description="Solved examples in front of each item; null = as the task says, 5 for h6."
    )
    batch_size: int = Field(8, ge=1, le=65_536, description="Prompts per batch.")


def wanted_of(given: str | Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """What a user writes as plain data that means the same from every folder.

    Args:
        given: Names of suites joined by commas, a list of them, or a mapping with the keys of `Wanted`, in which a text
            may stand for a list of one.
    """
    plain: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {"suite": given}
    for key in ("suite", "data", "include_path"):
        value = plain.get(key)
        listed = [value] if isinstance(value, str) else value
        if key == "suite" and isinstance(listed, list | tuple) and all(isinstance(one, str) for one in listed):
            listed = [part.strip() for one in listed for part in one.split(",") if part.strip()]
        if key != "suite" and isinstance(listed, list | tuple):
            listed = [_whole(one) for one in listed]
        if listed is not None:
            plain[key] = listed
    return plain


def _whole(given: Any) -> Any:
    """A path, or the path in NAME=PATH, from the root on."""
    name, equals, path = str(given).partition("=")
    if equals and not Path(str(given)).exists():
        return f"{name}={Path(path).absolute()}"
    return str(Path(given).absolute()) if isinstance(given, str | Path) else given


def task_names(suite: Sequence[str]) -> dict[str, int | None]:
    """The tasks of all suites in order, each with its number of solved examples; None = as the task says."""
    found: dict[str, int | None] = {}
    for one in suite:
        if one == "local":
            found |= dict.fromkeys(local_tasks())
        elif one == "h6":
            found |= dict.fromkeys(H6, H6_SHOTS)
        else:
            found.setdefault(one, None)
    return found
