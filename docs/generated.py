"""What of the site is made from the code while `mkdocs build` runs: options, commands, links out of docs/, llms.txt.

A page holds a comment such as `<!-- generated: options -->`, in whose place the text is put. So the list is never older
than the code, and the page still reads in the repository.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from mint_core.cli import cli
from mint_core.cli.inspect import default_in_words, described, options_of
from mint_core.config.schema import RunConfig
from mint_core.interfaces import ComponentConfig
from mint_core.plugins import SEAMS, registry

ROOT = Path(__file__).parents[1]
MARK = re.compile(r"<!-- generated: ([a-z]+) -->")
SOURCE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)\)")
ROW = re.compile(r"^\| \[(?P<title>[^\]]+)\]\((?P<page>[^)]+)\) \| (?P<about>.+) \|$", re.M)


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Puts the generated texts in their places, and takes away links that lead out of the site."""
    made = MARK.sub(lambda mark: "\n".join(GENERATED[mark[1]]()), markdown)
    folder = Path(page.file.src_uri).parent
    return SOURCE.sub(lambda link: _inside(link, folder), made)


def on_post_build(*, config: Any, **_: object) -> None:
    """Writes llms.txt, which lists the pages for programs that read the site: https://llmstxt.org."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    lines = [f"# {config.site_name}", "", f"> {config.site_description}"]
    for section in re.split(r"^## ", index, flags=re.M)[1:]:
        lines += ["", f"## {section.partition(':')[0]}", ""]
        lines += [
            f"- [{row['title']}]({row['page'].removesuffix('.md')}.html): {row['about']}"
            for row in ROW.finditer(section)
        ]
    (Path(config.site_dir) / "llms.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")


def options() -> Iterator[str]:
    """Every key of the config, section by section, then every component that is installed."""
    yield from _sections("", RunConfig)
    found = registry()
    for kind in SEAMS:
        yield from ("", f"## {kind.capitalize()}", "")
        for one in found.all():
            if one.component.kind == kind:
                said = " ".join(inspect.cleandoc(one.component.__doc__ or "").partition("\n\n")[0].split())
                yield from ("", f"### `{one.component.name}`", "", f"{said} From {one.distribution}.", "")
                yield from _table(options_of(one))


def _below(group: str) -> list[str]:
    return [f"{group} {name}" for name in cli.commands[group].commands]


def commands() -> Iterator[str]:
    """The help of every command, as a terminal shows it."""
    for name in ("", *cli.commands, *_below("config"), *_below("submit")):
        command: click.Command = cli
        for part in name.split():
            command = command.commands[part]
        if name == "config":
            continue
        context = click.Context(command, info_name=f"mint {name}".strip(), max_content_width=110, terminal_width=110)
        yield from ("", f"## `mint {name}`" if name else "## `mint`", "", "```text", command.get_help(context), "```")


GENERATED = {"options": options, "commands": commands}


def _sections(key: str, config: type[ComponentConfig]) -> Iterator[str]:
    """The keys of one part of the config, then the parts below it."""
    parts = {
        name: field.annotation
        for name, field in config.model_fields.items()
        if inspect.isclass(field.annotation) and issubclass(field.annotation, ComponentConfig)
    }
    rows = [
        row | {"type": "mapping", "default": "see below"} if row["name"] in parts else row for row in described(config)
    ]
    yield from ("", f"## `{key}`" if key else "## The run", "", inspect.cleandoc(config.__doc__ or ""), "")
    yield from _table(rows)
    for name, part in parts.items():
        yield from _sections(f"{key}.{name}".strip("."), part)


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        yield "It has no options."
        return
    yield from ("| option | type | default | meaning |", "|---|---|---|---|")
    for row in rows:
        cells = (f"`{row['name']}`", row["type"], f"`{default_in_words(row['default'])}`", row["description"])
        yield "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _inside(link: re.Match[str], folder: Path) -> str:
    """The link as it is where it stays in docs/, else its words and the path in the repository."""
    target = os.path.normpath(Path("docs", folder, link[2]))
    if target.startswith("docs" + os.sep):
        return link[0]
    return f"`{target}`" if link[1] == target else f"{link[1]} (`{target}` of the repository)"
