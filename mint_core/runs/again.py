"""The report of a finished run made again, from what its folder holds: no data are read and no stage runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mint_core.config import read_config, resolve
from mint_core.errors import ConfigError, MintError
from mint_core.files import access, digest_of, read_json, write_json
from mint_core.observer import Observer
from mint_core.plugins import registry
from mint_core.runs.folder import RunFolder
from mint_core.runs.record import RECORD, peak_memory, record_of
from mint_core.stages import STAGES
from mint_core.stages.outputs import REPORT
from mint_core.stages.run import Run
from mint_core.stages.stage import Manifest
from mint_core.types import LabelSpace, TaskData


def report_again(folder: Path) -> Path:
    """Makes report.html of a run again.

    Args:
        folder: The run folder; it may have been moved, and its data need not be there.

    Returns:
        The page.

    Raises:
        ConfigError: The folder holds no run, or the run is not evaluated.
    """
    *before, stage = STAGES
    path = folder / RECORD
    if not path.is_file():
        raise ConfigError(f"{folder} holds no {RECORD}; name a run folder or a comparison: `mint runs` lists them.")
    resolved = resolve(read_config(path), registry())
    recorded = _record(path)
    begin = time.monotonic()
    with access(resolved.config.access, folder), RunFolder(folder) as place:
        known = {digest_of(resolved.task.record): _data(recorded["data"])}
        run = Run(resolved, folder, Observer(), folder.parent / ".cache", known, command=recorded.get("command"))
        for one in before:
            if one.belongs_to(resolved):
                run.made[one.name] = _complete(place, one.name, recorded)
        inputs = stage.all_inputs(run)
        key = digest_of(inputs)
        work = place.workspace(stage.name, key)
        facts = stage.make(run, work, work / "out")
        seconds = time.monotonic() - begin
        made = place.commit(stage.name, key, inputs, seconds=seconds, peak=peak_memory(), facts=facts)
        recorded["stages"][stage.name] = record_of(made, current=True)
        write_json(path, recorded)
    return folder / REPORT


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


def _complete(place: RunFolder, stage: str, recorded: Mapping[str, Any]) -> Manifest:
    """The manifest of a stage that this config made.

    Raises:
        ConfigError: It is not complete, or was made from another config than the one in run.json.
    """
    manifest = place.manifest(stage)
    told = recorded["stages"].get(stage, {})
    if (
        manifest is None
        or not told.get("current")
        or told["key"] != manifest.key
        or not place.complete(stage, manifest.key)
    ):
        raise ConfigError(
            f"The run in {place.path} is not finished (its stage '{stage}' is not complete); go on with "
            f"`mint run --config {place.path / RECORD}`."
        )
    return manifest


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
