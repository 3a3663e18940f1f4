"""Reads tables: CSV and TSV files, and JSON lines."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mint_core.plugin import (
    ConfigError,
    DataError,
    FileImage,
    check_columns,
    check_image_header,
    did_you_mean,
    file_below,
    first_row,
    parse_json,
    present,
    ragged,
    read_head,
    read_text,
    split_rows,
    warn_of_words,
)
from mint_gestalt.sources.options import RareDiseaseOptions


@dataclass(frozen=True, slots=True)
class Row:
    """One row; empty cells are left out."""

    where: str
    cells: Mapping[str, str]
    problem: str = ""
    """Why it cannot be read, or empty."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Columns that mint does not read, by their own names: results can be reported by them."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose columns are called as mint calls them."""

    path: Path
    columns: frozenset[str]
    """In JSON lines those that are filled somewhere."""
    rows: Sequence[Row]
    named: frozenset[str] = frozenset()
    """Those that the file names, filled or not, in its own words."""


def read_table(
    path: Path,
    fields: Mapping[str, str],
    options: RareDiseaseOptions,
    extra: Iterable[str] = (),
    must: Iterable[str] = (),
    *,
    needed: Sequence[tuple[str, ...]] = (),
    known_words: bool = False,
) -> Table:
    """Reads the columns that mint uses.

    Args:
        path: JSON lines by its ending or its first sign, `.tsv`, or else CSV with comma, semicolon or tab.
        fields: Usual column by field of mint.
        options: `columns` renames, `missing` names words that mean that there is nothing.
        extra: Further columns to keep under their own name.
        must: Those of them that must be there.
        needed: Fields that must be there; one of those that stand together is enough.
        known_words: The reader knows by itself which words of its tables mean that there is nothing.

    Returns:
        The table, its cells by field.

    Raises:
        ConfigError: `columns` renames a field that there is not.
        DataError: The file cannot be read, or lacks columns that are needed or that the user named.
    """
    for name in options.columns:
        if name not in fields:
            raise ConfigError(f"task.columns: there is no field '{name}'{did_you_mean(name, fields)}.")
    column_of = {**{name: name for name in extra}, **fields, **options.columns}
    text = read_text(path, "Table")
    lines = path.suffix.lower() in (".jsonl", ".ndjson", ".json") or text.startswith("{")
    missing = options.missing
    table = _json_lines(path, text, missing) if lines else _csv(path, text, missing)
    wanted = [(field,) for field in options.columns if not any(field in some for some in needed)] + list(needed)
    check_columns(
        path.name,
        table.named,
        {
            **{tuple(column_of[field] for field in some): f"--set task.columns.{some[0]}=NAME" for some in wanted},
            **{(column,): "--set task.privileged='[NAME]'" for column in must},
        },
        surely=lines,
    )
    read = [column for column in dict.fromkeys(column_of.values()) if column in table.columns]
    cells = {column: [row.cells[column] for row in table.rows if column in row.cells] for column in read}
    if not known_words:
        warn_of_words(path.name, cells, "--set task.missing")
    return Table(
        path,
        frozenset(field for field, column in column_of.items() if column in table.columns),
        [_renamed(row, column_of) for row in table.rows],
        table.named,
    )


class Head(NamedTuple):
    """What the first lines of a table tell."""

    lines: bool
    """They are JSON lines."""
    columns: frozenset[str]
    """None where it is no table."""


def head_of(path: Path) -> Head:
    """The columns of what may be a table, as far as its first lines tell."""
    text = read_head(path)
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson", ".json") or text.startswith("{"):
        named: set[str] = set()
        for line in filter(str.strip, text.split("\n")):
            _object("", line, (), named)
        return Head(True, frozenset(named))
    return Head(False, frozenset(first_row(text, _delimiter(path, text))))


def _delimiter(path: Path, text: str) -> str:
    first = text.lstrip("\r\n").partition("\n")[0]
    return "\t" if path.suffix.lower() == ".tsv" else max((",", ";", "\t"), key=first.count)


def _renamed(row: Row, column_of: Mapping[str, str]) -> Row:
    cells = {field: row.cells[column] for field, column in column_of.items() if column in row.cells}
    read = set(column_of.values())
    others = {column: cell for column, cell in row.cells.items() if column and column not in read}
    return Row(row.where, cells, row.problem, others)


def _csv(path: Path, text: str, missing: Collection[str]) -> Table:
    found = split_rows(path, text, "Table", _delimiter(path, text))
    _check_columns(path, found.columns)
    rows = [_fitted(f"{path.name}, row {number}", found.columns, cells, missing) for number, cells in found.rows]
    return Table(path, frozenset(found.columns), rows, frozenset(found.columns))


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise DataError(f"{path.name} has two columns '{twice[0]}'; rename one of them.")


def _fitted(where: str, columns: Sequence[str], cells: Sequence[str], missing: Collection[str]) -> Row:
    problem = ragged(where, columns, cells)
    if problem:
        return Row(where, {}, problem)
    filled = ((column, present(cell, missing)) for column, cell in zip(columns, cells, strict=False))
    return Row(where, {column: cell for column, cell in filled if cell})


def _json_lines(path: Path, text: str, missing: Collection[str]) -> Table:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    named: set[str] = set()
    rows = [_object(f"{path.name}, line {number}", line, missing, named) for number, line in lines]
    if all(row.problem for row in rows):  # a list of objects, for example
        raise DataError(rows[0].problem)
    return Table(path, frozenset(column for row in rows for column in row.cells), rows, frozenset(named))


def _object(where: str, line: str, missing: Collection[str], named: set[str]) -> Row:
    """One line; its keys are added to `named`."""
    try:
        content = parse_json(line)
    except ValueError:
        return Row(where, {}, f"{where} is not valid JSON; write one object per line.")
    if not isinstance(content, dict):
        return Row(where, {}, f"{where} is no JSON object; write one object per line.")
    nested = [key for key, value in content.items() if isinstance(value, dict | list)]
    if nested:
        return Row(where, {}, f"{where}: '{nested[0]}' holds a nested value; mint reads texts and numbers.")
    filled = {key: present(value, missing) for key, value in content.items()}
    if any(re.search(r"[\ud800-\udfff]", f"{key}{value}") for key, value in filled.items()):
        return Row(where, {}, f"{where} holds half a character (a lone surrogate, \\ud800 to \\udfff); mend the text.")
    named.update(filled)
    return Row(where, {key: value for key, value in filled.items() if value})


def face_at(row: Row, name: str, root: Path, options: RareDiseaseOptions) -> FileImage:
    """The image that a row names, which must lie below `root` and be an image.

    Args:
        row: For messages.
        name: As the row writes it.
        root: Folder of the images, resolved.
        options: `check_images` and `max_pixels` count.

    Raises:
        DataError: It lies elsewhere, does not exist, or is no image.
    """
    file = file_below(root, name, row.where)
    if file.outside:
        raise DataError(f"{row.where}: the image lies outside {root.name}; write paths below that folder.")
    if file.missing:
        raise DataError(
            f"{row.where}: the image does not exist in {root.name}; check task.image_folder, or empty the cell."
        )
    if options.check_images:
        check_image_header(file.path, options.max_pixels)
    return FileImage(file.path, max_pixels=options.max_pixels)
