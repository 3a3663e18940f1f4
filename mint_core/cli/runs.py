"""`mint runs`: the runs and comparisons below a folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from mint_core.characters import visible
from mint_core.cli.say import say, say_json


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs"), help="Folder of the runs [runs].")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def runs(out: Path, as_json: bool) -> None:
    """List runs and comparisons, newest first: folder, task, teacher, aligner, state, main figure, date.

    The figure is that of the aligned student, in percent; of a comparison it is that of the best row.
    """
    from rich.markup import escape
    from rich.measure import Measurement
    from rich.table import Table

    from mint_core.cli.screen import Screen
    from mint_core.runs.listing import list_runs

    found = list_runs(out)
    if as_json:
        say_json([asdict(one) for one in found])
        return
    if not found:
        say(f"There is no run in {out}; name another folder with --out, or make one with `mint run`.", err=True)
        return
    columns = ("folder", "task", "teacher", "aligner", "state", "figure", "date")
    table = Table(*columns, box=None, pad_edge=False)
    rows = [asdict(one) | {"date": one.date[:16].replace("T", " ")} for one in found]
    for row in rows:
        table.add_row(*(escape(visible(row[column] or "-")) for column in columns))
    screen = Screen(highlight=False, emoji=False)
    if not screen.is_terminal:
        screen.width = 1000  # as wide as it is
    if Measurement.get(screen, screen.options.update(max_width=1000), table).maximum <= screen.width:
        screen.print(table)
        return
    for row in rows:  # names that are cut in two cannot be copied
        say(row["folder"])
        say(f"    {', '.join(row[column] for column in columns[1:] if row[column])}")
