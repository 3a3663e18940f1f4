"""`mint plugin new` and `mint plugin check`: a project to begin with, the conformance kit over what is installed."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mint_core.cli.choices import complete_component
from mint_core.cli.say import say, say_json

if TYPE_CHECKING:
    from mint_core.plugins import Registered, Registry

_KINDS = ("task", "teacher", "strategy", "aligner", "retriever", "metric")
_LICENCES = ("Apache-2.0", "BSD-3-Clause", "MIT")


@click.group()
def plugin() -> None:
    """Begin a plugin, and check one; `mint plugins` lists what is installed."""


@plugin.command()
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("name")
@click.option("--into", type=click.Path(path_type=Path), default=Path(), help="Folder for the project's own [here].")
@click.option("--licence", type=click.Choice(_LICENCES), help="Licence of the plugin [Apache-2.0].")
@click.option("--author", help="Who holds the copyright [the authors of mint-NAME].")
def new(kind: str, name: str, into: Path, licence: str | None, author: str | None) -> None:
    """Write a project with a KIND called NAME that works, and its tests: change it into yours.

    \b
    mint plugin new teacher my-words
    mint plugin new metric mrr --into ~/code --licence MIT --author "Ada Lovelace"

    KIND is task, teacher, strategy, aligner, retriever or metric. The project is the distribution mint-NAME, in a new
    folder of that name. Licence and author are asked for on a terminal where they are not given, and nowhere else.
    """  # noqa: D301 - click wants the backspace
    from mint_core.plugins import registry
    from mint_core.scaffold.project import names_of, write_project

    names = names_of(kind, name, registry())
    asks = sys.stdin is not None and sys.stdin.isatty()
    if licence is None:
        licence = click.prompt("Licence", type=click.Choice(_LICENCES), default=_LICENCES[0]) if asks else _LICENCES[0]
    if author is None:
        author = click.prompt("Author", default=f"The authors of {names.distribution}") if asks else ""
    folder = write_project(names, into, licence=licence, author=author)
    say(f"The {kind} '{names.name}' and its tests: {folder}")
    say("Next:")
    for command in (
        f"cd {shlex.quote(str(folder))}",
        "pip install -e . pytest",
        "python -m pytest",
        f"mint plugin check {names.distribution}",
    ):
        say(f"  {command}")


@plugin.command()
@click.argument("name", required=False, shell_complete=complete_component)
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="An option of a component; may be repeated.")
@click.option("--data", type=click.Path(path_type=Path), help="What a task reads; short for --set task.data=PATH.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def check(name: str | None, overrides: tuple[str, ...], data: Path | None, as_json: bool) -> None:
    """Run the conformance kit over a plugin: every clause of its components' interfaces, one line each.

    \b
    mint plugin check mint-my-words       a distribution
    mint plugin check my-words            a component
    mint plugin check my-words --set teacher.smoothing=2

    Without NAME: all plugins. A component that serves one task is tried on that task's default data, any other on data
    of the kit; aligners train a tiny student for two steps. Exit code 5 where a clause is broken, 3 where the plugin
    cannot be loaded. What cannot be tried without options or data of yours is told as not applicable.
    """  # noqa: D301 - click wants the backspace
    from mint_core.config import merge, parse_override
    from mint_core.errors import ContractError
    from mint_core.libraries import quiet_libraries
    from mint_core.plugins import registry
    from mint_core.testing.installed import judge

    components = registry()
    options = merge({"task": {"data": data}} if data else {}, *map(parse_override, overrides))
    records, broken = [], []
    for one in _meant(components, name):
        with quiet_libraries():
            verdicts = judge(one, components, options.get(one.component.kind, {}))
        about = {"component": one.component.name, "kind": one.component.kind, "distribution": one.distribution}
        records.append({**about, "clauses": [asdict(verdict) for verdict in verdicts]})
        broken += [f"{one.component.name} {v.clause}" for v in verdicts if v.status == "fail"]
        if not as_json:
            say(f"{one.component.kind} {one.component.name} of {one.distribution}")
            for v in verdicts:
                told = v.promise if v.status == "pass" else f"{v.reason} [{v.promise}]"
                say(f"  {v.clause}  {v.status:<15} {told}", indent=21)
    if as_json:
        say_json(records)
    if broken:
        raise ContractError(f"{len(broken)} clauses are broken: {', '.join(broken)}.")


def _meant(components: Registry, name: str | None) -> Sequence[Registered]:
    """The components of a name: of one distribution, or called so; without a name those of all plugins."""
    from mint_core.errors import ConfigError, PluginError, did_you_mean
    from mint_core.plugins import CORE, canonical

    every = components.all()
    if name is None:
        return [one for one in every if one.distribution != CORE]
    known = canonical(name)
    for one in components.broken:
        if known == one.distribution or known in [component for _, component in one.components]:
            raise PluginError(f"{one.distribution} cannot be used: {one.reason}.")
    found = [one for one in every if known in (one.distribution, one.component.name)]
    if not found:
        names: set[Any] = {one.distribution for one in every} | {one.component.name for one in every}
        raise ConfigError(f"There is no plugin or component '{name}'{did_you_mean(name, names)}; run `mint plugins`.")
    return found
