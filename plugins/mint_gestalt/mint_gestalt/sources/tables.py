"""Reads tables: CSV and TSV files, and JSON lines."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from mint_core.plugin import ConfigError, DataError, FileImage, check_image_header, did_you_mean
from mint_gestalt.sources.options import RareDiseaseOptions


@dataclass(frozen=True, slots=True)
class Row:
    """One row; empty cells are left out."""

    where: str
    cells: Mapping[str, str]
    problem: str = ""
    """Why it cannot be read, or empty."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose columns are called as mint calls them."""

    path: Path
    columns: frozenset[str]
    rows: Sequence[Row]


def read_table(
    path: Path,
    fields: Mapping[str, str],
    options: RareDiseaseOptions,
    extra: Iterable[str] = (),
    must: Iterable[str] = (),
) -> Table:
    """Reads the columns that mint uses.

    Args:
        path: JSON lines by its ending or its first sign, `.tsv`, or else CSV with comma, semicolon or tab.
        fields: Usual column by field of mint.
        options: `columns` renames.
        extra: Further columns to keep under their own name.
        must: Those of them that must be there.

    Returns:
        The table, its cells by field.

    Raises:
        ConfigError: `columns` renames a field that there is not.
        DataError: The file cannot be read, or lacks a column that the user named.
    """
    for field in options.columns:
        if field not in fields:
            raise ConfigError(f"task.columns: there is no field '{field}'{did_you_mean(field, fields)}.")
    column_of = {**{name: name for name in extra}, **fields, **options.columns}
    text = _text(path)
    lines = path.suffix.lower() in (".jsonl", ".ndjson", ".json") or text.startswith("{")
    table = _json_lines(path, text) if lines else _csv(path, text)
    for field, column in options.columns.items():
        if column not in table.columns:
            raise DataError(
                f"{path.name} has no column '{column}'{did_you_mean(column, table.columns)}; name the right one with "
                f"--set task.columns.{field}=NAME."
            )
    for column in must:
        if column not in table.columns:
            raise DataError(
                f"task.privileged names '{column}', a column that {path.name} does not have"
                f"{did_you_mean(column, table.columns)}."
            )
    return Table(
        path,
        frozenset(field for field, column in column_of.items() if column in table.columns),
        [_renamed(row, column_of) for row in table.rows],
    )


def _renamed(row: Row, column_of: Mapping[str, str]) -> Row:
    cells = {field: row.cells[column] for field, column in column_of.items() if column in row.cells}
    return Row(row.where, cells, row.problem)


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"Table {path} cannot be read ({error.strerror}); check the path after --data.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"Table {path} is not UTF-8 text; save it as 'CSV UTF-8'.") from error
    if not text.strip():
        raise DataError(f"Table {path} is empty; it needs one row per patient.")
    return text


def _csv(path: Path, text: str) -> Table:
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max((",", ";", "\t"), key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    try:
        numbered = enumerate(reader, 1)
        columns = next(([name.strip() for name in cells] for _, cells in numbered if any(map(str.strip, cells))), [])
        _check_columns(path, columns)
        for number, cells in numbered:
            if any(cells):
                rows.append(_fitted(f"{path.name}, row {number}", columns, cells))
    except csv.Error as error:
        long = " or, if a note is that long, write the table as .jsonl" if "field limit" in str(error) else ""
        raise DataError(
            f"Table {path.name}, near line {reader.line_num}: {error}; mend the quotes there{long}."
        ) from error
    return Table(path, frozenset(columns), rows)


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise DataError(f"{path.name} has two columns '{twice[0]}'; rename one of them.")


def _fitted(where: str, columns: Sequence[str], cells: Sequence[str]) -> Row:
    if len(cells) < len(columns) or any(cells[len(columns) :]):
        return Row(
            where,
            {},
            f"{where}: {len(cells)} cells under {len(columns)} column names; quote values that hold the delimiter, and "
            "fill missing ones with nothing between two delimiters.",
        )
    filled = ((column, cell.strip()) for column, cell in zip(columns, cells, strict=False))
    return Row(where, {column: cell for column, cell in filled if cell})


def _json_lines(path: Path, text: str) -> Table:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    rows = [_object(f"{path.name}, line {number}", line) for number, line in lines]
    if all(row.problem for row in rows):  # a list of objects, for example
        raise DataError(rows[0].problem)
    return Table(path, frozenset(column for row in rows for column in row.cells), rows)


def _object(where: str, line: str) -> Row:
    try:
        content = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        return Row(where, {}, f"{where} is not valid JSON; write one object per line.")
    if not isinstance(content, dict):
        return Row(where, {}, f"{where} is no JSON object; write one object per line.")
    nested = [key for key, value in content.items() if isinstance(value, dict | list)]
    if nested:
        return Row(where, {}, f"{where}: '{nested[0]}' holds a nested value; mint reads texts and numbers.")
    filled = {key: str(value).strip() for key, value in content.items() if value is not None}
    if any(re.search(r"[\ud800-\udfff]", f"{key}{value}") for key, value in filled.items()):
        return Row(where, {}, f"{where} holds half a character (a lone surrogate, \\ud800 to \\udfff); mend the text.")
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
    relative = name.replace("\\", "/")
    try:
        path = (root / relative).resolve()
        absolute = PurePosixPath(relative).is_absolute() or bool(PureWindowsPath(relative).drive)
        outside = absolute or not path.is_relative_to(root)
        missing = not outside and not path.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{row.where}: the image's path is not a valid path; mend it.") from error
    if outside:
        raise DataError(f"{row.where}: the image lies outside {root.name}; write paths below that folder.")
    if missing:
        raise DataError(
            f"{row.where}: the image does not exist in {root.name}; check task.image_folder, or empty the cell."
        )
    if options.check_images:
        check_image_header(path, options.max_pixels)
    return FileImage(path, max_pixels=options.max_pixels)
