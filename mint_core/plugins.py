"""Finds plugins and their components: isolated, sorted, strict.

One broken plugin is reported and never takes the others down. Two components of one name are an error that names both
distributions. `MINT_PLUGINS` is the one switch: unset = all, empty = none, a comma-separated list of distributions =
just these (mint-core's own components are always there).
"""

from __future__ import annotations

import inspect
import json
import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import pluggy
from pydantic import TypeAdapter, ValidationError

from mint_core import guard, hookspecs
from mint_core.errors import ConfigError, ContractError, PluginError, did_you_mean
from mint_core.files import digest_of, digest_of_path
from mint_core.interfaces import (
    Aligner,
    Component,
    ComponentConfig,
    Context,
    Metric,
    PreferenceStrategy,
    Retriever,
    Task,
    Teacher,
)

CORE = "mint-core"
SEAMS: dict[str, tuple[str, type[Component[Any]]]] = {
    "task": ("mint_tasks", Task),
    "teacher": ("mint_teachers", Teacher),
    "strategy": ("mint_strategies", PreferenceStrategy),
    "aligner": ("mint_aligners", Aligner),
    "retriever": ("mint_retrievers", Retriever),
    "metric": ("mint_metrics", Metric),
}


@dataclass(frozen=True, slots=True)
class Registered:
    """A component and where it comes from."""

    component: type[Component[Any]]
    distribution: str
    distribution_version: str
    edited: str = ""
    """Its package, where the distribution is installed editable: its version says little of its code."""

    def source(self) -> str:
        """Digest of the code of a distribution that is installed editable; empty for any other, and for mint-core."""
        return _digest_of_code(self.edited) if self.edited and self.distribution != CORE else ""

    def make(self, config: Any = None, context: Context | None = None) -> Any:
        """The component. Whatever it does wrong from here on is told with its name and its distribution.

        Args:
            config: A validated `Config`; its defaults where absent.
            context: Labels, seed, device and the like.

        Raises:
            ContractError: Its construction failed.
        """
        if self.distribution == CORE:
            return self.component(config, context)
        return guard.make(self.component, self.distribution, config, context)

    def guarded(self, call: str) -> AbstractContextManager[None]:
        """Runs code of the component's class; see `mint_core.guard.guarded`."""
        if self.distribution == CORE:
            return nullcontext()
        return guard.guarded(guard.Owner(f"{self.component.kind} '{self.component.name}'", self.distribution), call)


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin that could not be used, and why."""

    distribution: str
    distribution_version: str
    reason: str
    components: tuple[tuple[str, str], ...] = ()
    """Kinds and names of its components, where they are known."""


class Registry:
    """All components that were found.

    Attributes:
        broken: Plugins that could not be used.
    """

    def __init__(self) -> None:
        self.broken: list[BrokenPlugin] = []
        self._found: dict[tuple[str, str], list[Registered]] = {}

    def add(self, registered: Registered) -> None:
        """Adds one component; a second one of the same name is kept aside until someone asks for it."""
        key = (registered.component.kind, registered.component.name)
        self._found.setdefault(key, []).append(registered)

    def all(self, kind: str | None = None) -> list[Registered]:
        """All components, sorted by pipeline order and name; those of one seam where `kind` is given."""
        order = list(SEAMS)
        found = [one for many in self._found.values() for one in many if kind in (None, one.component.kind)]
        return sorted(found, key=lambda r: (order.index(r.component.kind), r.component.name, r.distribution))

    def in_order(self, kind: str) -> list[Registered]:
        """The components of one seam in the order in which their plugins return them."""
        return [one for (found_kind, _), many in self._found.items() for one in many if found_kind == kind]

    def duplicates(self) -> list[str]:
        """One sentence per name that two distributions claim."""
        return [self._duplicate_message(key, many) for key, many in sorted(self._found.items()) if len(many) > 1]

    def names(self, kind: str) -> list[str]:
        """The names of one seam, sorted."""
        return sorted({name for found_kind, name in self._found if found_kind == kind})

    def spelled(self, kind: str, name: str) -> str:
        """A name as its component has it: `PLIP` is `plip`, `top_n` is `top-n`; any other name as it is."""
        return known if (known := canonical(name)) in self.names(kind) else name

    def of_one_model(self, kind: str) -> frozenset[str]:
        """Options of the components of one seam that say nothing about another `model`."""
        return frozenset[str]().union(*(one.component.Config.of_one_model for one in self.all(kind)))

    def get(self, kind: str, name: str) -> Registered:
        """The component of one seam and name.

        Raises:
            ConfigError: There is none of that name.
            PluginError: Two distributions claim it.
        """
        name = self.spelled(kind, name)
        many = self._found.get((kind, name), [])
        if len(many) > 1:
            raise PluginError(self._duplicate_message((kind, name), many))
        for one in self.broken if not many else ():
            if (kind, name) in one.components:
                raise PluginError(f"{one.distribution} cannot be used: {one.reason}; tell the plugin's authors.")
        if not many:
            hint = "; run `mint plugins` to see what is installed"
            if self.broken:
                hint += f" ({', '.join(b.distribution for b in self.broken)} could not be loaded)"
            raise ConfigError(f"There is no {kind} '{name}'{did_you_mean(name, self.names(kind))}{hint}.")
        return many[0]

    @staticmethod
    def _duplicate_message(key: tuple[str, str], many: list[Registered]) -> str:
        owners = " and ".join(one.distribution for one in many)
        return f"The {key[0]} '{key[1]}' is registered by {owners}; uninstall one, or choose with MINT_PLUGINS."


@lru_cache(maxsize=1)
def registry() -> Registry:
    """The components of all installed plugins, discovered once per process."""
    return discover(entry_points(group=hookspecs.GROUP), os.environ.get("MINT_PLUGINS"))


def canonical(name: str) -> str:
    """A name as package indexes compare those of distributions, which is how components are called."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def discover(points: Iterable[EntryPoint], switch: str | None) -> Registry:
    """Loads plugins from entry points.

    Args:
        points: Entry points of the group `mint`.
        switch: The value of MINT_PLUGINS, or None where it is unset.
    """
    found = Registry()
    wanted = None if switch is None else {canonical(name.strip()) for name in switch.split(",") if name.strip()}
    seen: set[tuple[str, str]] = set()
    for point in sorted(points, key=lambda p: (_owner(p)[0], p.name)):
        distribution, version = _owner(point)
        if wanted is not None and distribution not in wanted | {CORE}:
            continue
        if (distribution, point.value) in seen:
            continue
        seen.add((distribution, point.value))
        try:  # a stranger's import may raise anything, and must not take the others down
            with guard.quiet_stdout(), guard.guarded(guard.Owner("plugin", distribution), "import"):
                components = _components(point)
        except Exception as error:
            cause = error.__cause__ if isinstance(error, ContractError) and error.__cause__ else error
            told = guard.told(cause)
            lost = cause.components if isinstance(cause, _Refused) else ()
            reason = told if lost else f"{type(cause).__name__}: {told}"
            found.broken.append(BrokenPlugin(distribution, version, reason, lost))
            continue
        edited = _editable_package(point)
        for component in components:
            found.add(Registered(component, distribution, version, edited))
    if wanted is not None:
        for missing in sorted(wanted - {distribution for distribution, _ in seen}):
            found.broken.append(BrokenPlugin(missing, "", "named in MINT_PLUGINS, but no such plugin is installed"))
    return found


