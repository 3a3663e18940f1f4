"""A run's preferences for other trainers: prompt, chosen and rejected as TRL takes them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mint_core.config import read_config, resolve
from mint_core.errors import ConfigError, DataError, StorageError
from mint_core.files import read_json, replaced, storage_errors
from mint_core.interfaces import Student
from mint_core.observer import Observer
from mint_core.plugins import registry
from mint_core.runs.record import RECORD
from mint_core.stages.outputs import PREFERENCES
from mint_core.stages.prompts import training_prompts
from mint_core.stages.run import Run
from mint_core.students.load import load_outline
from mint_core.students.prompts import render_messages, write_response
from mint_core.types import PreferenceGroup, Prompt, Response

FILE = "train.parquet"
_ROWS_PER_GROUP = 64

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Export:
    """What was written."""

    path: Path
    samples: int
    pairs: int
    """Rows: one per chosen x rejected pair."""
    weighted: int
    """Groups whose weights are left out, because TRL knows none."""
    images: bool


def export_to_trl(folder: Path, out: Path, observer: Observer | None = None) -> Export:
    """Writes the preferences of a run as Parquet that `datasets` and TRL's preference trainers take as it is.

    Columns: `prompt`, `chosen` and `rejected` as lists of role and content, and `images` where the student reads them.
    The turns are those that the run's student reads: with passages where they stand in the training prompts, without a
    system role where its chat template has none.

    Args:
        folder: The run folder; its preferences must be complete.
        out: Where to; patients' text and images go there.
        observer: Hears of the progress.

    Raises:
        ConfigError: The folder holds no run, or no preferences.
        DataError: The data are others than those of the run.
        StorageError: There is an export already, or the folder cannot be written.
    """
    run = _run(folder, observer or Observer())
    file = out / FILE
    if file.exists():
        raise StorageError(f"{file} exists already; choose another folder, or delete it.")
    groups = run.preferences()
    student = load_outline(run.resolved.config.student, run.student_path)
    prompts = training_prompts(run, student, groups).prompts
    images = "image" in run.task.modality
    rows = _rows(student, groups, prompts, run.task.header)
    with storage_errors(out):
        with replaced(file) as temporary:
            pairs = _write(temporary, rows, images=images)
        (out / "README.md").write_text(_card(run), encoding="utf-8")
    weighted = sum(bool(group.chosen_weights or group.rejected_weights) for group in groups)
    return Export(file, len(prompts), pairs, weighted, images)


def _run(folder: Path, observer: Observer) -> Run:
    """The run that made a folder, with its data."""
    record = folder / RECORD
    if not record.is_file():
        raise ConfigError(
            f"{folder} holds no run.json; name a run folder, for example runs/NAME (`mint runs` lists them)."
        )
    if not (folder / PREFERENCES).is_file():
        raise ConfigError(f"{folder} holds no preferences; make them with `mint prefer --config {record}`.")
    run = Run(resolve(read_config(record), registry()), folder, observer, folder.parent / ".cache")
    if run.data_fingerprint != read_json(record)["data"]["fingerprint"]:
        raise DataError(
            f"The data are no longer those of the run in {folder}; run `mint prefer --config {record}` again."
        )
    return run


def _rows(
    student: Student, groups: Sequence[PreferenceGroup], prompts: Mapping[str, Prompt], header: str
) -> Iterator[Row]:
    for group in groups:
        prompt = prompts[group.sample_id]
        turns = render_messages(prompt, student.processor, parts=student.reads_images)
        common: Row = {"prompt": [{"role": turn["role"], "content": _text(turn["content"])} for turn in turns]}
        if prompt.image is not None:
            stream = io.BytesIO()
            prompt.image.open().save(stream, "PNG")
            common["images"] = [{"bytes": stream.getvalue(), "path": None}]
        for chosen, rejected in product(group.chosen, group.rejected):
            yield {**common, "chosen": _answer(header, chosen), "rejected": _answer(header, rejected)}


def _text(content: Any) -> str:
    """Templates of image-text students take parts; TRL writes the image's part itself."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def _answer(header: str, response: Response) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": write_response(header, response)}]


def _write(file: Path, rows: Iterator[Row], *, images: bool) -> int:
    """Writes row by row; `datasets` finds its features in the file's metadata."""
    from datasets import Features, Image, Value

    turns = [{"role": Value("string"), "content": Value("string")}]
    features = dict.fromkeys(("prompt", "chosen", "rejected"), turns)
    schema = Features({**features, **({"images": [Image()]} if images else {})}).arrow_schema
    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while some := list(islice(rows, _ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))
            count += len(some)
    return count


def _card(run: Run) -> str:
    data = run.data
    lines = [
        f"# Preferences of the run {run.path.name}",
        "",
        *(["**Simulated data. They say nothing about patients.**", ""] if data.simulated else []),
        *(["**A quick run: a handful of samples.**", ""] if run.resolved.config.quick else []),
        f"- Data: {data.source}",
        *([f"- Licence of the data: {data.licence}"] if data.licence else []),
        f"- Teacher: {run.resolved.teacher.name}; strategy: {run.resolved.strategy.name}",
        "",
        f'    datasets.load_dataset("parquet", data_files="{FILE}")',
        "",
    ]
    return "\n".join(lines)
