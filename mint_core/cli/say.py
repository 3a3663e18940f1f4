"""The one way of plain text to the terminal: what comes from outside is shown, and commands nothing.

Tables and bars go through `mint_core.cli.screen`, by the same rules.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
import textwrap
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from mint_core.characters import visible


def say(text: str, *, err: bool = False, indent: int = 0) -> None:
    """Prints one line; a line break in it is written out, so that no text from outside makes a line of its own.

    Args:
        text: The line.
        err: On stderr.
        indent: Where the line goes on that a terminal breaks.
    """
    click.echo(between_words(visible(text), _width(err=err), indent), err=err)


def _width(*, err: bool) -> int | None:
    """Of the terminal; None where there is none."""
    stream = sys.stderr if err else sys.stdout
    return shutil.get_terminal_size().columns if stream is not None and stream.isatty() else None


def between_words(line: str, width: int | None, indent: int = 0) -> str:
    """A line that is broken between words where a terminal would break it anywhere.

    Args:
        line: Without line breaks.
        width: Of the terminal; None = there is none, and the line stays one.
        indent: Of all further lines.
    """
    if width is None or len(line) <= width:
        return line
    line = re.sub(r"`[^`]*`", lambda quoted: quoted[0].replace(" ", "\0"), line)  # a command stays in one piece
    how: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False, "subsequent_indent": " " * indent}
    return textwrap.fill(line, max(width, 2 * indent, 20), **how).replace("\0", " ")


def say_lines(text: str, *, err: bool = False) -> None:
    """Prints a text whose line breaks are mint's own: a document, a traceback. Arguments as above."""
    click.echo(visible(text, keep="\n"), err=err, nl=not text.endswith("\n"))


def say_json(content: Any) -> None:
    """Prints a JSON document in ASCII, which commands no terminal and is read back as it was."""
    click.echo(json.dumps(content, indent=2).replace("\x7f", "\\u007f"))


def say_traceback() -> None:
    """Prints where an error was raised, on stderr; its own words may have lines, which a bar in front tells apart."""
    say_lines("".join(f"| {line}\n" for line in traceback.format_exc().split("\n") if line), err=True)


@contextmanager
def own_terminal() -> Iterator[None]:
    """As long as it lasts warnings, log lines and errors of threads are shown by the same rules.

    What threads raise is told by its type alone: a library's words may quote patients' text.
    """
    before = (warnings.formatwarning, logging.getLogRecordFactory(), threading.excepthook, sys.unraisablehook)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows no UTF-8 is no reason to stop
    warnings.formatwarning = _warning_line
    logging.setLogRecordFactory(_LogRecord)
    threading.excepthook = _thread_failed
    sys.unraisablehook = _unraisable
    try:
        yield
    finally:
        warnings.formatwarning, factory, threading.excepthook, sys.unraisablehook = before
        logging.setLogRecordFactory(factory)


def _warning_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Mint's own warnings as a sentence; those of others with the place that they come from."""
    own = any(part.startswith("mint_") for part in Path(filename).parts)
    told = visible(f"Warning: {message}" if own else f"{filename}:{lineno}: {category.__name__}: {message}")
    return between_words(told, _width(err=True)) + "\n"


class _LogRecord(logging.LogRecord):
    def getMessage(self) -> str:
        return visible(super().getMessage())


def _thread_failed(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_type is not SystemExit:
        say(f"mint: a thread failed ({arguments.exc_type.__name__}).", err=True)


def _unraisable(arguments: sys.UnraisableHookArgs) -> None:
    say(f"mint: an object could not be cleared away ({arguments.exc_type.__name__}).", err=True)
