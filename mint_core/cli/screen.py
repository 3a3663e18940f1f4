"""The one way of tables and bars to the terminal: what comes from outside is shown, and commands nothing.

A table that is wider than the terminal is drawn another way instead of being cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from mint_core.characters import visible

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType

_NAME, _SENTENCE = 16, 28
"""The narrowest first column, and any other: what is wider may be broken between words."""


class Screen(Console):
    """A console of rich that shows what would command the terminal; its own colours and bars are untouched."""

    def render_str(self, text: str, **options: Any) -> Text:
        """See `Console.render_str`."""
        return super().render_str(visible(text, keep="\n"), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `Console.render`: all that is ever drawn passes here."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else visible(segment.text, keep="\n")
            yield segment if text is segment.text else Segment(text, segment.style)

    def print(self, *objects: Any, **options: Any) -> None:
        """See `Console.print`; tables are drawn as they fit."""
        super().print(*(self.fitted(one) if isinstance(one, Table) else one for one in objects), **options)

    def fitted(self, table: Table) -> RenderableType:
        """A table as it fits the width: as it is, with intervals below their values, without lines, or row by row."""
        broken = _intervals_below(table)
        for one in (table, _without_lines(table), broken, _without_lines(broken)):
            if self._needs(one) <= self.width:
                return _firm(one)
        return Group(*_row_by_row(table))

    def _needs(self, table: Table) -> int:
        """Width in which no cell is cut, and only names of rows and long sentences are broken, between words."""
        whole = copy(table)
        whole.title = whole.caption = None
        whole.columns = [replace(column, no_wrap=True) for column in table.columns]
        widest = Measurement.get(self, self.options.update(width=10_000), whole).maximum
        return widest - sum(_widest(column) - _narrowest(column) for column in table.columns)


def _firm(table: Table) -> Table:
    """The same with columns that are never narrower than they may be."""
    table = copy(table)
    table.columns = [
        replace(column, no_wrap=_narrowest(column) == _widest(column), min_width=_narrowest(column))
        for column in table.columns
    ]
    return table


def _widest(column: Column) -> int:
    return max(cell_len(line) for cell in _texts(column) for line in (*cell.plain.split("\n"), ""))


def _narrowest(column: Column) -> int:
    """What a column needs: names of rows and sentences are broken between words, values are not."""
    least = _NAME if column._index == 0 else _SENTENCE
    words = max(cell_len(word) for cell in _texts(column) for word in (*cell.plain.split(), ""))
    return max(min(_widest(column), least), words)


def _texts(column: Column) -> list[Text]:
    """Heading and cells of a column."""
    cells = (column.header, *column.cells)
    return [cell if isinstance(cell, Text) else Text.from_markup(str(cell)) for cell in cells]


def _without_lines(table: Table) -> Table:
    plain = copy(table)
    plain.box, plain.padding = None, (0, 1)
    return plain


def _intervals_below(table: Table) -> Table:
    """The same with a line break in front of every interval."""
    broken = copy(table)
    broken.columns = [replace(column, _cells=[_broken(cell) for cell in column.cells]) for column in table.columns]
    return broken


def _broken(cell: RenderableType) -> RenderableType:
    return re.sub(r" (?=\\?\[[-+\d])", "\n", cell) if isinstance(cell, str) else cell


def _row_by_row(table: Table) -> Iterator[RenderableType]:
    """Every row as a list: its name, and below it heading and value of each column."""
    if table.title:
        yield table.title
    headings, *rows = zip(*map(_texts, table.columns), strict=True)
    for row in rows:
        if headings[0].plain:
            row[0].plain = f"{headings[0].plain} {row[0].plain}"
        row[0].stylize("bold")
        yield row[0]
        lines = Table.grid(padding=(0, 2))
        for heading, value in zip(headings[1:], row[1:], strict=True):
            lines.add_row("", heading, value)
        yield lines
    if table.caption:
        yield table.caption
