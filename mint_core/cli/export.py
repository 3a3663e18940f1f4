"""`mint export`: a run's preferences for other trainers."""

from __future__ import annotations

from pathlib import Path

import click

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("run", type=_FOLDER)
@click.option("--to", "target", type=click.Choice(["trl"]), required=True, help="For which trainer.")
@click.option("--out", type=_FOLDER, required=True, help="A folder for train.parquet.")
def export(*, run: Path, target: str, out: Path) -> None:
    """Write the preferences of RUN, a run folder, as data that another trainer takes as they are.

    trl: Parquet with prompt, chosen and rejected, and with images where the student reads them, one row per pair, for
    `datasets.load_dataset("parquet", ...)` and TRL's preference trainers.

    The file holds what the student reads: patients' text and images, which mint writes nowhere else. It goes to the
    folder that you name, and who may read that is for you to see to.
    """
    from mint_core.cli.progress import Terminal
    from mint_core.cli.say import say

    with Terminal(quiet=False) as terminal:
        from mint_core.runs.export import export_to_trl

        made = export_to_trl(run, out, terminal)
    say(f"{made.pairs:,} pairs of {made.samples:,} samples: {made.path}")
    say(f"It holds the samples' text{' and images' if made.images else ''}; guard it like the data themselves.")
    if made.weighted:
        say(f"TRL knows no weights: those of {made.weighted:,} groups are left out.")
