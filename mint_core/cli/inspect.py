"""`mint plugins` and `mint config show`: what is installed, and what a config means."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from mint_core.characters import visible
from mint_core.cli.run import config_options, gather
from mint_core.cli.say import say_json, say_lines

if TYPE_CHECKING:
    from mint_core.plugins import Registered


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, with every config field.")
def plugins(as_json: bool) -> None:
    """List components, their distributions and whether they work.

    Exit code 3 where a plugin is broken or a name is claimed twice; what works is listed all the same.
    """
    from mint_core.plugins import registry

    found = registry()
    problems = [f"{b.distribution}: {b.reason}" for b in found.broken] + found.duplicates()
    claims = Counter((r.component.kind, r.component.name) for r in found.all())
    records = [
        {
            "component": r.component.name,
            "kind": r.component.kind,
            "distribution": r.distribution,
            "version": r.distribution_version,
            "status": "claimed twice" if claims[r.component.kind, r.component.name] > 1 else "ok",
            "fields": _fields(r),
        }
        for r in found.all()
    ]
    broken = [
        {"distribution": b.distribution, "version": b.distribution_version, "status": b.reason} for b in found.broken
    ]
    if as_json:
        say_json({"components": records, "broken": broken})
    else:
        _print_tables(records, broken)
    if problems:
        from mint_core.errors import PluginError

        raise PluginError("; ".join(problems))


def _fields(registered: Registered) -> list[dict[str, Any]]:
    with registered.guarded("Config"):
        return [
            {"name": name, "default": _plain_default(field), "description": field.description}
            for name, field in registered.component.Config.model_fields.items()
        ]


def _plain_default(field: Any) -> Any:
    from pydantic_core import PydanticUndefined

    if field.default is PydanticUndefined:
        return None
    return json.loads(json.dumps(field.default, default=str))


def _print_tables(records: list[dict[str, Any]], broken: list[dict[str, str]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from mint_core.cli.screen import Screen

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
