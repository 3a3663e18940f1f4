"""`mint plugins` and `mint config show`: what is installed, and what a config means."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import click

from mint_core.characters import visible
from mint_core.cli.choices import complete_component
from mint_core.cli.run import config_options, gather
from mint_core.cli.say import say, say_json, say_lines
from mint_core.cli.screen import Screen

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from mint_core.plugins import Registered, Registry


@click.command()
@click.argument("name", required=False, shell_complete=complete_component)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, with every config field.")
def plugins(name: str | None, as_json: bool) -> None:
    """List components, their distributions and whether they work; with NAME, the options of that component.

    \b
    mint plugins          what is installed
    mint plugins orpo     its options: name, type, default, meaning; set one with --set aligner.NAME=VALUE

    Exit code 3 where a plugin is broken or a name is claimed twice; what works is listed all the same.
    """  # noqa: D301 - click wants the backspace
    from mint_core.plugins import registry

    found = registry()
    named = _named(found, name) if name is not None else found.all()
    problems = [f"{b.distribution}: {b.reason}" for b in found.broken] + found.duplicates()
    claims = Counter((r.component.kind, r.component.name) for r in found.all())
    records = [
        {
            "component": r.component.name,
            "kind": r.component.kind,
            "distribution": r.distribution,
            "version": r.distribution_version,
            "status": "claimed twice" if claims[r.component.kind, r.component.name] > 1 else "ok",
            "fields": options_of(r),
        }
        for r in named
    ]
    broken = [
        {"distribution": b.distribution, "version": b.distribution_version, "status": b.reason} for b in found.broken
    ]
    if as_json:
        say_json({"components": records, "broken": broken})
    elif name is not None:
        for registered, record in zip(named, records, strict=True):
            _print_options(registered, record)
    else:
        _print_tables(records, broken)
    if problems and name is None:
        from mint_core.errors import PluginError

        raise PluginError("; ".join(problems))


def _named(found: Registry, name: str) -> list[Registered]:
    """The components of one name, of whatever kind."""
    from mint_core.errors import ConfigError, did_you_mean

    named = [one for one in found.all() if one.component.name == found.spelled(one.component.kind, name)]
    if not named:
        names = {one.component.name for one in found.all()}
        raise ConfigError(f"There is no component '{name}'{did_you_mean(name, names)}; run `mint plugins`.")
    return named


def options_of(registered: Registered) -> list[dict[str, Any]]:
    """Name, type, default and description of every option of a component."""
    with registered.guarded("Config"):
        return described(registered.component.Config)


def described(config: type[BaseModel]) -> list[dict[str, Any]]:
    """Name, type, default and description of every field of a config."""
    return [
        {
            "name": name,
            "type": type_in_words(field),
            "default": _plain_default(field),
            "description": field.description,
        }
        for name, field in config.model_fields.items()
    ]


_TYPES = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", type(None): "null"}
_BOUNDS = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}


def type_in_words(field: FieldInfo) -> str:
    """What an option takes, for people: `whole number from 1 to 65,536`, `a, b or c`, `list of text or null`."""
    bounds = ((words, getattr(rule, name, None)) for name, words in _BOUNDS.items() for rule in field.metadata)
    told = [f"{words} {_number(value)}" for words, value in bounds if isinstance(value, int | float)]
    kinds, null, _ = _kinds(field.annotation).partition(" or null")
    return " ".join([kinds, *told]) + null


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def _kinds(annotation: Any) -> str:
    """A type in words."""
    inner, origin = get_args(annotation), get_origin(annotation)
    if origin is Literal:
        *first, last = map(str, inner)
        return f"{', '.join(first)} or {last}" if first else last
    if origin in (Union, UnionType):
        return " or ".join(_kinds(one) for one in inner)
    if origin is Annotated:
        return _kinds(inner[0])
    if origin in (tuple, list, set, frozenset):
        return f"list of {_kinds(inner[0])}"
    return _TYPES.get(annotation, "mapping" if origin is dict else getattr(annotation, "__name__", "value"))


def _plain_default(field: Any) -> Any:
    from pydantic_core import PydanticUndefined

    if field.default is PydanticUndefined:
        return None
    return json.loads(json.dumps(field.default, default=str))


def _print_options(registered: Registered, record: dict[str, Any]) -> None:
    """The options of one component for people."""
    from rich.markup import escape
    from rich.table import Table

    component = registered.component
    said = inspect.cleandoc(component.__doc__ or "").partition("\n\n")[0]
    say(f"{component.kind} {component.name} ({registered.distribution} {registered.distribution_version})")
    say(" ".join(said.split()))
    if not record["fields"]:
        say("It has no options.")
        return
    say(f"Set one with --set {component.kind}.NAME=VALUE, or in a config below `{component.kind}:`.")
    table = Table("option", "type", "default", "meaning", show_lines=True)
    table.columns[0].no_wrap = True  # a name that is cut in two cannot be copied
    for field in record["fields"]:
        told = (field["name"], field["type"], default_in_words(field["default"]), field["description"])
        table.add_row(*(escape(visible(text)) for text in told))
    Screen(highlight=False, emoji=False, width=None if Screen().is_terminal else 120).print(table)
    if any(field["default"] is None for field in record["fields"]):
        say("null: not set; the component decides by itself, an aligner by its preset.")


def default_in_words(default: Any) -> str:
    """A default as people read it: text without quotes, the rest as JSON."""
    return default if isinstance(default, str) and default else json.dumps(default)


def _print_tables(records: list[dict[str, Any]], broken: list[dict[str, str]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    console = Screen(highlight=False, emoji=False, width=None if Screen().is_terminal else 200)
    columns = ("kind", "component", "distribution", "version", "status")
    table = Table(*columns)
    for record in records:
        table.add_row(*(escape(visible(str(record[column]))) for column in columns))
    for plugin in broken:
        told = (plugin["distribution"], plugin["version"], f"broken: {plugin['status']}")
        table.add_row("-", "-", *(escape(visible(text)) for text in told))
    console.print(table)


@click.group()
def config() -> None:
    """Look at configs."""


@config.command()
@click.option("--resolved", is_flag=True, help="With all defaults, as a run would use it.")
@config_options
def show(resolved: bool, **options: Any) -> None:
    """Print the config as YAML; `mint run --config` takes it back."""
    import yaml

    from mint_core.config import resolve
    from mint_core.plugins import registry

    given = gather(**options)
    whole = resolve(given, registry())
    content = whole.dump() if resolved else given
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    if visible(text, keep="\n") != text:  # then written out in YAML's own way, so that it is read back as it was
        text = yaml.safe_dump(content, sort_keys=False)
    say_lines(text)
