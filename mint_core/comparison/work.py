"""The runs of a comparison: checked all together before the first one starts, then made one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mint_core.comparison.schedule import PlannedRun, Schedule
from mint_core.errors import MintError
from mint_core.observer import Observer
from mint_core.runs.checks import check_run
from mint_core.runs.folder import RunFolder
from mint_core.runs.keep import check_kept
from mint_core.runs.pipeline import RunResult, Shared, prepare, run_resolved, stages_of
from mint_core.stages.run import Run


def check(runs: Sequence[PlannedRun], shared: Shared, observer: Observer) -> None:
    """Refuses what does not fit config, data and machine, and what would be lost, before the first run.

    Raises:
        MintError: Something does not fit; the message begins with the row.
    """
    for run in runs:
        with _named(run):
            planned = stages_of(run.resolved, _last(run))
            coming = (run.first_adapter,) if run.first_adapter else ()
            seen = run_of(run, shared, observer)
            check_run(seen, [stage.name for stage in planned], coming)
            if not shared.overwrite and all(path.exists() for path in coming):
                check_kept(seen, RunFolder(path_of(run)), planned)


def prepare_all(runs: Sequence[PlannedRun], shared: Shared, observer: Observer) -> None:
    """Tries what runs need that were never complete: student, retriever, server.

    Raises:
        MintError: One of these cannot do what it will have to; the message begins with the row.
    """
    for run in runs:
        with _named(run):
            planned = stages_of(run.resolved, _last(run))
            if RunFolder(path_of(run)).manifest(planned[-1].name) is None:
                prepare(run_of(run, shared, observer, alone=True), planned, shared)


def make_all(runs: Sequence[PlannedRun], made: Schedule, shared: Shared, observer: Observer) -> list[RunResult]:
    """Makes runs of a comparison, in this order; complete stages are reused."""
    results = []
    places = {run.folder: place for place, run in enumerate(made.work, 1)}
    for run in runs:
        start = f", from the adapter of {run.starts_from}" if run.starts_from else ""
        observer.message(f"[{places[run.folder]}/{len(places)}] {run.title}{start}")
        results.append(run_resolved(run.resolved, until=_last(run), observer=observer, shared=shared))
    return results


def run_of(run: PlannedRun, shared: Shared, observer: Observer, *, alone: bool = False) -> Run:
    """What the stages of a run see; `alone`: as if it began from no other run's adapter."""
    resolved = (run.alone if alone else None) or run.resolved
    return Run(resolved, path_of(run), observer, shared.store.cache, shared.data)


def path_of(run: PlannedRun) -> Path:
    """Its folder."""
    return run.resolved.config.out / run.folder


def _last(run: PlannedRun) -> str:
    """The last stage that a comparison wants of a run."""
    return "label" if run.baseline else "report"


@contextmanager
def _named(run: PlannedRun) -> Iterator[None]:
    """Puts the row's name in front of what is wrong with it."""
    try:
        yield
    except MintError as error:
        raise type(error)(f"Row '{run.row.name}': {error}") from None
