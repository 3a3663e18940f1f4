"""`mint preserve`: what alignment cost in general ability."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mint_core.cli.run import quiet_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

_FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("run", type=_FOLDER, required=False)
@click.option("--student", help="Instead of a run: a student alone, as Hugging Face id, local folder or GGUF file.")
@click.option(
    "--suite",
    multiple=True,
    default=("local",),
    show_default=True,
    help="local, h6, or tasks of the harness, joined by commas. May be repeated.",
)
@click.option("--data", multiple=True, metavar="DIR|FILE_NAME=PATH", help="Files of local tasks. May be repeated.")
@click.option(
    "--include-path",
    multiple=True,
    metavar="DIR",
    help="Tasks of your own for the harness; Python code that they name IS RUN. May be repeated.",
)
@click.option("--limit", type=click.IntRange(1), help="So many items of each task, drawn at random; outputs say so.")
@click.option("--shots", type=click.IntRange(0), help="Solved examples per item. [default: as the task says; h6: 5]")
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True, help="Prompts per batch.")
@click.option("--device", help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--out", type=_FOLDER, default=Path("runs"), help="Student alone: folder of all runs [runs].")
@click.option("--name", help="Student alone: name of its folder. [default: preserve-STUDENT]")
@quiet_option
def preserve(*, quiet: bool, **options: Any) -> None:
    """Measure general ability before and after alignment, on the same items, with lm-evaluation-harness.

    \b
    mint preserve runs/NAME --suite local --data FOLDER
    mint preserve runs/NAME --suite h6
    mint preserve --student FOLDER --suite local --data FOLDER --limit 100

    Each task is kept when it is done; the same command again goes on. docs/how-to/preserve.md tells tasks and files.
    """  # noqa: D301 - click wants the backspace
    from mint_core.cli.progress import Terminal
    from mint_core.runs.preserve import preserve as make

    with Terminal(quiet=quiet) as terminal:
        made = make(**options, observer=terminal)
    terminal.print_tables([_table(made.content)])
    terminal.line(f"preserve: {made.path}")


def _table(content: Mapping[str, Any]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from mint_core.preservation.results import cells, header, title

    table = Table(title=escape(title(content)), title_justify="left")
    for number, head in enumerate(header(content)):
        table.add_column(head, justify="right" if number > 1 else "left")
    for line in cells(content):
        table.add_row(*map(escape, line))
    return table
