"""`preserve`: what alignment cost a student in general ability, measured beside a run or for a student alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mint_core.config import RUN_NAME, Resolved, StudentConfig, is_embedded, validated
from mint_core.errors import ConfigError
from mint_core.files import access, storage_errors, write_json
from mint_core.libraries import quiet_libraries
from mint_core.observer import Observer
from mint_core.preservation.harness import Asked
from mint_core.preservation.measure import Measured, Subject, measure, write_items
from mint_core.preservation.results import CONTENT, FIGURE, ITEMS, draw
from mint_core.preservation.wanted import Wanted, wanted_of
from mint_core.runs.aligned import open_run, report_beside
from mint_core.runs.folder import RunFolder
from mint_core.runs.record import RECORD
from mint_core.runs.store import Store
from mint_core.stages.card import add_preservation
from mint_core.stages.outputs import ADAPTER
from mint_core.stages.run import Run
from mint_core.students.adapter_files import check_files
from mint_core.students.load import identity


@dataclass(frozen=True, slots=True)
class Preservation:
    """What came of it."""

    path: Path
    """The folder with preserve.json, the figure, and the value of every item."""
    content: Mapping[str, Any] = field(repr=False)
    """Content of preserve.json."""


@quiet_libraries()
def preserve(
    run: str | Path | None = None,
    *,
    student: str | Mapping[str, Any] | None = None,
    suite: str | Sequence[str] = "local",
    data: str | Path | Sequence[str | Path] = (),
    include_path: str | Path | Sequence[str | Path] = (),
    limit: int | None = None,
    shots: int | None = None,
    batch_size: int = 8,
    device: str | None = None,
    out: str | Path = "runs",
    name: str | None = None,
    observer: Observer | None = None,
) -> Preservation:
    """Measures general ability before and after alignment on the same items, with lm-evaluation-harness.

    Args:
        run: A run folder: its student with and without its adapter. The result goes there, into its report and into the
            adapter's card.
        student: Instead of a run: a student alone, as in a config.
        suite: `local`, `h6`, or tasks of the harness.
        data: Folders with the files of local tasks, or `FILE_NAME=PATH`.
        include_path: Folders with tasks of the user's own. Python code that their YAML names is run.
        limit: Only so many items of each task, drawn at random; every output says so.
        shots: Solved examples in front of each item; None = as the task says, 5 for h6.
        batch_size: Prompts per batch.
        device: Where the student computes; None = as the run says, else auto.
        out: For a student alone: the folder of all runs.
        name: For a student alone: name of the folder in `out`.
        observer: Hears of the progress; silent by default.

    Raises:
        MintError: Harness, tasks, data, student or adapter cannot be used; the message says what to do.
    """
    asked = {
        "suite": suite,
        "data": _texts(data),
        "include_path": _texts(include_path),
        "limit": limit,
        "shots": shots,
        "batch_size": batch_size,
    }
    wanted = validated(Wanted, wanted_of(asked), "preserve")
    observer = observer or Observer()
    if (run is None) == (student is None):
        raise ConfigError("`mint preserve` takes a run folder, or --student for a student alone: one of the two.")
    if run is None:
        return _alone(student, wanted, device, Path(out), name=name, observer=observer)
    return _beside(Path(run), wanted, device, observer)


def check_preservable(resolved: Resolved) -> None:
    """Refuses a run whose answers come from a server.

    Raises:
        ConfigError: They do.
    """
    if resolved.config.predict.engine == "endpoint":
        raise ConfigError("A model on a server is not asked for its general ability; `mint preserve` needs a student.")


def preserve_run(run: Run, wanted: Wanted, tasks: Sequence[Asked] | None = None) -> Measured:
    """Measures the student of a run, with its adapter where it has one; nothing is written but what is kept.

    Args:
        run: A run whose stages up to `align` are complete.
        wanted: What is measured.
        tasks: The same, where it is loaded already.
    """
    check_preservable(run.resolved)
    adapter = run.path / ADAPTER if run.resolved.aligner else None
    if adapter is not None:
        check_files(adapter)
    subject = Subject(run.resolved.config.student, run.student_path, run.student_identity(), adapter)
    return measure(subject, wanted, run.cache, run.observer, tasks)


def write_preserved(folder: Path, measured: Measured) -> None:
    """Writes what was measured into a folder, preserve.json last."""
    with storage_errors(folder):
        write_items(folder / ITEMS, measured)
        draw(measured.content, folder / FIGURE)
        write_json(folder / CONTENT, measured.content)


def finish(run: Run, folder: RunFolder, measured: Measured) -> None:
    """Writes what was measured into a run folder, its card and its report.

    Args:
        run: The run.
        folder: Its folder, which is locked.
        measured: What was measured.
    """
    write_preserved(folder.path, measured)
    if run.resolved.aligner:
        add_preservation(run.path / ADAPTER, measured.content)
    report_beside(run, folder)


def _texts(given: str | Path | Sequence[str | Path]) -> list[str]:
    return [str(given)] if isinstance(given, str | Path) else [str(one) for one in given]


def _alone(
    student: Any, wanted: Wanted, device: str | None, out: Path, *, name: str | None, observer: Observer
) -> Preservation:
    """A student without an adapter."""
    plain = dict(student) if isinstance(student, Mapping) else {"model": str(student)}
    config = validated(StudentConfig, {**plain, **({"device": device} if device else {})}, "student")
    if is_embedded(config.model):
        raise ConfigError("The embedded student belongs to a task; name a run folder, whose student it is.")
    if name is not None and not re.fullmatch(RUN_NAME, name):
        raise ConfigError(f"--name takes letters, digits, '.', '_' and '-', not '{name}'.")
    label = re.sub(r"[^A-Za-z0-9._]+", "-", Path(config.model).name).strip("-._") or "student"
    folder = out / (name or f"preserve-{label}")
    if (folder / RECORD).exists():
        raise ConfigError(f"{folder} is a run; give the folder as it is, without --student, or choose another --name.")
    cache = Store(out).cache
    with access("private", folder, cache):
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        measured = measure(Subject(config, None, identity(config, config.model), None), wanted, cache, observer)
        write_preserved(folder, measured)
    return Preservation(folder, measured.content)


def _beside(path: Path, wanted: Wanted, device: str | None, observer: Observer) -> Preservation:
    """A run's student, with and without its adapter."""
    run = open_run(path, device, observer)
    with access(run.resolved.config.access, path, run.cache), RunFolder(path) as folder:
        measured = preserve_run(run, wanted)
        finish(run, folder, measured)
    return Preservation(path, measured.content)
