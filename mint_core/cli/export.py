"""`mint export`: a run's preferences for other trainers, its aligned student for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mint_core.observer import Observer

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("run", type=_FOLDER)
@click.option(
    "--to",
    "target",
    type=click.Choice(["trl", "peft", "merged", "vllm", "ollama"]),
    required=True,
    help="For which program.",
)
@click.option("--out", type=_FOLDER, required=True, help="A folder; for all but trl a new one.")
def export(*, run: Path, target: str, out: Path) -> None:
    """Write what RUN, a run folder, has made as other programs take it.

    \b
    trl     the preferences: Parquet with prompt, chosen and rejected, and with images where the student reads them, one
            row per pair, for `datasets.load_dataset("parquet", ...)` and TRL's preference trainers
    peft    the adapter as it is, checked
    merged  the student's weights with the adapter in them, for transformers alone
    vllm    the adapter, and the commands for vLLM's server
    ollama  merged weights, a Modelfile, and the commands for llama.cpp and Ollama

    The preferences hold what the student reads: patients' text and images, which mint writes nowhere else. They go to
    the folder that you name, and who may read that is for you to see to.
    """  # noqa: D301 - click wants the backspace
    from mint_core.cli.progress import Terminal
    from mint_core.cli.say import say_lines

    with Terminal(quiet=False) as terminal:
        told = _preferences(run, out, terminal) if target == "trl" else _student(run, target, out, terminal)
    say_lines(f"{told.rstrip()}\n")


def _student(run: Path, target: str, out: Path, observer: Observer) -> str:
    from mint_core.libraries import quiet_libraries
    from mint_core.runs.export_student import export_student

    with quiet_libraries():
        return export_student(run, target, out, observer).told


def _preferences(run: Path, out: Path, observer: Observer) -> str:
    from mint_core.runs.export import export_to_trl

    made = export_to_trl(run, out, observer)
    lines = [
        f"{made.pairs:,} pairs of {made.samples:,} samples: {made.path}",
        f"It holds the samples' text{' and images' if made.images else ''}; guard it like the data themselves.",
    ]
    if made.weighted:
        lines.append(f"TRL knows no weights: those of {made.weighted:,} groups are left out.")
    return "\n".join(lines)
