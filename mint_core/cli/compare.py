"""`mint compare` and `mint sweep`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mint_core.cli.choices import component_option
from mint_core.cli.run import config_options, gather, overwrite_option, quiet_option
from mint_core.errors import ConfigError

if TYPE_CHECKING:
    from mint_core.cli.progress import Terminal
    from mint_core.comparison.compare import Comparison
    from mint_core.comparison.schedule import Schedule

_SEEDS = click.option(
    "--seeds", help="Seeds of the alignment: a count, from --seed on, or a list such as 0,5,7. [default: 3]"
)
_JOBS = click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Runs side by side, each in its own process."
)
_PART = click.option("--part", metavar="I/N", help="Only the I-th of N parts of the runs, and no table.")


@click.command()
@component_option(
    "--aligners",
    kind="aligner",
    beside=["base", "rag", "hybrid", "hybrid-fused"],
    several=True,
    help="Rows by aligner, joined by commas; base = the student before alignment.",
)
@click.option(
    "--row",
    "rows",
    multiple=True,
    metavar="NAME=ALIGNER:KEY=VALUE,…",
    help="A row with options of its own; a key with a dot is a path into the config. May be repeated.",
)
@click.option("--students", help="Every row with each of these students, joined by commas: ids, folders, GGUF files.")
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="TEACHER:KEY=VALUE,…",
    help="A teacher, fitted on the same training split, whose own list stands as a row. May be repeated.",
)
@click.option(
    "--pair",
    "pairs",
    multiple=True,
    metavar="FIRST,SECOND",
    help="Two rows to test against each other; teacher, retriever and random list are rows too. May be repeated.",
)
@click.option("--preserve", help="Also measure general ability beside each row: local, h6, or tasks of the harness.")
@click.option("--preserve-data", multiple=True, metavar="DIR|FILE_NAME=PATH", help="Files of its local tasks.")
@click.option("--preserve-include-path", multiple=True, metavar="DIR", help="Its tasks of your own: their code IS RUN.")
@click.option("--preserve-limit", type=click.IntRange(1), help="So many items of each task, drawn at random.")
@_SEEDS
@_JOBS
@_PART
@overwrite_option
@quiet_option
@config_options
def compare(*, overwrite: bool, quiet: bool, jobs: int, part: str | None, **options: Any) -> None:
    """Compare aligners on one set of labels and preferences, with seeds, intervals and paired tests.

    \b
    mint compare --teacher plip --aligners base,orpo --seeds 3
    mint compare --teacher plip --aligners base --row soft=orpo:weight=0.1 --row hard=orpo:weight=1
    mint compare --task NAME --aligners base,orpo --students ID,FOLDER --preserve local --preserve-data FOLDER

    Every complete run is reused; the same command again resumes. Options that all aligners share are set without a
    name, for example --set aligner.epochs=3.
    """  # noqa: D301 - click wants the backspace
    _carry_out(lambda: planned_compare(**options), overwrite=overwrite, quiet=quiet, jobs=jobs, part=part)


def planned_compare(
    *,
    aligners: str | None,
    rows: tuple[str, ...],
    students: str | None,
    baselines: tuple[str, ...],
    pairs: tuple[str, ...],
    preserve: str | None,
    preserve_data: tuple[str, ...],
    preserve_include_path: tuple[str, ...],
    preserve_limit: int | None,
    seeds: str | None,
    aligner: str | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    **options: Any,
) -> Schedule:
    """What these options of `mint compare` ask for."""
    from mint_core.comparison.compare import plan_compare

    if aligner is not None:
        raise ConfigError("`mint compare` takes --aligners base,orpo or --row; --aligner belongs to one run.")
    layer = gather(config_file, overrides, **options)
    tested: dict[str, Any] = {"seeds": seeds, "baselines": baselines, "pairs": pairs, "students": _split(students)}
    options_of_preserve = {"data": preserve_data, "include_path": preserve_include_path, "limit": preserve_limit}
    if preserve is not None:
        tested["preserve"] = {"suite": preserve, **options_of_preserve}
    elif any(options_of_preserve.values()):
        raise ConfigError("--preserve-data, --preserve-include-path and --preserve-limit need --preserve SUITE.")
    return plan_compare(layer, aligners=_split(aligners), rows=rows, **tested)


@click.command()
@click.option("--aor", help="Ratios k/q of chosen to rejected labels, joined by commas: 10/10,10/15,10/20.")
@_SEEDS
@_JOBS
@_PART
@overwrite_option
@quiet_option
@config_options
def sweep(*, overwrite: bool, quiet: bool, jobs: int, part: str | None, **options: Any) -> None:
    """Align with several ratios of chosen to rejected labels (AoR), on one set of labels.

    \b
    mint sweep --teacher plip --aligner orpo --aor 5/5,5/8,5/12 --seeds 3
    """  # noqa: D301 - click wants the backspace
    _carry_out(lambda: planned_sweep(**options), overwrite=overwrite, quiet=quiet, jobs=jobs, part=part)


def planned_sweep(
    *, aor: str | None, seeds: str | None, config_file: Path | None, overrides: tuple[str, ...], **options: Any
) -> Schedule:
    """What these options of `mint sweep` ask for."""
    from mint_core.comparison.compare import plan_sweep

    return plan_sweep(gather(config_file, overrides, **options), aor=_split(aor), seeds=seeds)


def _carry_out(planned: Callable[[], Schedule], *, overwrite: bool, quiet: bool, jobs: int, part: str | None) -> None:
    from mint_core.cli.progress import Terminal
    from mint_core.comparison import compare, parts

    mine = parts.parse_part(part) if part else None
    if mine and jobs > 1:
        raise ConfigError("--part makes one part in this process, and --jobs all of them in several; leave one out.")
    with Terminal(quiet=quiet) as terminal:
        made = planned()
        if mine is None:
            _conclude(terminal, compare.carry_out(made, terminal, overwrite=overwrite, jobs=jobs))
            return
        runs = parts.make_part(made, mine, terminal, overwrite=overwrite)
        for one in runs:
            terminal.line(f"run: {one.path}")


def _split(text: str | None) -> list[str]:
    """What stands between commas; an empty part is kept for the error message."""
    return [] if text is None else [part.strip() for part in text.split(",")]


def _conclude(terminal: Terminal, result: Comparison) -> None:
    """Tables and folder on stdout."""
    from mint_core.comparison.breakdown import grids
    from mint_core.comparison.table import tables

    terminal.print_tables(tables(result.content))
    if grids(result.content):
        table = result.path / f"{result.content['kind']}.md"
        terminal.line(f"Subgroups, and labels that are easily confused: {table}")
    terminal.message(f"{sum(run.seconds for run in result.runs):.1f} s in {len(result.runs)} runs")
    terminal.line(f"{result.content['kind']}: {result.path}")
