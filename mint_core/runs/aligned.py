"""A run whose student is there to be asked something else, and whose report tells of it afterwards."""

from __future__ import annotations

from pathlib import Path

from mint_core.config import merge, read_config, resolve
from mint_core.errors import ConfigError, MintError
from mint_core.observer import Observer
from mint_core.plugins import registry
from mint_core.runs.again import renew_report
from mint_core.runs.folder import RunFolder
from mint_core.runs.listing import COMPARISONS
from mint_core.runs.record import RECORD
from mint_core.runs.store import Store
from mint_core.stages.outputs import ADAPTER, REPORT
from mint_core.stages.run import Run


def open_run(path: Path, device: str | None, observer: Observer) -> Run:
    """A run from its record; nothing is loaded yet.

    Args:
        path: The run folder.
        device: Where the student computes; None = as the run says.
        observer: Hears of the progress.

    Raises:
        ConfigError: It is no run, or its adapter is not there yet.
    """
    if not (path / RECORD).is_file():
        raise ConfigError(f"{path} holds no run.json; name a run folder, for example runs/NAME.")
    layer = read_config(path / RECORD)
    if device:
        layer = merge(layer, {"student": {"device": device}})
    resolved = resolve(layer, registry())
    if resolved.aligner and not (path / ADAPTER).is_dir():
        raise ConfigError(f"{path} holds no adapter yet; train it with `mint align --config {path / RECORD}`.")
    return Run(resolved, path, observer, _cache(path))


def report_beside(run: Run, folder: RunFolder) -> None:
    """Makes the report anew where there is one; where it cannot be made, the user hears how to do it later."""
    if not (folder.path / REPORT).exists():
        return
    try:
        renew_report(folder)
    except MintError as error:
        run.observer.message(
            f"The report is as it was ({error}); `mint run --config {folder.path / RECORD}` renews it."
        )


def _cache(path: Path) -> Path:
    """The cache of the folder in which a run lies; runs of a comparison share the one above."""
    above = path.absolute().parent
    return Store(above.parent if any((above / name).exists() for name in COMPARISONS) else above).cache