def blamed(error: BaseException) -> ContractError | None:
    """The sentence for an error that code of a plugin raised where no component was called; None where mint did.

    For example an image of its own that fails when it is opened.
    """
    owners = {one.component.__module__.partition(".")[0]: one.distribution for one in registry().all()}
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    inner = next((owners[top] for name in reversed(frames) if (top := str(name).partition(".")[0]) in owners), CORE)
    if inner == CORE:
        return None
    return ContractError(
        f"Code of {inner} failed ({type(error).__name__}); --debug shows where. Tell the plugin's authors, or choose "
        "another one."
    )


def _owner(point: EntryPoint) -> tuple[str, str]:
    try:
        name, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
    except (KeyError, OSError, ValueError):  # its METADATA are damaged
        name = version = ""
    return (canonical(name or "unknown"), version or "")


def _editable_package(point: EntryPoint) -> str:
    """The package of an entry point whose distribution is installed editable; empty for any other."""
    try:
        record = json.loads((point.dist.read_text("direct_url.json") if point.dist else None) or "{}")
        editable = record.get("dir_info", {}).get("editable", False)
    except (OSError, ValueError, AttributeError):  # damaged
        return ""
    return point.module.partition(".")[0] if editable else ""


@lru_cache
def _digest_of_code(package: str) -> str:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return ""
    file = Path(spec.origin)
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    return digest_of([[path.relative_to(file.parent).as_posix(), digest_of_path(path)] for path in files])


