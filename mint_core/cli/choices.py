"""Options whose values are names of what is installed: the help lists them, and shells complete them. Torch-free."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])


class NamedOption(click.Option):
    """An option that takes one of some names.

    Args:
        names: What may be given, from what stands on the command line so far.
        listed: How the help lists them; by default their names, joined by commas.
        several: It takes names joined by commas.
        given: See `click.Option`.
    """

    def __init__(
        self,
        *declared: Any,
        names: Callable[[click.Context], Iterable[str]],
        listed: Callable[[], str] | None = None,
        several: bool = False,
        **given: Any,
    ) -> None:
        super().__init__(*declared, **given)
        self.names, self.listed, self.several = names, listed, several

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """See `click.Option`."""
        record = super().get_help_record(ctx)
        known = self.listed() if self.listed else ", ".join(self.names(ctx))
        return record and (record[0], f"{record[1]} Here: {known or 'none'}.")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """See `click.Parameter`."""
        before, comma, begun = incomplete.rpartition(",") if self.several else ("", "", incomplete)
        used = before.split(",")
        return [
            CompletionItem(f"{before}{comma}{name}")
            for name in self.names(ctx)
            if name.startswith(begun.lower().replace("_", "-")) and name not in used
        ]


def component_option(*declared: str, kind: str, beside: Sequence[str] = (), **given: Any) -> Callable[[F], F]:
    """A `click.option` that takes the name of a component; `beside`: what else it takes."""

    def names(_: click.Context) -> list[str]:
        return [*_components(kind), *beside]

    return click.option(*declared, cls=NamedOption, names=names, **given)


def source_option(**given: Any) -> Callable[[F], F]:
    """A `click.option` that takes the name of a data source of the task on the command line, or of any task."""
    return click.option("--source", cls=NamedOption, names=_sources, listed=_sources_by_task, **given)


def word_option(*declared: str, words: Sequence[str], **given: Any) -> Callable[[F], F]:
    """A `click.option` that takes one of some words among others, which shells complete and the help tells."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return click.option(*declared, shell_complete=complete, **given)


def complete_component(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Names of components of every kind, for an argument's `shell_complete`."""
    return [name for name in _components() if name.startswith(incomplete.lower())]


def _components(kind: str | None = None) -> list[str]:
    from mint_core.plugins import registry

    return sorted({one.component.name for one in registry().all(kind)})


def _tasks() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Default teacher and data sources by the task's name; of a task that decides at work there are none."""
    from mint_core.plugins import registry

    found = {}
    for one in registry().all("task"):
        teacher, sources = (inspect.getattr_static(one.component, name) for name in ("default_teacher", "sources"))
        found[one.component.name] = (str(teacher), sources if isinstance(sources, tuple) else ())
    return found


def _sources(ctx: click.Context) -> list[str]:
    tasks = _tasks()
    task, teacher = (str(ctx.params.get(name) or "").lower().replace("_", "-") for name in ("task", "teacher"))
    fitting = [own for name, (trained, own) in tasks.items() if task == name or (not task and teacher == trained)]
    return sorted({source for own in fitting or [own for _, own in tasks.values()] for source in own})


def _sources_by_task() -> str:
    return "; ".join(f"{name}: {', '.join(sources)}" for name, (_, sources) in _tasks().items())
