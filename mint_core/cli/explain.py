"""`mint explain`: which phrases or regions moved an answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mint_core.cli.choices import component_option, word_option
from mint_core.cli.run import DEVICES, gather, quiet_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mint_core.cli.progress import Terminal

_PATH = click.Path(path_type=Path)
_SHOWN = 10
"""Parts of one sample that a terminal shows."""


@click.command()
@click.argument("run", type=_PATH, required=False)
@click.option("--adapter", type=_PATH, metavar="DIR", help="Instead of a run: the adapter/ folder of one.")
@click.option("--input", "place", type=_PATH, help="With --adapter: the samples, a file or a folder.")
@click.option("--label", help="The label that is explained. [default: each sample's first answer]")
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only this sample. May be repeated.")
@click.option("--samples", type=click.IntRange(1), help="Only so many, drawn at random. [default: all; of a run 8]")
@click.option("--with-text", is_flag=True, help="Files and the report may show the samples' texts: patients' text.")
@click.option("--with-images", is_flag=True, help="Files and the report may show the samples' images.")
@click.option("--grid", type=click.IntRange(2, 32), default=6, show_default=True, help="Images: regions per side.")
@click.option(
    "--draws", type=click.IntRange(1), default=10, show_default=True, help="Deletion check: random choices per sample."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of samples and random choices.")
@click.option("--output", type=_PATH, help="FILE.json or FILE.html.")
@click.option("--student", help="With --adapter: where its student lies now.")
@component_option("--retriever", kind="retriever", help="With --adapter: what puts passages into the prompt.")
@click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="With --adapter: override one key.")
@click.option("--allow-changed", is_flag=True, help="Use an adapter whose files are not as its training left them.")
@word_option("--device", words=DEVICES, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--batch-size", type=click.IntRange(1), help="Prompts per batch. [default: 32]")
@click.option(
    "--out", type=_PATH, default=Path("runs"), help="Folder of the runs, in whose cache indexes are kept [runs]."
)
@quiet_option
def explain(*, quiet: bool, **given: Any) -> None:
    """Show which phrases of a text, or regions of an image, moved the student's answer.

    \b
    mint explain --adapter runs/NAME/adapter --input notes.jsonl
    mint explain --adapter runs/NAME/adapter --input patches/ --output why.html --with-images
    mint explain runs/NAME --samples 8

    Each part is taken away once, and the fall of the label's log-probability is its effect. RUN: some of its reported
    samples, into explain.json and its report. No file shows a text or an image unless asked to.
    docs/how-to/explain.md tells formulas and limits.
    """  # noqa: D301 - click wants the backspace
    from mint_core.cli.progress import Terminal
    from mint_core.runs.explain import explain as make

    own = {key: given.pop(key) for key in ("student", "retriever")}
    config = gather(None, given.pop("overrides"), **own)
    place = given.pop("place")
    with Terminal(quiet=quiet) as terminal:
        made = make(**given, input=place, config=config, observer=terminal)
    # Whoever names the samples has them before his eyes; those of a run he may not have seen.
    texts = made.texts if place is not None or given["with_text"] else {}
    _show(made.content, texts, terminal)
    if made.path is not None:
        terminal.line(f"explain: {made.path}")


def _show(content: Mapping[str, Any], texts: Mapping[str, str], terminal: Terminal) -> None:
    from rich.markup import escape
    from rich.table import Table

    from mint_core.characters import visible
    from mint_core.explaining.results import told_check
    from mint_core.report.explained import rows

    tables = []
    for title, lines in rows(content, texts):
        table = Table(title=escape(visible(title)), title_justify="left", min_width=min(len(title), 100))
        table.add_column(content["parts"].removesuffix("s"))
        table.add_column("effect, nats", justify="right")
        for line in lines[:_SHOWN]:
            table.add_row(*map(escape, line))
        if len(lines) > _SHOWN:
            table.add_row(f"{len(lines) - _SHOWN} more, with smaller effects", "")
        tables.append(table)
    terminal.print_tables(tables)
    for one in content["left_out"]:
        terminal.message(one["reason"])
    if told := told_check(content):
        terminal.line(told)
