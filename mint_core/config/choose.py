"""Which task, teacher and source a config means where it does not say so; what does not fit together is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mint_core.config.layers import merge
from mint_core.config.validate import validated
from mint_core.errors import ConfigError, ContractError, DataError, did_you_mean
from mint_core.interfaces import SIMULATED, Component, Task
from mint_core.plugins import Registered, Registry
from mint_core.types import Modality

_BESIDE_THE_TASK = ("teacher", "strategy", "aligner", "retriever")


@dataclass(frozen=True, slots=True)
class Completed:
    """A user's config that names task, teacher and source."""

    user: dict[str, Any]
    notes: tuple[str, ...]
    """Sentences on what mint chose, for the person who waits."""


def completed(user: Mapping[str, Any], components: Registry) -> Completed:
    """Names the task, its teacher and the source of its data, where the user's config leaves them open.

    The task follows from what its components serve, from its source and from what lies at `task.data`; the source
    follows from `task.data`.

    Args:
        user: The user's config, merged.
        components: What is installed.

    Raises:
        ConfigError: Several tasks or sources would do, or none, or what is named does not fit together.
        DataError: There is nothing at `task.data`, and no source is named.
    """
    _check_there(user.get("task", {}))
    named = _named(user, components)
    task = _task(user, named, components)
    options = {**user.get("task", {}), "name": task.component.name}
    _check_source(task, options.get("source"), components)
    source = _source(task, options, components)
    notes = (f"Source: {source}, which is what lies at {options['data']}.",) if source is not None else ()
    if source is not None:
        options["source"] = source
    teacher = (user.get("teacher") or {}).get("name") or _task_class(task).default_teacher
    for one in named:
        check_fit(one, task, components)
    return Completed(merge(user, {"task": options, "teacher": {"name": teacher}}), notes)


def fits(component: type[Component[Any]], task: type[Component[Any]]) -> bool:
    """Whether a component serves a task: either names the other, or the component names no task."""
    own = (getattr(task, "default_teacher", None), *getattr(task, "teachers", ()))
    named = component.kind == "teacher" and component.name in own
    return named or not component.tasks or task.name in component.tasks


def check_fit(one: Registered, task: Registered, components: Registry) -> None:
    """Refuses a component that does not serve the task.

    Raises:
        ConfigError: It does not; the message names those that do.
    """
    component, kind = one.component, one.component.kind
    if fits(component, task.component):
        return
    raise ConfigError(
        f"The {kind} '{component.name}' serves {_listed(component.tasks)}, not {task.component.name}; "
        f"{suitable(kind, task, components)}."
    )


def suitable(kind: str, task: Registered, components: Registry) -> str:
    """Half a sentence with the components of one seam that serve a task."""
    names = sorted({one.component.name for one in components.all(kind) if _might_serve(one, task)})
    verb = "is" if len(names) < 2 else "are"
    return f"for {task.component.name} there {verb} {_listed(names) or 'none installed'}"


def check_read(retriever: Registered, task: Task) -> None:
    """Refuses a retriever that reads what the task's student does not.

    Raises:
        ConfigError: It does.
    """
    reads: Sequence[Modality] = getattr(retriever.component, "reads", ())
    missing = [one for one in reads if one not in task.modality]
    if missing:
        raise ConfigError(
            f"The retriever '{retriever.component.name}' searches by {missing[0]}, and the student of the task "
            f"'{task.name}' reads {'images' if task.modality == 'image' else 'text'}; run without --retriever."
        )


def _named(user: Mapping[str, Any], components: Registry) -> list[Registered]:
    """The components that the user names, but for the task."""
    kinds = [(kind, (user.get(kind) or {}).get("name")) for kind in _BESIDE_THE_TASK]
    given = user.get("metrics")
    metrics = given if isinstance(given, list | tuple) else ()
    kinds += [("metric", one.get("name") if isinstance(one, Mapping) else one) for one in metrics]
    return [components.get(kind, name) for kind, name in kinds if isinstance(name, str)]


def _task(user: Mapping[str, Any], named: Sequence[Registered], components: Registry) -> Registered:
    """The task that is named, or the only one that everything else leaves."""
    options = user.get("task", {})
    if options.get("name") is not None:
        return components.get("task", options["name"])
    left = _tasks(components)
    teacher = (user.get("teacher") or {}).get("name")
    source, data = options.get("source"), options.get("data")
    rules: list[Callable[[Registered], bool]] = [
        lambda task: all(_might_serve(one, task) for one in named),
        lambda task: source in _sources(task),
        lambda task: source is None and data is not None and _might_read(task, options),
        lambda task: _task_class(task).default_teacher == teacher,
    ]
    for rule in rules:
        # what nothing is left by does not fit together, and is told below by name
        left = [task for task in left if len(left) > 1 and rule(task)] or left
    if len(left) == 1:
        return left[0]
    known = sorted({name for task in left for name in _sources(task)})
    if isinstance(source, str) and known and source not in known:
        raise ConfigError(f"No task has a source '{source}'{did_you_mean(source, known)}.")
    names = ", ".join(task.component.name for task in left)
    raise ConfigError(f"Which task? Give --task (available: {names or 'none; install a plugin that brings one'}).")


