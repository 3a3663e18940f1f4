"""Tables that users bring: text in UTF-8, delimited rows, and paths in cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from mint_core.errors import DataError


class Table(NamedTuple):
    """A delimited table as it stands in the file."""

    columns: list[str]
    rows: list[tuple[int, list[str]]]
    """Row number, as a spreadsheet counts, and cells; empty rows are left out."""


def read_text(path: Path, what: str) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: It cannot be read, is no UTF-8 text, or is empty.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read ({error.strerror}); check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{what} {path} is not UTF-8 text; save it as 'CSV UTF-8'.") from error
    if not text.strip():
        raise DataError(f"{what} {path} is empty; it needs a row of column names, and one row per sample.")
    return text


def split_rows(path: Path, text: str, what: str, delimiter: str) -> Table:
    """A delimited text as a table; the first row that is not empty names the columns.

    Raises:
        DataError: Its quotes do not close, or a cell is too long.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        filled = [(number, cells) for number, cells in enumerate(reader, 1) if any(map(str.strip, cells))]
    except csv.Error as error:
        long = " or, if a cell is that long, write the table as .jsonl" if "field limit" in str(error) else ""
        raise DataError(
            f"{what} {path.name}, near line {reader.line_num}: {error}; mend the quotes there{long}."
        ) from error
    names = filled[0][1] if filled else []
    return Table([name.strip() for name in names], filled[1:])


def ragged(where: str, columns: Sequence[str], cells: Sequence[str]) -> str:
    """What is wrong with a row that does not fit its columns; empty where it fits."""
    if len(cells) >= len(columns) and not any(cells[len(columns) :]):
        return ""
    return (
        f"{where}: {len(cells)} cells under {len(columns)} column names; quote values that hold the delimiter, and "
        "fill missing ones with nothing between two delimiters."
    )


class Named(NamedTuple):
    """A file that a cell names."""

    path: Path
    """With links resolved."""
    outside: bool
    """It does not lie below the folder."""
    missing: bool
    """There is no such file below the folder."""


def file_below(root: Path, name: str, where: str) -> Named:
    """The file that a cell names, which ought to lie below a folder.

    Raises:
        DataError: It is no valid path.
    """
    relative = name.replace("\\", "/")
    try:
        path = (root / relative).resolve()
        absolute = PurePosixPath(relative).is_absolute() or bool(PureWindowsPath(relative).drive)
        outside = absolute or not path.is_relative_to(root)
        return Named(path, outside, not outside and not path.is_file())
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{where}: the image's path is not a valid path; mend it.") from error
