"""The kit over what is installed: every clause of a component is judged, on data that suit it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from mint_core.config import configured
from mint_core.errors import ConfigError, DataError, MintError, ModelError
from mint_core.interfaces import Context, Task
from mint_core.plugins import SEAMS, Registered, Registry
from mint_core.testing import CHECKS
from mint_core.testing.clauses import Check, clauses_of, number_of
from mint_core.testing.material import LABELS, samples
from mint_core.types import LabelSpace, Sample

Status = Literal["pass", "fail", "not applicable"]
_TRIED_ON_DATA = ("teacher", "retriever")
_PER_LABEL = 4
_MOST = 60
"""Samples of a task's own data that a teacher or a retriever is tried on."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the kit says of one clause."""

    clause: int
    promise: str
    """The clause, as the interface words it."""
    status: Status
    reason: str = ""
    """What is broken, or why it does not apply."""


class _Data(NamedTuple):
    samples: list[Sample]
    labels: LabelSpace
    task: Task | None = None


def judge(one: Registered, components: Registry, options: Mapping[str, Any]) -> list[Verdict]:
    """Runs the checks of a component's seam over it.

    Args:
        one: The component.
        components: What is installed; a component that serves one task is tried on that task's data.
        options: Of its config.
    """
    kind = one.component.kind
    promises = clauses_of(SEAMS[kind][1])
    with tempfile.TemporaryDirectory(prefix="mint-check-") as place:
        try:
            arguments = _arguments(one, components, options, Path(place))
        except (Exception, SystemExit) as error:
            return [Verdict(number, text, *_of_error(error, kind)) for number, text in promises.items()]
        return [_verdict(check, promises[number_of(check)], arguments, kind) for check in CHECKS[kind]]


def _verdict(check: Check, promise: str, arguments: Callable[[str], tuple[Any, ...]], kind: str) -> Verdict:
    number = number_of(check)
    try:
        reason = check(*arguments(check.__name__))
    except AssertionError as error:
        return Verdict(number, promise, "fail", str(error).partition(": ")[2])
    except (Exception, SystemExit) as error:
        return Verdict(number, promise, *_of_error(error, kind))
    return Verdict(number, promise, "not applicable" if reason else "pass", reason or "")


def _of_error(error: BaseException, kind: str) -> tuple[Status, str]:
    """What an error means: options, weights or data that are not here leave a clause open, all else breaks it.

    Only mint's own errors are quoted: the words of others may hold data.
    """
    lacks: tuple[type[MintError], ...] = (ConfigError, ModelError)
    if kind in _TRIED_ON_DATA:
        lacks = (*lacks, DataError)
    told = str(error) if isinstance(error, MintError) else f"it raised {type(error).__name__}"
    return ("not applicable" if isinstance(error, lacks) else "fail"), told


def _arguments(
    one: Registered, components: Registry, options: Mapping[str, Any], place: Path
) -> Callable[[str], tuple[Any, ...]]:
    """What the checks of a seam take, by the name of the check."""
    kind, name = one.component.kind, one.component.name
    if kind == "strategy":
        return lambda _: (one.component,)
    made = configured(kind, {"name": name, **options}, components)
    if kind in ("task", "metric"):
        component = made.make(Context(labels=LABELS, n=2) if kind == "metric" else None)
        return lambda _: (component,)
    if kind == "aligner":
        component = made.make()
        return lambda check: (component, place / check)
    data = _data(one, components)
    component = made.make(Context(labels=data.labels, n=2, cache=place, task=data.task))
    if kind == "teacher":
        component.fit([sample for sample in data.samples if sample.split == "train"])
        return lambda _: (component, data.samples)
    component.build()
    return lambda _: (component, data.samples, data.labels)


def _data(one: Registered, components: Registry) -> _Data:
    """Samples of the first task that the component names, or that names it, and that brings data; else the kit's."""
    kind, name = one.component.kind, one.component.name
    for task in components.all("task"):
        teachers = (task.component.default_teacher, *task.component.teachers)  # type: ignore[attr-defined]
        if task.component.name in one.component.tasks or (kind == "teacher" and name in teachers):
            with suppress(ConfigError, DataError):  # it reads data of the user's
                made = cast(Task, task.make())
                loaded = made.load()
                return _Data(_some(loaded.samples), loaded.labels, made)
    return _Data(samples(), LABELS)


def _some(found: Sequence[Sample]) -> list[Sample]:
    """A few samples of every label."""
    count: dict[str | None, int] = {}
    chosen = []
    for sample in found:
        count[sample.label] = count.get(sample.label, 0) + 1
        if count[sample.label] <= _PER_LABEL:
            chosen.append(sample)
    return chosen[:_MOST]
