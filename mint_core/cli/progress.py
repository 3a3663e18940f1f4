"""What a person sees while a run works: bars with ETA on a terminal, a line now and then elsewhere. All on stderr."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from mint_core.characters import visible
from mint_core.cli.say import between_words
from mint_core.cli.screen import Screen
from mint_core.libraries import quiet_libraries
from mint_core.observer import Observer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mint_core.runs.pipeline import RunResult

_LINE_EVERY = 20.0
"""Seconds between two lines where there is no terminal."""


class _Pace:
    """How fast a stage goes, from its second piece of work on: models are loaded and warmed up in the first one.

    Args:
        total: All pieces.
        unit: What they are.
        before: Those that were done when the stage began, or its first one.
    """

    def __init__(self, total: int, unit: str, before: int) -> None:
        self.total, self.unit, self.before = total, unit, before
        self.begin: tuple[float, int] | None = None

    def seconds_left(self, done: int, now: float) -> float | None:
        """None as long as nobody can say."""
        if self.begin is None:
            self.begin = (now, done) if done > self.before else None
            return None
        time_then, done_then = self.begin
        return (now - time_then) / (done - done_then) * (self.total - done) if done > done_then else None


class _Clock(ProgressColumn):
    """The time that is left, or as long as nobody can say the time that has passed."""

    def render(self, task: Task) -> Text:
        """See `ProgressColumn.render`."""
        end = task.fields["end"]
        seconds = (task.elapsed or 0) if end is None else max(0, end - time.monotonic())
        return Text(f"{timedelta(seconds=int(seconds))} {'so far' if end is None else 'left'}")


class Terminal(Observer):
    """Draws a run's progress.

    Args:
        quiet: Say nothing before the result.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Screen(stderr=True, quiet=quiet, highlight=False, soft_wrap=True, emoji=False)
        self.out = Screen(highlight=False, width=None if Screen().is_terminal else 140, emoji=False)
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.name = ""
        self.pace: _Pace | None = None
        self.last_line = time.monotonic()
        self._open = ExitStack()

    def __enter__(self) -> Terminal:
        self._open.enter_context(quiet_libraries())
        if self.console.is_terminal and not self.console.quiet:
            self.bar = Progress(
                TextColumn("{task.description:<9}", markup=False),
                BarColumn(max(5, min(40, self.console.width - 70))),
                TextColumn("{task.fields[count]}", markup=False),
                _Clock(),
                TextColumn("{task.fields[figures]}", markup=False, table_column=Column(no_wrap=True)),
                console=self.console,
                transient=True,
            )
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._open:
            if self.bar is not None:
                self.bar.stop()

    def message(self, text: str) -> None:
        """Prints one sentence, on one line whatever it quotes; a terminal breaks it between words."""
        self._print(self.console, text)

    def line(self, text: str) -> None:
        """Prints one line of the result on stdout."""
        self._print(self.out, text)

    @staticmethod
    def _print(screen: Screen, text: str) -> None:
        line = between_words(visible(text), screen.width if screen.is_terminal else None)
        screen.print(line, markup=False, soft_wrap=True)

    def stage(self, name: str, *, reused: bool, reason: str = "") -> None:
        """Announces a stage."""
        self.name, self.pace, self.last_line = name, None, time.monotonic()
        if reused:
            self.message(f"{name:<9} complete, reused")
            return
        if self.bar is not None:
            self.task = self.bar.add_task(visible(name), total=None, count="", end=None, figures=visible(reason))
        else:
            self.message(f"{name:<9} …{f' ({reason})' if reason else ''}")

    def progress(self, done: int, total: int, unit: str, figures: Mapping[str, float] | None = None) -> None:
        """Moves the bar, or prints a line when the last one is old."""
        shown = "  ".join(f"{key} {value:.3f}" for key, value in (figures or {}).items() if key in ("loss", "margin"))
        if self.pace is None or (self.pace.total, self.pace.unit) != (total, unit):
            self.pace = _Pace(total, unit, done)
        now = time.monotonic()
        left = self.pace.seconds_left(done, now)
        if self.bar is not None and self.task is not None:
            fields: dict[str, Any] = {
                "count": f"{done}/{total} {visible(unit)}",
                "end": None if left is None else now + left,
            }
            self.bar.update(self.task, completed=done, total=total, figures=visible(shown), **fields)
        elif now - self.last_line > _LINE_EVERY and left is not None and done < total:
            self.last_line = now
            self.message(f"{self.name:<9} {done}/{total} {unit}, about {left:.0f} s left  {shown}")

    def finished(self, name: str, seconds: float) -> None:
        """Says how long a stage took."""
        if self.bar is not None and self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None
        self.message(f"{name:<9} done in {seconds:.1f} s")

    def print_tables(self, tables: Sequence[RenderableType]) -> None:
        """Prints tables on stdout, as wide as they are where no terminal limits them."""
        out = self.out if self.out.is_terminal else Screen(highlight=False, width=250, emoji=False)
        for table in tables:
            out.print(table)

    def conclude(self, result: RunResult) -> None:
        """Prints the table, or the run folder, on stdout."""
        if result.metrics is not None:
            from mint_core.report.conclusion import conclusion
            from mint_core.report.failures import failures_told
            from mint_core.report.subgroups import gaps_told
            from mint_core.report.table import result_table

            self.out.print(result_table(result.metrics))
            if told := conclusion(result.metrics):
                self.line(told)
            for sentence in (*gaps_told(result.metrics), *failures_told(result.metrics)):
                self.line(sentence)
        self.message(f"{result.seconds:.1f} s, peak memory {result.peak_memory_bytes / 2**30:.1f} GiB")
        self.line(f"run: {result.path}")