def _might_serve(one: Registered, task: Registered) -> bool:
    """What a component reads is at least likely to be what the task's student reads."""
    reads: Sequence[Modality] = getattr(one.component, "reads", ())
    return fits(one.component, task.component) and (not reads or bool(set(reads) & set(_parts_read(task))))


def _parts_read(task: Registered) -> tuple[str, ...]:
    """What the class says that its students read; everything where only the made task can tell."""
    modality = _task_class(task).modality
    return tuple(modality.split("+")) if isinstance(modality, str) else ("text", "image")


def _might_read(task: Registered, options: Mapping[str, Any]) -> bool:
    try:
        return bool(_recognised(task, options))
    except ConfigError:  # options of another task
        return False


def _task_class(task: Registered) -> type[Task]:
    return cast(type[Task], task.component)  # the loader has checked it


def _sources(task: Registered) -> tuple[str, ...]:
    """What the class says; a task that says it by a property is asked when it is made."""
    sources = _task_class(task).sources
    return sources if isinstance(sources, tuple) else ()


def _check_source(task: Registered, source: Any, components: Registry) -> None:
    """Refuses a source of another task.

    Raises:
        ConfigError: It is one.
    """
    if source is None or source in _sources(task):
        return
    owners = [other.component.name for other in _tasks(components) if other is not task and source in _sources(other)]
    if owners and _sources(task):
        name = task.component.name
        raise ConfigError(
            f"'{source}' is a source of the task {_listed(owners)}, not of {name}; the sources of {name} are "
            f"{_listed(_sources(task))}."
        )


def _check_there(options: Mapping[str, Any]) -> None:
    """Refuses data that are not there, where no source is named that would say so itself.

    Raises:
        DataError: They are not.
    """
    data = options.get("data")
    if options.get("source") is None and isinstance(data, str | Path) and not Path(data).exists():
        raise DataError(f"There is nothing at {data}; check the path after --data.")


def _source(task: Registered, options: Mapping[str, Any], components: Registry) -> str | None:
    """The source that the data call for, where the user names data and no source.

    Raises:
        ConfigError: None or several could read what is there, or `simulated` is to read it.
    """
    data, source = options.get("data"), options.get("source")
    if data is None or (source is not None and source != SIMULATED):
        return None
    readers = [name for name in _sources(task) if name != SIMULATED]
    name = f"--source ({', '.join(readers)})" if readers else "a source"
    if source == SIMULATED:
        raise ConfigError(
            f"The source '{SIMULATED}' reads no data, and task.data names {data}; name what reads it with {name}, or "
            "leave --data out."
        )
    found = _recognised(task, options)
    if found is None:  # the task does not say; where it has one reader, no other can be meant
        found = tuple(readers) if len(readers) == 1 else ()
    if len(found) == 1:
        return found[0]
    if not readers:
        raise ConfigError(f"The task '{task.component.name}' reads no data of yours; leave --data out.")
    if found:
        raise ConfigError(f"{_listed(found)} could read what lies at {data}; say what it is with {name}.")
    others = [other for other in _tasks(components) if other is not task and _might_read(other, options)]
    if others:
        raise ConfigError(
            f"What lies at {data} is of the task {_listed([other.component.name for other in others])}, not of "
            f"{task.component.name}; choose task and teacher that fit, or say what it is with {name}."
        )
    raise ConfigError(
        f"No source of {task.component.name} recognises what lies at {data}; say what it is with {name}. "
        "docs/how-to/data.md tells the layouts."
    )


def _tasks(components: Registry) -> list[Registered]:
    """The tasks among which mint chooses; those that are chosen by name alone where there is no other."""
    tasks = [components.get("task", name) for name in components.names("task")]
    return [task for task in tasks if not _task_class(task).by_name_only] or tasks


def _recognised(task: Registered, options: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The sources of a task that recognise its data; None where the task does not say, or has no such options."""
    given = {key: value for key, value in options.items() if key not in ("name", "source")}
    name = task.component.name
    with task.guarded("recognises"):
        config = validated(task.component.Config, given, f"task '{name}'")
        place = getattr(config, "data", None)
        if not isinstance(place, Path) or not place.exists():
            return None
        found = _task_class(task).recognises(place, config)
    sources = _sources(task)
    if found is not None and not (isinstance(found, tuple) and all(name in sources for name in found)):
        raise ContractError(f"`recognises` of the task '{name}' returned {found!r}, not a tuple of its sources.")
    return found


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
