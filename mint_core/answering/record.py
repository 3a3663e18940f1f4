"""`mint.json`: what an adapter's folder says beside its weights, so that it can predict alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mint_core.errors import ModelError
from mint_core.types import Modality

FORMAT = 1
"""Raise it when an older mint could not use the file."""
NAME = "mint.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class TaskRecord(_Record):
    """The task that the adapter was trained for."""

    name: str
    version: str
    distribution: str
    config: Mapping[str, Any]
    """Without paths: they say where somebody's data lie, and no prediction needs them."""


class StudentRecord(_Record):
    """The student that the adapter was trained on."""

    model: str
    """Hugging Face id, absolute folder, or `embedded`."""
    revision: str | None
    """Commit of a Hugging Face id."""
    dtype: str
    attention: str
    fingerprint: str
    """See `mint_core.students.load.fingerprint`."""


class AdapterRecord(_Record):
    """The content of `mint.json`. It names labels and no patients."""

    format: int
    mint: str
    """Version of mint-core that wrote it."""
    task: TaskRecord
    student: StudentRecord
    header: str
    modality: Modality
    n: int
    """Labels that the student lists (N)."""
    simulated: bool
    """Whether it was trained on simulated data."""
    labels: tuple[str, ...]
    aliases: tuple[tuple[str, ...], ...]
    taught: tuple[str, ...] | None = None
    """The labels that are some training sample's first answer; None where an older mint did not say."""


def read_record(adapter: Path) -> AdapterRecord:
    """Reads `mint.json` in an adapter's folder.

    Raises:
        ModelError: There is none, it is damaged, or a newer mint wrote it.
    """
    if not adapter.is_dir():
        raise ModelError(f"There is no folder {adapter}; name the adapter/ folder of a run with --adapter.")
    try:
        content = json.loads((adapter / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(_missing(adapter)) from None
    except (OSError, ValueError):
        raise ModelError(f"{adapter / NAME} cannot be read; copy the adapter/ folder of its run again.") from None
    made = content.get("format") if isinstance(content, dict) else None
    if isinstance(made, int) and made > FORMAT:
        raise ModelError(
            f"{adapter / NAME} has format {made}, and this mint reads {FORMAT}; install a newer mint-core."
        )
    try:
        return AdapterRecord.model_validate(content)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise ModelError(
            f"{adapter / NAME} is damaged{f' at {place}' if place else ''}; copy the adapter/ folder of its run again."
        ) from None


def _missing(adapter: Path) -> str:
    if (adapter / "adapter" / NAME).is_file():
        return f"{adapter} is a run, not an adapter; give --adapter {adapter / 'adapter'}."
    return (
        f"{adapter} holds no {NAME}, which names task and labels: another program or an older mint made it; move the "
        "folder away and give the `mint run` command again, which trains the adapter anew."
    )