def _components(point: EntryPoint) -> list[type[Component[Any]]]:
    """Loads one plugin in a manager of its own, so that its mistakes stay its own."""
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(point.load(), point.name)
    manager.check_pending()
    components: dict[type[Component[Any]], str] = {}
    for kind, (hook, base) in SEAMS.items():
        for component in chain.from_iterable(getattr(manager.hook, hook)()):
            if not (inspect.isclass(component) and issubclass(component, base)):
                raise PluginError(f"{hook} returned {component!r}, which is no subclass of {base.__name__}")
            components[component] = kind
    if not components:
        raise PluginError(f"{point.value} has no function marked @hookimpl that returns a component")
    for component, kind in components.items():
        for fault in _faults(component, kind, SEAMS[kind][1]):
            names = [(its, str(getattr(one, "name", ""))) for one, its in components.items()]
            raise _Refused(f"the {kind} {fault}", tuple(names))
    return list(components)


class _Refused(PluginError):
    """A component whose class does not say what its interface asks for, and so all components of its plugin."""

    def __init__(self, sentence: str, components: tuple[tuple[str, str], ...]) -> None:
        super().__init__(sentence)
        self.components = components


def _faults(component: type[Component[Any]], kind: str, base: type[Component[Any]]) -> Iterator[str]:
    """What is wrong with the class of a component, to stand behind `the teacher`; the first counts."""
    name, who = getattr(component, "name", None), component.__name__
    if inspect.isabstract(component):
        yield f"{who} does not implement {', '.join(sorted(component.__abstractmethods__))}"
    if not (inspect.isclass(component.Config) and issubclass(component.Config, ComponentConfig)):
        yield f"{who}.Config is no subclass of ComponentConfig"
    if component.kind != kind:
        yield f"{who}.kind must stay '{kind}'"
    if not (isinstance(name, str) and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)):
        yield f"{who}.name must be lower-case words joined by hyphens"
    for attribute, (adapter, words) in _attributes(base).items():
        value = inspect.getattr_static(component, attribute, _MISSING)
        if value is _MISSING:
            yield f"'{name}' has no `{attribute}`, which must be {words}"
        if not (isinstance(value, property | cached_property) or _is_of(adapter, attribute, value)):
            yield f"'{name}' has `{attribute}` = {value!r:.80}, which must be {words}"
    options = component.Config.model_fields
    for option in sorted((component.Config.neutral | component.Config.of_one_model) - set(options)):
        yield f"'{name}': its config names the option '{option}' and has none"
    for option, field in options.items():
        if not field.description:
            yield f"'{name}': its config field '{option}' has no description"


_MISSING = object()
_FURTHER: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "header": ("one line that ends with a colon", lambda text: text.endswith(":") and "\n" not in text),
    "default_teacher": ("a teacher's name", bool),
    "sources": ("a tuple of names, of one at least", bool),
    "version": ("a text", bool),
}
"""What attributes of a class must be beside their type."""


@lru_cache
def _attributes(base: type[Component[Any]]) -> dict[str, tuple[TypeAdapter[Any], str]]:
    """What the class of a component must say: by name what tries a value, and what it must be, in words.

    They are the class variables of its interface, with their types.
    """
    hints = {name: get_args(hint)[0] for name, hint in get_type_hints(base).items() if get_origin(hint) is ClassVar}
    return {
        name: (TypeAdapter(hint), _FURTHER[name][0] if name in _FURTHER else _in_words(hint))
        for name, hint in hints.items()
        if name not in ("kind", "name", "Config")
    }


def _is_of(adapter: TypeAdapter[Any], attribute: str, value: object) -> bool:
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError:
        return False
    return attribute not in _FURTHER or _FURTHER[attribute][1](value)


def _in_words(hint: Any) -> str:
    """The type of a class variable: `a text`, `true or false`, `text or image`, `a tuple of names`."""
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return f"a tuple of {'names' if inner is str else _in_words(inner)}"
    if get_origin(hint) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(hint))
    return {str: "a text", bool: "True or False"}[hint]
