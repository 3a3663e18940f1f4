"""The command line: `mint`. Nothing here imports torch, pydantic or a plugin before a command needs it."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from mint_core import processes
from mint_core.cli.compare import compare, sweep
from mint_core.cli.doctor import doctor
from mint_core.cli.export import export
from mint_core.cli.inspect import config, plugins
from mint_core.cli.plan import plan
from mint_core.cli.predict import predict
from mint_core.cli.run import run, stage_commands
from mint_core.errors import MintError, StorageError
from mint_core.faults import explained

EXIT_CODES = """\b
Exit codes:
  0    done
  1    an unexpected error (a bug: please report it)
  2    a flag, a config key, a value or a name is wrong
  3    a plugin is broken, or two plugins claim one name
  4    the data cannot be read or contradict themselves
  5    a component broke its contract
  6    a student or teacher cannot be found or loaded
  7    training cannot go on: a loss or gradient is not finite
  8    the run folder cannot be written (disk full, no permission, in use)
  9    `mint predict --on-error skip`: done, but some samples failed
  10   the memory of the machine or of the GPU does not suffice
  130  interrupted; the same command goes on from there"""


@click.group(
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="mint-core", prog_name="mint")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error; may stand anywhere.")
def cli() -> None:
    """Align a student that reads one modality on the preferences of a teacher that reads several.

    \b
    Try it:            mint run --teacher plip --aligner orpo
    Your own patches:  mint run --teacher plip --aligner orpo --source folder --data PATH
    New samples:       mint predict --adapter runs/NAME/adapter --input notes.jsonl
    What is here:      mint plugins, mint doctor
    """  # noqa: D301 - click wants the backspace


for command in (run, plan, compare, sweep, *stage_commands, predict, export, plugins, config, doctor):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs the CLI and turns errors into one sentence and an exit code. `--debug` shows the traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        with processes.joined():
            if processes.is_first():
                cli.main(args=given, prog_name="mint", standalone_mode=False)
            else:
                from mint_core.cli.progress import hush_libraries
                from mint_core.runs.pipeline import follow

                hush_libraries()
                follow()
    except (click.exceptions.Abort, KeyboardInterrupt):
        _stop("Interrupted. The same command goes on from there.", 130, debug)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        where = f" Run `{context.command_path} --help` for the options." if context else ""
        _stop(error.format_message() + where, error.exit_code, debug)
    except MintError as error:
        _stop(str(error), error.exit_code, debug)
    except Exception as error:  # the last resort: no traceback, which could show patients' text, without --debug
        told = explained(error)
        if told is not None:
            _stop(str(told), told.exit_code, debug)
        if isinstance(error, OSError):
            _stop(f"{error.strerror or error}: {error.filename or 'no file named'}", StorageError.exit_code, debug)
        _stop(f"Unexpected {type(error).__name__}; give the same command with --debug and report it.", 1, debug)
    sys.exit(0)


def _stop(message: str, code: int, debug: bool) -> NoReturn:
    if debug:
        import traceback

        traceback.print_exc()
    click.echo(f"mint: {message}", err=True)
    sys.exit(code)
