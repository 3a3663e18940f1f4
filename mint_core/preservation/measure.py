"""From tasks to numbers: base and adapter on the same items, each task kept as soon as it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mint_core.config import StudentConfig
from mint_core.errors import ConfigError, ContractError
from mint_core.evaluation.statistics import correct, estimate, paired
from mint_core.files import digest_of, read_json, seal_file, sealed_file, storage_errors, write_json
from mint_core.observer import Observer
from mint_core.preservation.harness import Asked, Model, Values, harness_version, load_tasks
from mint_core.preservation.wanted import Wanted
from mint_core.students.adapter import load_adapter
from mint_core.students.adapter_files import describe_files
from mint_core.students.load import load_student

BASE, ALIGNED = "base", "aligned"
FORMAT = 1
"""Of what is kept: raise it when the same task would give other values."""
_FIRST = ("acc_norm", "acc")
"""Which of a task's metrics stands in the table; of the others the first that the task names."""
_HOW: dict[str, Any] = {"draws": 2000, "confidence": 0.95, "seed": 0}


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose abilities are measured."""

    student: StudentConfig
    path: str | None
    """A folder to load from instead of `student.model`: the embedded student."""
    identity: Mapping[str, Any]
    """What decides the student's answers: weights, precision, settings."""
    adapter: Path | None
    """None = the student alone."""

    @property
    def who(self) -> tuple[str, ...]:
        """Who answers."""
        return (BASE,) if self.adapter is None else (BASE, ALIGNED)

    @property
    def adapter_files(self) -> dict[str, Any] | None:
        """Size and digest of the adapter's files; None without one."""
        return None if self.adapter is None else describe_files(self.adapter)


@dataclass(frozen=True, slots=True)
class Measured:
    """What every item of every task scored."""

    tasks: tuple[Asked, ...]
    values: Mapping[str, Mapping[str, Values]]
    """By task, and `base` or `aligned`."""
    content: Mapping[str, Any]
    """Content of preserve.json."""


def measure(
    subject: Subject, wanted: Wanted, cache: Path, observer: Observer, tasks: Sequence[Asked] | None = None
) -> Measured:
    """Asks a student with and without its adapter.

    Args:
        subject: Whom.
        wanted: What.
        cache: Where each task's values are kept by content; what is there and whole is not asked again.
        observer: Hears of the progress.
        tasks: What is wanted, where it is loaded already.

    Raises:
        ConfigError: The harness is not here, or it knows no such task.
        DataError: A task's data are not here.
        ModelError: The student or the adapter cannot be loaded.
        ContractError: A task asked base and adapter differently.
    """
    observer.stage("preserve", reused=False)
    tasks = load_tasks(wanted) if tasks is None else tasks
    begin = time.monotonic()
    open_model = _once(lambda: _open(subject, wanted))
    values: dict[str, dict[str, Values]] = {task.name: {} for task in tasks}
    work = [(task, who) for task in tasks for who in subject.who]
    for done, (task, who) in enumerate(work):
        observer.progress(done, len(work), "tasks")
        values[task.name][who] = _values(
            subject, task, who, wanted, cache=cache, observer=observer, open_model=open_model
        )
    observer.finished("preserve", time.monotonic() - begin)
    for task in tasks:
        _check_paired(task, values[task.name])
    rows = [_row(name, own, values) for name, own in _by_row(tasks).items()]
    correct(row["difference"] for row in rows if "difference" in row)
    content = {
        "harness": f"lm_eval {harness_version()}",
        "suite": list(wanted.suite),
        "limit": wanted.limit,
        "student": subject.student.model,
        "adapter": subject.adapter_files,
        **_HOW,
        "rows": rows,
    }
    return Measured(tuple(tasks), values, content)


def write_items(path: Path, measured: Measured) -> None:
    """One line per task, item, metric and who answered: every number can be made again from it; no texts."""
    lines = [
        {"task": task, "who": who, "metric": metric, "item": item, "value": value}
        for task, by_who in measured.values.items()
        for who, values in by_who.items()
        for metric, scores in values.metrics.items()
        for item, value in zip(values.items, scores, strict=True)
    ]
    with storage_errors(path):
        pq.write_table(pa.Table.from_pylist(lines), path)


