"""`mint plan`: what a run's training takes, before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mint_core.cli.run import Finite, config_options, gather, quiet_option
from mint_core.cli.say import say_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.option("--probe", "steps", is_flag=True, help="Train 3 steps for real and keep nothing, to know the time.")
@click.option("--sample", type=click.IntRange(min=1), help="Count the tokens of that many groups only.")
@click.option("--memory", "memory_gib", type=Finite(min=0, min_open=True), help="Plan for a GPU with this many GiB.")
@quiet_option
@config_options
def plan(
    *,
    as_json: bool,
    steps: bool,
    sample: int | None,
    memory_gib: float | None,
    quiet: bool,
    config_file: Path | None,
    overrides: tuple[str, ...],
    **options: Any,
) -> None:
    """Say what the training of a run takes: tokens, memory, steps, time.

    Neither the teacher nor the student is loaded: the student is planned from its config and processor alone. Exit code
    4 where a row is longer than the student's context, 2 where weights, adapter and optimiser alone do not fit.
    """
    from mint_core.cli.progress import Terminal
    from mint_core.config import resolve
    from mint_core.plugins import registry

    resolved = resolve(gather(config_file, overrides, **options), registry())
    with Terminal(quiet=quiet) as terminal:
        from mint_core.planning.plan import make_plan
        from mint_core.planning.table import notes, summary, tables

        made = make_plan(resolved, steps=steps, sample=sample, memory_gib=memory_gib, observer=terminal)
    if as_json:
        say_json(made.as_dict())
        return
    terminal.line(summary(made))
    terminal.print_tables(tables(made))
    for line in notes(made):
        terminal.line(line)
