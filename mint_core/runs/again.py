"""The report of a finished run made again, from what its folder holds: no data are read and no stage runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mint_core.config import Resolved, read_config, resolve
from mint_core.errors import ConfigError, DataError, MintError
from mint_core.files import access, digest_of, read_json, write_json
from mint_core.observer import Observer
from mint_core.plugins import registry
from mint_core.preservation.results import read_preserved
from mint_core.report.checklist import Checklist, Known, fill
from mint_core.runs.folder import RunFolder
from mint_core.runs.record import RECORD, peak_memory, record_of
from mint_core.stages import STAGES
from mint_core.stages.card import add_results
from mint_core.stages.evaluate import LAYOUT
from mint_core.stages.outputs import ADAPTER, HISTORY, METRICS, REPORT
from mint_core.stages.run import Run
from mint_core.types import LabelSpace, TaskData


def report_again(folder: Path, *, with_images: bool = False) -> Path:
    """Makes report.html of a run again.

    Args:
        folder: The run folder; it may have been moved, and its data need not be there.
        with_images: Show the images that the student read; then the data must be there.

    Returns:
        The page.

    Raises:
        ConfigError: The folder holds no run, the run is not evaluated, or its student reads no images.
        DataError: The data are no longer those of the run.
    """
    path = folder / RECORD
    if not path.is_file():
        raise ConfigError(f"{folder} holds no {RECORD}; name a run folder or a comparison: `mint runs` lists them.")
    resolved = resolve(read_config(path), registry())
    with access(resolved.config.access, folder), RunFolder(folder) as place:
        _check_finished(place, resolved, _record(path))
        renew_report(place, with_images=with_images)
    return folder / REPORT


def renew_report(place: RunFolder, *, with_images: bool = False) -> None:
    """Makes the page of an evaluated run whose folder is held already from what lies there; see `report_again`.

    Raises:
        ConfigError: The run's numbers are those of another version of mint.
    """
    *before, stage = STAGES
    path = place.path / RECORD
    resolved = resolve(read_config(path), registry())
    recorded = _record(path)
    begin = time.monotonic()
    judged = place.manifest("evaluate")
    if judged is not None and judged.inputs.get("layout") != LAYOUT:
        raise ConfigError(
            f"The numbers in {place.path} were made by another version of mint; `mint run --config {path}` makes them "
            "again from the answers, without training."
        )
    known = {} if with_images else {digest_of(resolved.task.record): _data(recorded["data"])}
    run = Run(
        resolved,
        place.path,
        Observer(),
        place.path.parent / ".cache",
        known,
        command=recorded.get("command"),
        with_images=with_images,
    )
    if with_images:
        _check_images(run, recorded)
    for one in before:
        manifest = place.manifest(one.name) if one.belongs_to(resolved) else None
        if manifest is not None:
            run.made[one.name] = manifest
    inputs = stage.all_inputs(run)
    key = digest_of(inputs)
    work = place.workspace(stage.name, key)
    facts = stage.make(run, work, work / "out")
    seconds = time.monotonic() - begin
    made = place.commit(stage.name, key, inputs, seconds=seconds, peak=peak_memory(), facts=facts)
    if resolved.aligner:
        add_results(place.path / ADAPTER, run, read_json(place.path / METRICS))
    recorded["stages"][stage.name] = record_of(made, current=True)
    write_json(path, recorded)


def fill_checklist(folder: Path, name: str) -> Checklist:
    """Fills a reporting checklist in with what a finished run knows; nothing is written.

    Args:
        folder: The run folder.
        name: One of `mint_core.report.checklist.CHECKLISTS`.

    Raises:
        ConfigError: The folder holds no run, or the run is not evaluated.
    """
    path = folder / RECORD
    if not path.is_file():
        raise ConfigError(f"{folder} holds no {RECORD}; name a run folder: `mint runs` lists them.")
    resolved, recorded = resolve(read_config(path), registry()), _record(path)
    with RunFolder(folder) as place:
        _check_finished(place, resolved, recorded)
        history = read_json(folder / HISTORY) if resolved.aligner else None
        preserved = read_preserved(folder, folder / ADAPTER)
        return fill(name, Known(recorded, read_json(folder / METRICS), history, preserved))


def _record(path: Path) -> dict[str, Any]:
    """Content of run.json.

    Raises:
        ConfigError: It does not say what a report needs.
    """
    content: dict[str, Any] = read_json(path)
    try:
        _data(content["data"])
        _ = [told["key"] for told in content["stages"].values()]
    except (KeyError, TypeError, AttributeError, MintError):
        raise ConfigError(f"{path} is damaged; give the `mint run` command again.") from None
    return content


def _check_images(run: Run, recorded: Mapping[str, Any]) -> None:
    """Refuses to show images where the student read none, or where others lie there now.

    Raises:
        ConfigError: It reads text.
        DataError: The data are others than those of the run, or not there.
    """
    if "image" not in run.task.modality:
        raise ConfigError(f"The student of {run.path} reads text, so that there are no images to show.")
    try:
        same = run.data_fingerprint == recorded["data"]["fingerprint"]
    except MintError as error:
        raise DataError(f"--with-images needs the data of the run: {error}") from error
    if not same:
        raise DataError(f"The data are no longer those of the run in {run.path}; leave --with-images out.")


def _check_finished(place: RunFolder, resolved: Resolved, recorded: Mapping[str, Any]) -> None:
    """Refuses a run one of whose stages is not complete, or was made from another config than the one in run.json.

    Raises:
        ConfigError: It is such a run.
    """
    for stage in (one.name for one in STAGES[:-1] if one.belongs_to(resolved)):
        manifest, told = place.manifest(stage), recorded["stages"].get(stage, {})
        current = manifest is not None and told.get("current") and told["key"] == manifest.key
        if not (current and manifest and place.complete(stage, manifest.key)):
            raise ConfigError(
                f"The run in {place.path} is not finished (its stage '{stage}' is not complete); go on with "
                f"`mint run --config {place.path / RECORD}`."
            )


def _data(recorded: Mapping[str, Any]) -> TaskData:
    """What a report says of the data, as run.json has it; the samples are elsewhere."""
    return TaskData(
        (),
        LabelSpace(tuple(recorded["labels"])),
        recorded["source"],
        recorded["simulated"],
        recorded["licence"],
        recorded["facts"],
    )
