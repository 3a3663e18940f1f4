"""`mint run`, and its stages as commands of their own."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mint_core.cli.choices import component_option, source_option, word_option
from mint_core.errors import ConfigError

STAGE_HELP = {
    "label": "Let the teacher rank all labels for every sample.",
    "prefer": "Turn rankings into preference groups.",
    "align": "Train the adapter on the preference groups.",
    "evaluate": "Judge the answers with the metrics.",
    "report": "Write report.html.",
}


DEVICES = ("auto", "cpu", "cuda", "mps")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="No progress on stderr.")


overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace what another config left in the folder; without it nothing is lost."
)


class Finite(click.FloatRange):
    """A number within bounds that is neither NaN nor infinite: NaN is below no bound and above none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.FloatRange`."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is no finite number.", param, ctx)
        return number


def config_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that make a config; shared by `run`, the stages and `config show`."""
    options = [
        click.option(
            "--config", "-c", "config_file", type=click.Path(path_type=Path), help="YAML config, or a run.json."
        ),
        click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override one key; may be repeated."),
        component_option("--task", kind="task", help="What to predict."),
        component_option("--teacher", kind="teacher", help="Who ranks the labels."),
        click.option("--teacher-model", help="The teacher's weights: hub id or path (teacher.model)."),
        component_option("--strategy", kind="strategy", help="How rankings become preferences."),
        component_option("--aligner", kind="aligner", beside=["none"], help="How the student is aligned."),
        component_option("--retriever", kind="retriever", help="What puts passages into the prompt."),
        word_option(
            "--fuse",
            words=["none", "rrf", "weighted"],
            help="Combine the student's ranking with the retriever's: none, rrf or weighted (retrieval.fuse).",
        ),
        component_option(
            "--metric", "metrics", kind="metric", multiple=True, help="A metric; may be repeated. Default: all of them."
        ),
        word_option("--student", words=["embedded"], help="Hugging Face id, local folder, GGUF file, or `embedded`."),
        source_option(help="The task's data source (task.source)."),
        click.option("--data", type=click.Path(path_type=Path), help="Folder or file of the source (task.data)."),
        click.option(
            "--quick",
            is_flag=True,
            default=None,
            help="A trial of all stages: few samples, one epoch; its numbers say nothing.",
        ),
        click.option("--seed", type=int, help="Seed of everything that is drawn."),
        word_option("--device", words=DEVICES, help="auto, cpu, cuda, cuda:1, mps (student.device)."),
        click.option("--name", help="Name of the run folder."),
        click.option("--out", type=click.Path(path_type=Path), help="Folder that holds the run folders [runs]."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def gather(config_file: Path | None, overrides: tuple[str, ...], **flags: Any) -> dict[str, Any]:
    """The user's config: file, then --set, then flags."""
    from mint_core.config import merge, parse_override, read_config

    metrics = flags.pop("metrics", ())
    inner = {
        "teacher_model": "teacher.model",
        "fuse": "retrieval.fuse",
        "source": "task.source",
        "data": "task.data",
        "device": "student.device",
    }
    layer: dict[str, Any] = {}
    for flag, value in flags.items():
        if value is None:
            continue
        plain = str(value) if isinstance(value, Path) else value
        outer, _, key = inner.get(flag, flag).partition(".")
        layer = merge(layer, {outer: {key: plain} if key else plain})
    if metrics:
        layer["metrics"] = list(metrics)
    return merge(read_config(config_file) if config_file else {}, *map(parse_override, overrides), layer)


def given_command() -> str:
    """The command that is being carried out, so that it can be pasted into a shell."""
    return shlex.join(["mint", *(click.get_current_context().find_root().obj or ())])


def _execute(
    until: str, config_file: Path | None, overrides: tuple[str, ...], *, quiet: bool, overwrite: bool, **flags: Any
) -> None:
    from mint_core.cli.progress import Terminal
    from mint_core.config import resolve
    from mint_core.plugins import registry
    from mint_core.runs.pipeline import Shared, run_resolved
    from mint_core.runs.store import Store

    resolved = resolve(gather(config_file, overrides, **flags), registry())
    shared = Shared(Store(resolved.config.out), overwrite=overwrite)
    with Terminal(quiet=quiet) as terminal:
        result = run_resolved(resolved, until=until, observer=terminal, shared=shared, command=given_command())
    terminal.conclude(result)


@click.command()
@word_option(
    "--until",
    words=["label", "prefer", "align", "predict", "evaluate", "report"],
    default="report",
    show_default=True,
    help="Last stage to run: label, prefer, align, predict, evaluate, report.",
)
@overwrite_option
@quiet_option
@config_options
def run(until: str, **options: Any) -> None:
    """Make a whole run: label, prefer, align, predict, evaluate, report.

    Complete stages are reused; the same command again resumes. With nothing but a teacher and an aligner it runs on the
    embedded default: simulated data, a small student, no network.
    """
    _execute(until, **options)


def _stage_command(stage: str) -> click.Command:
    @click.command(name=stage, help=f"{STAGE_HELP[stage]} Runs the stages before it where they are not complete.")
    @overwrite_option
    @quiet_option
    @config_options
    def command(**options: Any) -> None:
        _execute(stage, **options)

    return command


@click.command(
    help=f"{STAGE_HELP['prefer']} Says how good they are before any training; docs/explanation/metrics.md explains it."
)
@click.option(
    "--student-groups",
    type=click.IntRange(1),
    metavar="N",
    help="Also let the base student score N groups, for example 64: how much is left to teach. [default: none]",
)
@overwrite_option
@quiet_option
@config_options
def prefer(
    config_file: Path | None,
    overrides: tuple[str, ...],
    student_groups: int | None,
    *,
    quiet: bool,
    overwrite: bool,
    **flags: Any,
) -> None:
    """Runs the stages up to the preferences, and judges them."""
    from mint_core.cli.progress import Terminal
    from mint_core.config import resolve
    from mint_core.plugins import registry
    from mint_core.report.quality import quality_told
    from mint_core.runs.pipeline import Shared
    from mint_core.runs.quality import prefer_resolved
    from mint_core.runs.store import Store

    resolved = resolve(gather(config_file, overrides, **flags), registry())
    shared = Shared(Store(resolved.config.out), overwrite=overwrite)
    with Terminal(quiet=quiet) as terminal:
        made = prefer_resolved(resolved, student_groups, shared, terminal, given_command())
    for sentence in quality_told(made.quality):
        terminal.line(sentence)
    terminal.conclude(made.run)


@click.command(help=f"{STAGE_HELP['report']} With FOLDER, a finished run or comparison, make its report again.")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--with-images", is_flag=True, help="With FOLDER: show the images that the student read. Needs the data.")
@click.option(
    "--checklist",
    type=click.Choice(["tripod-llm", "tripod-ai"]),
    help="With FOLDER: print this reporting checklist instead, with what the run knows filled in.",
)
@overwrite_option
@quiet_option
@config_options
def report(folder: Path | None, with_images: bool, checklist: str | None, quiet: bool, **options: Any) -> None:
    """Runs the stages up to the report, or makes the report of a folder again from what it holds."""
    if folder is None:
        if checklist:
            raise ConfigError("--checklist takes a finished run: `mint report runs/NAME --checklist tripod-llm`.")
        if with_images:
            raise ConfigError(
                "--with-images takes the folder of a finished run: `mint report runs/NAME --with-images`."
            )
        _execute("report", quiet=quiet, **options)
        return
    given = sorted(name.removesuffix("_file") for name, value in options.items() if value not in (None, (), False))
    if given:
        raise ConfigError(f"`mint report {folder}` takes what its folder holds; leave --{given[0]} out.")
    if checklist:
        _print_checklist(folder, checklist)
        return
    from mint_core.cli.progress import Terminal
    from mint_core.comparison.compare import redraw
    from mint_core.runs.again import report_again
    from mint_core.runs.listing import COMPARISONS

    with Terminal(quiet=quiet) as terminal:
        compared = next((folder / name for name in COMPARISONS if (folder / name).is_file()), None)
        if compared and with_images:
            raise ConfigError(f"{folder} is a comparison, whose page shows no samples; name one of its runs.")
        made = redraw(compared) if compared else report_again(folder, with_images=with_images)
    terminal.line(str(made))


def _print_checklist(folder: Path, name: str) -> None:
    """The checklist on stdout, how much of it is filled on stderr."""
    from mint_core.cli.say import say, say_lines
    from mint_core.report.checklist import markdown
    from mint_core.runs.again import fill_checklist

    filled = fill_checklist(folder, name)
    say_lines(markdown(filled, folder.resolve().name))
    say(filled.told, err=True)


_own = {"prefer": prefer, "report": report}
stage_commands = tuple(_own.get(stage) or _stage_command(stage) for stage in STAGE_HELP)
"""Without `predict`, which is a command for new samples; the stage is `mint run --until predict`."""
