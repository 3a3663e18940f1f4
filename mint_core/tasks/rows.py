"""Reads tables row by row: CSV and TSV files, JSON lines, Parquet."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from mint_core.documents import parse_json
from mint_core.errors import DataError
from mint_core.files import check_regular
from mint_core.tables import check_columns, first_row, present, ragged, read_head, read_text, split_rows, warn_of_words

LINES = frozenset({".jsonl", ".ndjson", ".json"})
PARQUET = frozenset({".parquet", ".pq"})
SUFFIXES = PARQUET | {".csv", ".tsv", ".txt"}
"""How the names of manifests end."""
TABLES = SUFFIXES | LINES
_DELIMITERS = (",", ";", "\t")
_BATCH = 1_000
"""Rows of a Parquet file that are Python objects at once."""
_LOOKED = 10_000
"""Rows of it in which words are looked for that may mean that there is nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row; empty cells are left out."""

    where: str
    """For messages. Rows are counted as a spreadsheet does, the column names being row 1; Parquet counts from 1."""
    cells: Mapping[str, str]
    """By field of mint."""
    problem: str = ""
    """Why it cannot be read, or empty."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Columns that mint does not read, by their own names: results can be reported by them."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose columns are called as mint calls them."""

    path: Path
    columns: frozenset[str]
    """Fields that there are; in JSON lines those that are filled somewhere."""
    rows: Collection[Row]
    """Those of a Parquet file are read anew whenever they are gone through."""
    named: frozenset[str] = frozenset()
    """Columns that the file names, filled or not, in its own words."""


def read_table(
    path: Path,
    column_of: Mapping[str, str],
    needed: Mapping[str | tuple[str, ...], str],
    *,
    missing: Collection[str] = (),
    what: str = "Table",
    front: str = "",
    known_words: bool = False,
) -> Table:
    """Reads the columns that mint uses, and beside them those that hold one value per row.

    Args:
        path: JSON lines by its ending or its first sign, Parquet by its ending, or else CSV with comma, semicolon or
            tab, with or without a byte order mark.
        column_of: Column by field.
        needed: Fields that must be there, one of several being enough, and how the user names another column for it,
            such as `--set task.columns.text=NAME`.
        missing: Words that mean that a cell is empty.
        what: What messages call the file.
        front: What stands in front of its name where a row is told.
        known_words: The reader knows by itself which words mean that there is nothing.

    Returns:
        The table, its cells by field.

    Raises:
        DataError: The file cannot be read, lacks columns that are needed or names one twice, or no line is JSON.
    """
    if path.suffix.lower() in PARQUET:
        found, surely = _parquet(path, set(column_of.values()), what), True
    else:
        text = read_text(path, what)
        surely = path.suffix.lower() in LINES or text.startswith("{")
        if surely:
            found = _json_lines(path, text, set(column_of.values()), missing, front)
        else:
            found = _delimited(path, text, set(column_of.values()), what, front)
    columns = [tuple(column_of[one] for one in ((some,) if isinstance(some, str) else some)) for some in needed]
    check_columns(path.name, found.columns, dict(zip(columns, needed.values(), strict=True)), surely=surely)
    twice = sorted({name for name in found.columns if name and found.columns.count(name) > 1})
    if twice:
        raise DataError(f"{path.name} has two columns '{twice[0]}'; rename one of them.")
    place = f"{front}{path.name}, "

    def named(row: _Raw) -> Row:
        return row_of(place + row.number, row.values, column_of, missing, row.problem)

    stored = isinstance(found.rows, _Stored)
    rows: Collection[Row] = _Renamed(found.rows, named) if stored else [*map(named, found.rows)]
    there = {name for row in found.rows for name in row.values} if surely and found.sparse else set(found.columns)
    if not known_words:
        looked = list(islice(rows, _LOOKED)) if stored else rows
        cells = {
            column: [row.cells[name] for row in looked if name in row.cells]
            for name, column in column_of.items()
            if column in there
        }
        warn_of_words(path.name, cells, "--set task.missing")
    fields = frozenset(name for name, column in column_of.items() if column in there)
    return Table(path, fields, rows, frozenset(found.columns))


class _Raw(NamedTuple):
    """A row as it stands in the file."""

    number: str
    values: Mapping[str, Any]
    problem: str = ""


class _Found(NamedTuple):
    columns: Sequence[str]
    rows: Collection[_Raw]
    sparse: bool = False
    """A row names only what it has."""


def row_of(
    where: str, values: Mapping[str, Any], column_of: Mapping[str, str], missing: Collection[str], problem: str = ""
) -> Row:
    """A row by the fields of mint, from its values by column.

    Args:
        where: For messages.
        values: Texts, numbers and None.
        column_of: Column by field.
        missing: Words that mean that a cell is empty.
        problem: Why it cannot be read, or empty.
    """
    used = set(column_of.values())
    filled = {column: cell for column, value in values.items() if (cell := present(value, missing))}
    cells = {name: filled[column] for name, column in column_of.items() if column in filled}
    others = {column: cell for column, cell in filled.items() if column and column not in used}
    return Row(where, cells, problem, others)


class Head(NamedTuple):
    """What the first lines of a table tell."""

    lines: bool
    """They are JSON lines."""
    columns: frozenset[str]
    """None where it is no table."""


def head_of(path: Path, wanted: Iterable[str] = ()) -> Head:
    """The columns of what may be a table, as far as its first lines tell.

    Args:
        path: Any file.
        wanted: Columns by which the delimiter is recognised.
    """
    suffix = path.suffix.lower()
    if suffix in PARQUET:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            check_regular(path)
            return Head(False, frozenset(pq.read_schema(path).names))
        except (OSError, pa.ArrowException):
            return Head(False, frozenset())
    text = read_head(path)
    if suffix in LINES or text.startswith("{"):
        named: set[str] = set()
        for line in filter(str.strip, text.split("\n")):
            _object("", "", line, frozenset(), named)
        return Head(True, frozenset(named))
    return Head(False, frozenset(first_row(text, _delimiter(text, set(wanted)))))


def _delimiter(text: str, wanted: Collection[str]) -> str:
    """The delimiter under which the first line holds most of the wanted columns, or else most columns."""

    def score(delimiter: str) -> tuple[int, int]:
        columns = first_row(text, delimiter)
        return len(set(columns) & set(wanted)), len(columns)

    return max(_DELIMITERS, key=score)


def _delimited(path: Path, text: str, wanted: Collection[str], what: str, front: str) -> _Found:
    found = split_rows(path, text, what, _delimiter(text, wanted))
    rows = []
    for number, cells in found.rows:
        where = f"row {number}"
        problem = ragged(f"{front}{path.name}, {where}", found.columns, cells)
        rows.append(_Raw(where, {} if problem else dict(zip(found.columns, cells, strict=False)), problem))
    return _Found(found.columns, rows)


def _json_lines(path: Path, text: str, used: Collection[str], missing: Collection[str], front: str) -> _Found:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    named: set[str] = set()
    rows = [_object(f"{front}{path.name}", f"line {number}", line, used, named) for number, line in lines]
    if all(row.problem for row in rows):  # a list of objects, for example
        raise DataError(rows[0].problem)
    filled = [row._replace(values={key: v for key, v in row.values.items() if present(v, missing)}) for row in rows]
    return _Found(sorted(named), filled, sparse=True)


def _object(place: str, number: str, line: str, used: Collection[str], named: set[str]) -> _Raw:
    """One line; its keys are added to `named`. Lists and objects in columns that nobody reads are passed over."""
    where = f"{place}, {number}"
    try:
        content = parse_json(line)
    except ValueError:
        return _Raw(number, {}, f"{where} is not valid JSON; write one object per line.")
    if not isinstance(content, dict):
        return _Raw(number, {}, f"{where} is no JSON object; write one object per line.")
    nested = [key for key, value in content.items() if isinstance(value, dict | list)]
    unread = next((key for key in nested if key in used), None)
    if unread is not None:
        return _Raw(number, {}, f"{where}: '{unread}' holds a nested value; mint reads texts and numbers.")
    values = {key: value for key, value in content.items() if key not in nested}
    if any(re.search(r"[\ud800-\udfff]", f"{key}{value}") for key, value in values.items()):
        return _Raw(
            number, {}, f"{where} holds half a character (a lone surrogate, \\ud800 to \\udfff); mend the text."
        )
    named.update(content)
    return _Raw(number, values)


def _parquet(path: Path, used: Collection[str], what: str) -> _Found:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        check_regular(path)
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            nested = {one.name for one in schema if pa.types.is_nested(one.type)}
            unread = nested | {one.name for one in schema if "binary" in str(one.type)}
            names = list(schema.names)
            count = file.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{what} {path} is not a readable Parquet file; write it again.") from error
    wrong = next((one for one in names if one in nested and one in used), None)
    if wrong is not None:
        raise DataError(f"{what} {path}: column '{wrong}' holds nested values; mint reads paths and names only.")
    read = [one for one in names if names.count(one) == 1 and (one in used or one not in unread)]
    return _Found(names, _Stored(path, read, count))


class _Stored(Collection[_Raw]):
    """The rows of a Parquet file, read piece by piece."""

    def __init__(self, path: Path, columns: Sequence[str], count: int) -> None:
        self._path, self._columns, self._count = path, columns, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[_Raw]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        number = 0
        try:
            with pq.ParquetFile(self._path) as file:
                for batch in file.iter_batches(_BATCH, columns=list(self._columns)):
                    for values in batch.to_pylist():
                        number += 1
                        yield _Raw(f"row {number}", values)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self._path} is not a readable Parquet file; write it again.") from error

    def __contains__(self, row: object) -> bool:
        return any(one == row for one in self)


class _Renamed(Collection[Row]):
    """The same with the columns called as mint calls them."""

    def __init__(self, rows: Collection[_Raw], named: Callable[[_Raw], Row]) -> None:
        self._rows, self._named = rows, named

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return map(self._named, self._rows)

    def __contains__(self, row: object) -> bool:
        return any(one == row for one in self)
