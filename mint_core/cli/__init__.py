"""The command line: `mint`. Nothing here imports torch, pydantic or a plugin before a command needs it."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from mint_core import processes
from mint_core.cli.compare import compare, sweep
from mint_core.cli.doctor import doctor
from mint_core.cli.explain import explain
from mint_core.cli.export import export
from mint_core.cli.inspect import config, plugins
from mint_core.cli.plan import plan
from mint_core.cli.plugin import plugin
from mint_core.cli.predict import predict
from mint_core.cli.preserve import preserve
from mint_core.cli.run import run, stage_commands
from mint_core.cli.runs import runs
from mint_core.cli.say import own_terminal, say, say_lines, say_traceback
from mint_core.cli.submit import submit
from mint_core.errors import EXIT_CODES, INTERRUPTED, ContractError, MintError, StorageError
from mint_core.faults import explained
from mint_core.interrupts import sigterm_is_ctrl_c

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items())


_FAILED = EXIT_CODES.keys() - {0, INTERRUPTED}


@click.group(
    epilog=_EPILOG,
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
    What is here:      mint plugins, mint runs, mint doctor
    Your own plugin:   mint plugin new teacher my-words
    """  # noqa: D301 - click wants the backspace


for command in (
    run,
    plan,
    compare,
    sweep,
    submit,
    *stage_commands,
    predict,
    explain,
    preserve,
    export,
    runs,
    plugins,
    plugin,
    config,
    doctor,
):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs the CLI and turns errors into one sentence and an exit code. `--debug` shows the traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    with own_terminal(), sigterm_is_ctrl_c():
        _main(given, debug)
    sys.exit(0)


def _main(given: list[str], debug: bool) -> None:
    try:
        with processes.joined():
            if processes.is_first():
                cli.main(args=given, prog_name="mint", standalone_mode=False, obj=tuple(given))
            else:
                from mint_core.libraries import quiet_libraries
                from mint_core.runs.pipeline import follow

                with quiet_libraries():
                    follow()
    except (click.exceptions.Abort, KeyboardInterrupt):
        _stop("Interrupted. The same command goes on from there.", INTERRUPTED, debug)
    except click.exceptions.NoArgsIsHelpError as error:  # nothing was asked, and nothing is wrong
        say_lines(f"{error.format_message()}\n")
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        where = f" Run `{context.command_path} --help` for the options." if context else ""
        _stop(error.format_message() + where, error.exit_code, debug)
    except MintError as error:
        # a plugin's own kind of error may claim any code, 0 too
        _stop(str(error), error.exit_code if error.exit_code in _FAILED else ContractError.exit_code, debug)
    except SystemExit as error:
        fault = _fault_of_a_plugin(error)
        if fault is not None:  # it may claim any code, 0 too
            _stop(str(fault), fault.exit_code, debug)
        raise
    except BaseException as error:  # the last resort: no traceback, which could show patients' text, without --debug
        told = explained(error) if isinstance(error, Exception) else None
        if told is not None:
            _stop(str(told), told.exit_code, debug)
        fault = _fault_of_a_plugin(error)
        if fault is not None:
            _stop(str(fault), fault.exit_code, debug)
        if isinstance(error, OSError):
            _stop(f"{error.strerror or error}: {error.filename or 'no file named'}", StorageError.exit_code, debug)
        _stop(f"Unexpected {type(error).__name__}; give the same command with --debug and report it.", 1, debug)


def _fault_of_a_plugin(error: BaseException) -> MintError | None:
    from mint_core.plugins import blamed

    return blamed(error)


def _stop(message: str, code: int, debug: bool) -> NoReturn:
    if debug:
        say_traceback()
    if processes.is_first() or code != INTERRUPTED:  # all of torchrun's processes are interrupted
        say(f"mint: {message}", err=True)
    sys.exit(code)
