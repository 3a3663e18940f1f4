"""`mint submit`: a command as a job of SLURM."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mint_core.cli.compare import compare, planned_compare, planned_sweep, sweep
from mint_core.cli.run import gather, run
from mint_core.cli.say import say, say_lines
from mint_core.errors import ConfigError

if TYPE_CHECKING:
    from mint_core.comparison.schedule import Schedule


def _slurm_options(function: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Nodes of a job."),
        click.option(
            "--gpus", type=click.IntRange(1), default=1, show_default=True, help="GPUs of a node, a process each."
        ),
        click.option("--cpus", type=click.IntRange(1), default=8, show_default=True, help="Cores of each process."),
        click.option("--mem", metavar="SIZE", help="Memory of a node, such as 64G. [default: your cluster's]"),
        click.option("--time", default="08:00:00", show_default=True, help="Time limit; the job goes on after it."),
        click.option("--partition", help="Where it waits. [default: your cluster's]"),
        click.option("--account", help="Who pays."),
        click.option(
            "--sbatch", "further", multiple=True, metavar="OPTION", help="Another, such as --constraint=a100."
        ),
        click.option(
            "--script", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write the script there."
        ),
        click.option("--now", is_flag=True, help="Submit it; without this nothing starts."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.group()
def submit() -> None:
    """Make a batch script for SLURM from a command, and submit it with --now.

    \b
    mint submit run --teacher plip --aligner orpo --nodes 2 --gpus 4 --time 08:00:00
    mint submit compare --teacher plip --aligners base,orpo --seeds 3 --now

    The job saves before its time limit, goes back into the queue and goes on. A comparison is an array, a task for each
    row and seed, and a job behind it that makes the table.
    """  # noqa: D301 - click wants the backspace


def _command(of: click.Command, checked: Callable[[dict[str, Any]], tuple[Path, int | None]]) -> None:
    """Adds the command that submits another.

    Args:
        of: The other.
        checked: Folder and number of parts of what its options ask for; refuses what that command would refuse.
    """

    @submit.command(
        name=of.name,
        help=f"`mint {of.name}` as a job: give its options, and those below.",
        context_settings={"ignore_unknown_options": True},
    )
    @click.argument("given", nargs=-1, type=click.UNPROCESSED, metavar="OPTIONS…")
    @_slurm_options
    def command(given: tuple[str, ...], file: Path | None, *, now: bool, **asked: Any) -> None:
        from mint_core.files import storage_errors
        from mint_core.libraries import quiet_libraries
        from mint_core.slurm import Job, batch_script

        job = Job(name=f"mint-{of.name}", **asked)
        options = of.make_context(f"mint {of.name}", list(given)).params
        if options.pop("part", None) or options.pop("jobs", 1) > 1:
            raise ConfigError("An array makes all parts of a comparison; leave --part and --jobs out.")
        for name in ("overwrite", "quiet"):
            options.pop(name)
        with quiet_libraries():
            folder, parts = checked(options)
        text = batch_script(job, [sys.executable, "-m", "mint_core", str(of.name), *given], Path.cwd(), parts)
        if file is not None:
            with storage_errors(file):
                file.write_text(text, encoding="utf-8")
        elif not now:
            say_lines(text.rstrip("\n"))
        if now:
            _submit(text, parts)
            say(f"It will work in {folder}; what it says goes to mint-NUMBER.log.")
        else:
            script = shlex.quote(str(file or "FILE"))
            array = (
                f"--array=1-{parts} {script}, then with its NUMBER sbatch --dependency=afterok:NUMBER " if parts else ""
            )
            say(f"Nothing was submitted; give --now, or sbatch {array}{script}.", err=True)


def _run(options: dict[str, Any]) -> tuple[Path, None]:
    from mint_core.config import resolve
    from mint_core.plugins import registry
    from mint_core.runs.pipeline import run_folder, stages_of

    until = options.pop("until")
    resolved = resolve(gather(**options), registry())
    stages_of(resolved, until)
    return run_folder(resolved), None


def _parts_of(planned: Callable[..., Schedule]) -> Callable[[dict[str, Any]], tuple[Path, int]]:
    def checked(options: dict[str, Any]) -> tuple[Path, int]:
        made = planned(**options)
        return made.path, len(made.work)

    return checked


def _submit(text: str, parts: int | None) -> None:
    from mint_core.slurm import submit as give

    if parts is None:
        say(f"Submitted: job {give(text)}.")
        return
    array = give(text, f"--array=1-{parts}")
    say(f"Submitted: job {array}, an array of {parts} parts.")
    last = give(text, f"--dependency=afterok:{array}", "--kill-on-invalid-dep=yes")
    say(f"Submitted: job {last}, which makes the table when all parts are there.")


_command(run, _run)
_command(compare, _parts_of(planned_compare))
_command(sweep, _parts_of(planned_sweep))
