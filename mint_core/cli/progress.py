"""What a person sees while a run works: bars with ETA on a terminal, a line now and then elsewhere. All on stderr."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mint_core.characters import visible
from mint_core.cli.screen import Screen
from mint_core.observer import Observer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mint_core.runs.pipeline import RunResult

_LINE_EVERY = 20.0
"""Seconds between two lines where there is no terminal."""


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
        self.first: tuple[float, int] | None = None
        self.last_line = time.monotonic()

    def __enter__(self) -> Terminal:
        hush_libraries()
        if self.console.is_terminal and not self.console.quiet:
            self.bar = Progress(
                TextColumn("{task.description:<9}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("eta"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[figures]}", markup=False),
                console=self.console,
                transient=True,
            )
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def message(self, text: str) -> None:
        """Prints one sentence, on one line whatever it quotes."""
        self.console.print(visible(text), markup=False)

    def line(self, text: str) -> None:
        """Prints one line of the result on stdout."""
        self.out.print(visible(text), markup=False, soft_wrap=True)

    def stage(self, name: str, *, reused: bool, reason: str = "") -> None:
        """Announces a stage."""
        self.name, self.first, self.last_line = name, None, time.monotonic()
        if reused:
            self.message(f"{name:<9} complete, reused")
            return
        if self.bar is not None:
            self.task = self.bar.add_task(visible(name), total=None, unit="", figures=visible(reason))
        else:
            self.message(f"{name:<9} …{f' ({reason})' if reason else ''}")

    def progress(self, done: int, total: int, unit: str, figures: Mapping[str, float] | None = None) -> None:
        """Moves the bar, or prints a line when the last one is old."""
        shown = "  ".join(f"{key} {value:.3f}" for key, value in (figures or {}).items() if key in ("loss", "margin"))
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=done, total=total, unit=visible(unit), figures=visible(shown))
            return
        now = time.monotonic()
        begin, before = self.first = self.first or (now, done)  # what came before, a teacher's fit, is no measure
        if now - self.last_line > _LINE_EVERY and before < done < total:
            self.last_line = now
            left = (now - begin) / (done - before) * (total - done)
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
            from mint_core.report.table import result_table
            from mint_core.report.uncredited import uncredited

            self.out.print(result_table(result.metrics))
            for sentence in uncredited(result.metrics):
                self.out.print(escape(sentence))
        self.message(f"{result.seconds:.1f} s, peak memory {result.peak_memory_bytes / 2**30:.1f} GiB")
        self.line(f"run: {result.path}")


def hush_libraries() -> None:
    """Progress bars and advice of the libraries below stay out of the way; they are no use to the person who waits."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", module=r"(torch|transformers|peft|accelerate)(\..*)?$")
