"""Reads a manifest: a CSV or Parquet table with one image per row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mint_core.plugin import (
    DataError,
    check_columns,
    check_regular,
    first_row,
    present,
    ragged,
    read_head,
    read_text,
    split_rows,
    warn_of_words,
)
from mint_plip.sources.options import TissueOptions

_DELIMITERS = (",", ";", "\t")
PARQUET = frozenset({".parquet", ".pq"})
SUFFIXES = PARQUET | {".csv", ".tsv", ".txt"}
FIELDS = ("image", "label", "group", "split", "id")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the manifest; empty cells are None."""

    number: int
    """As a spreadsheet counts: the column names are row 1. In Parquet, the first row is 1."""
    image: str | None
    label: str | None
    group: str | None
    split: str | None
    id: str | None
    others: Mapping[str, str] = field(default_factory=dict)
    """Columns that mint does not read, by their own names: results can be reported by them."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All rows, and which optional columns there are."""

    rows: Sequence[Row]
    has_groups: bool
    has_splits: bool
    has_ids: bool


@dataclass(frozen=True, slots=True)
class _Table:
    columns: Sequence[str]
    rows: Sequence[tuple[int, Sequence[str]]]
    """Row number and cells."""
    unread: frozenset[str] = frozenset()
    """Columns that hold bytes, or more than one value per row."""


def read_manifest(path: Path, options: TissueOptions, fields: Sequence[str] = FIELDS) -> Manifest:
    """Reads the columns that the options name, and where labels are read the others too.

    A byte order mark and the delimiters comma, semicolon and tab are understood.

    Args:
        path: A CSV or Parquet file.
        options: The `*_column` options and `missing` count.
        fields: What is read; the others are None. An image is always needed, and a label where it is among them.

    Raises:
        DataError: The file cannot be read, a column is missing or named twice, or a row is ragged.
    """
    wanted = {field: str(getattr(options, f"{field}_column")) for field in fields}
    whole = "label" in fields
    parquet = path.suffix.lower() in PARQUET
    table = _read_parquet(path, wanted, whole=whole) if parquet else _read_csv(path, wanted)
    _check_columns(path, table.columns, wanted)
    place = {field: table.columns.index(column) for field, column in wanted.items() if column in table.columns}
    others = _others(table, wanted) if whole else {}
    rows = []
    for number, cells in table.rows:
        own = {f: (present(cells[place[f]], options.missing) or None) if f in place else None for f in FIELDS}
        beside = {column: cell for column, at in others.items() if (cell := present(cells[at], options.missing))}
        rows.append(Row(number, **own, others=beside))
    told = {wanted[field]: [cell for row in rows if (cell := getattr(row, field))] for field in place}
    warn_of_words(path.name, told, "--set task.missing")
    return Manifest(rows, "group" in place, "split" in place, "id" in place)


def _others(table: _Table, wanted: Mapping[str, str]) -> dict[str, int]:
    """Place of every further column that has a name of its own."""
    counts = Counter(table.columns)
    left_out = {*wanted.values(), *table.unread}
    return {
        column: at
        for at, column in enumerate(table.columns)
        if column and counts[column] == 1 and column not in left_out
    }


def columns_of(path: Path, options: TissueOptions) -> Sequence[str]:
    """The columns of what may be a manifest; none where it is no table that can be read."""
    if path.suffix.lower() in PARQUET:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            check_regular(path)
            return list(pq.read_schema(path).names)
        except (OSError, pa.ArrowException):
            return ()
    head = read_head(path) if path.suffix.lower() in SUFFIXES else ""
    return first_row(head, _delimiter(head, {field: getattr(options, f"{field}_column") for field in FIELDS}))


def _check_columns(path: Path, columns: Sequence[str], wanted: Mapping[str, str]) -> None:
    needed: dict[tuple[str, ...], str] = {
        (column,): f"--set task.{field}_column=NAME"
        for field, column in wanted.items()
        # An optional column may be absent, unless the user took the trouble to name it.
        if field in ("image", "label") or column != TissueOptions.model_fields[f"{field}_column"].default
    }
    check_columns(str(path), columns, needed, surely=path.suffix.lower() in PARQUET)
    for column in wanted.values():
        if list(columns).count(column) > 1:
            raise DataError(f"{path} has two columns '{column}'; rename one of them.")


def _read_csv(path: Path, wanted: Mapping[str, str]) -> _Table:
    text = read_text(path, "Manifest")
    found = split_rows(path, text, "Manifest", _delimiter(text, wanted))
    for number, cells in found.rows:
        problem = ragged(f"Manifest {path}, row {number}", found.columns, cells)
        if problem:
            raise DataError(problem)
    return _Table(found.columns, found.rows)


def _delimiter(text: str, wanted: Mapping[str, str]) -> str:
    """The delimiter under which the first line holds most of the wanted columns, or else most columns."""

    def score(delimiter: str) -> tuple[int, int]:
        columns = first_row(text, delimiter)
        return len(set(columns) & set(wanted.values())), len(columns)

    return max(_DELIMITERS, key=score)


def _read_parquet(path: Path, wanted: Mapping[str, str], *, whole: bool) -> _Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        check_regular(path)
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            columns = list(schema.names)
            nested = {one.name for one in schema if pa.types.is_nested(one.type)}
            unread = frozenset(nested | {one.name for one in schema if "binary" in str(one.type)})
            further = {one for one in columns if columns.count(one) == 1} - unread if whole else set()
            used = [one for one in columns if one in {*wanted.values(), *further}]
            table = file.read(columns=used)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"Manifest {path} is not a readable Parquet file; write it again.") from error
    values = {}
    for column in used:
        if column in nested:
            raise DataError(f"Manifest {path}: column '{column}' holds nested values; mint reads paths and names only.")
        values[column] = [present(value) for value in table.column(column).to_pylist()]
    empty = [""] * table.num_rows
    cells = zip(*(values.get(column, empty) for column in columns), strict=True)
    return _Table(columns, list(enumerate(cells, 1)), unread)