def main_metric(values: Values) -> str:
    """The metric that stands in the table."""
    return next((key for key in _FIRST if key in values.metrics), next(iter(values.metrics)))


def pooled(tasks: Sequence[Asked], values: Mapping[str, Mapping[str, Values]], who: str) -> list[float | None]:
    """The values of all items of a row's tasks, in order.

    Args:
        tasks: The tasks of one row.
        values: See `Measured.values`.
        who: `base` or `aligned`.
    """
    metric = main_metric(values[tasks[0].name][BASE])
    return [score for task in tasks for score in values[task.name][who].metrics.get(metric, ())]


def by_row(measured: Measured) -> dict[str, list[Asked]]:
    """The tasks of every row of the table: one, or those of a group."""
    return _by_row(measured.tasks)


def _by_row(tasks: Sequence[Asked]) -> dict[str, list[Asked]]:
    rows: dict[str, list[Asked]] = {}
    for task in tasks:
        rows.setdefault(task.row, []).append(task)
    return rows


def _row(name: str, tasks: Sequence[Asked], values: Mapping[str, Mapping[str, Values]]) -> dict[str, Any]:
    """One line of the table: base, aligned, and their paired difference over all items of the row's tasks."""
    metric = main_metric(values[tasks[0].name][BASE])
    by_who = {who: pooled(tasks, values, who) for who in values[tasks[0].name]}
    alone: list[None] = [None] * len(by_who[BASE])
    content: dict[str, Any] = {
        "task": name,
        "metric": metric,
        "lower_is_better": metric in tasks[0].lower_is_better,
        "shots": sorted({task.shots for task in tasks}),
        "n": len(alone),
        "of": sum(task.total for task in tasks),
        **{who: asdict(estimate(scores, alone, **_HOW)) for who, scores in by_who.items()},
    }
    if ALIGNED in by_who:
        tested = asdict(paired(by_who[ALIGNED], by_who[BASE], alone, **_HOW))
        content["difference"] = {**tested.pop("difference"), **tested}
    content["parts"] = [_part(task, values[task.name]) for task in tasks]
    return content


def _part(task: Asked, by_who: Mapping[str, Values]) -> dict[str, Any]:
    """All metrics of one task, as means."""
    means = {
        who: {key: estimate(scores, [None] * len(scores), **_HOW).mean for key, scores in values.metrics.items()}
        for who, values in by_who.items()
    }
    return {"task": task.name, "n": len(by_who[BASE].items), "of": task.total, "shots": task.shots, **means}


def _values(
    subject: Subject,
    task: Asked,
    who: str,
    wanted: Wanted,
    *,
    cache: Path,
    observer: Observer,
    open_model: Callable[[], Model],
) -> Values:
    """What somebody scored in a task: kept from an earlier attempt, or asked now and kept."""
    adapter = subject.adapter_files if who == ALIGNED else None
    inputs = [FORMAT, harness_version(), task.identity, dict(subject.identity), adapter]
    kept = cache / "preserve" / f"{digest_of(inputs)}.json"
    if sealed_file(kept):
        content = read_json(kept)
        return Values(tuple(content["items"]), {key: tuple(scores) for key, scores in content["metrics"].items()})
    observer.message(f"{task.name}, {who}: {task.asked} items")
    found = open_model().ask(task, wanted, adapter=who == ALIGNED)
    if not found.metrics:
        raise ConfigError(f"The task {task.name} gave no value for any item, so that nothing can be compared.")
    write_json(kept, {"task": task.name, "who": who, **asdict(found)})
    seal_file(kept)
    return found


def _open(subject: Subject, wanted: Wanted) -> Model:
    student = load_student(subject.student, subject.path)
    if subject.adapter is not None:
        student = replace(student, model=load_adapter(student.model, subject.adapter))
    return Model(student, wanted.batch_size)


def _once(make: Callable[[], Model]) -> Callable[[], Model]:
    made: list[Model] = []

    def get() -> Model:
        if not made:
            made.append(make())
        return made[0]

    return get


def _check_paired(task: Asked, by_who: Mapping[str, Values]) -> None:
    if len({values.items for values in by_who.values()}) > 1:
        raise ContractError(
            f"The task {task.name} asked base and adapter differently, so that nothing can be paired; a task that "
            "draws anew each time cannot be used."
        )
