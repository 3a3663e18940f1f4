"""`mint.json`: what an adapter's folder says beside its weights, so that it can predict alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mint_core.errors import DataError, ModelError
from mint_core.files import digest_of, read_json, write_json
from mint_core.students.adapter_files import RECORD, changed_files, explain_change, explain_other_folder
from mint_core.types import LabelSpace, Modality

FORMAT = 1
"""Raise it when an older mint could not use the file."""
NAME = RECORD
_SEAL = "digest"
"""Key of the digest of all the others in the file."""


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
    chat_date: date | None = None
    """What its chat template took for today; None where an older mint did not say."""
    chat_template_kwargs: Mapping[str, Any] = Field(default_factory=dict)
    """What was set in its chat template."""
    quantize: Literal["none", "nf4", "int8"] = "none"
    """How its weights were held while the adapter was trained."""
    double_quantize: bool = True
    gguf: Mapping[str, Any] | None = None
    """What its GGUF file was quantised from and how; None where it is none."""


class FileRecord(_Record):
    """A file beside `mint.json`."""

    bytes: int
    digest: str


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
    quick: bool = False
    """Whether a quick run made it."""
    labels: tuple[str, ...]
    aliases: tuple[tuple[str, ...], ...]
    taught: tuple[str, ...] | None = None
    """The labels that are some training sample's first answer; None where an older mint did not say."""
    files: Mapping[str, FileRecord] | None = None
    """The files that decide what the adapter answers, by name; None where an older mint did not say."""


def write_record(adapter: Path, record: AdapterRecord) -> None:
    """Writes `mint.json`, with a digest of what it says.

    Args:
        adapter: The adapter's folder.
        record: What it says.
    """
    content = record.model_dump(mode="json")
    write_json(adapter / RECORD, {**content, _SEAL: digest_of(content)})


def read_record(adapter: Path) -> AdapterRecord:
    """Reads `mint.json` in an adapter's folder.

    Raises:
        ModelError: There is none, it is damaged, or a newer mint wrote it.
    """
    content = _content(adapter)
    made = content.get("format") if isinstance(content, dict) else None
    if isinstance(made, int) and made > FORMAT:
        raise ModelError(
            f"{adapter / RECORD} has format {made}, and this mint reads {FORMAT}; install a newer mint-core."
        )
    try:
        record = AdapterRecord.model_validate(content)
        _ = LabelSpace(record.labels, record.aliases)
    except DataError as error:
        raise ModelError(f"{adapter / RECORD} is damaged at labels ({error}).") from None
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise ModelError(
            f"{adapter / RECORD} is damaged{f' at {place}' if place else ''}; copy the run's adapter/ again."
        ) from None
    return record


def _content(adapter: Path) -> Any:
    if not adapter.is_dir():
        raise ModelError(f"There is no folder {adapter}; name the adapter/ folder of a run with --adapter.")
    try:
        return read_json(adapter / RECORD)
    except FileNotFoundError:
        raise ModelError(_missing(adapter)) from None
    except (OSError, ValueError):
        raise ModelError(f"{adapter / RECORD} cannot be read; copy the adapter/ folder of its run again.") from None


def what_changed(adapter: Path, record: AdapterRecord, *, weights: bool) -> str:
    """One sentence on what lies in an adapter's folder and is not what its training left there; empty = nothing.

    An adapter of an older mint says nothing about its files, and passes.

    Args:
        adapter: The adapter's folder.
        record: What `mint.json` says.
        weights: Look at the files beside `mint.json` too: a model on a server needs none of them.
    """
    content = _content(adapter)
    seal = content.pop(_SEAL, None)
    changed = [RECORD] if seal is not None and seal != digest_of(content) else []
    if weights and record.files is not None:
        changed += changed_files(adapter, {name: about.model_dump() for name, about in record.files.items()})
    return explain_change(adapter, changed) if changed else ""


def _missing(adapter: Path) -> str:
    if other := explain_other_folder(adapter, "--adapter "):
        return other
    return (
        f"{adapter} holds no {RECORD}, which names task and labels: another program or an older mint made it; move the "
        "folder away and give the `mint run` command again, which trains the adapter anew."
    )
