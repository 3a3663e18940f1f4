"""Tables that users bring: text in UTF-8, delimited rows, and paths in cells."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from mint_core.errors import DataError, nearest_name
from mint_core.files import MAX_TEXT_BYTES, check_regular, read_utf8

MAX_COLUMNS = 10_000
_HEAD = 2**20
"""Characters in which the names of the columns are looked for."""


class Table(NamedTuple):
    """A delimited table as it stands in the file."""

    columns: list[str]
    rows: list[tuple[int, list[str]]]
    """Row number, as a spreadsheet counts, and cells; empty rows are left out."""


NOT_THERE = frozenset({"nan", "<na>", "nat", "#n/a", "#na", "#value!", "#ref!", "#name?", "#div/0!", "#null!"})
"""What programs write into a cell where there is nothing (pandas, spreadsheets), in lower case. Nobody means a word."""
_WORDS = frozenset({"na", "n/a", "n.a.", "null", "none", "nil", "missing", "not available", "-", "--", ".", "?", "\\n"})
"""What may mean that there is nothing, and may be a word (a gene, a class), in lower case."""
_SEVERAL = 2
"""So many cells of a column look like it before somebody is warned."""
_MOST_WORDS, _SHOWN = 3, 30
"""Words of what may be a column's name, and not a patient's text; names that a message shows."""
_NAME = re.compile(r"[^\W\d][\w .:/()%#-]{0,39}")
_OWN_ID = re.compile(r"[^\W\d]{0,3}[-_ ]?\d+")
"""`p17`: such a cell stands in a row of data."""


def present(value: object, missing: Collection[str] = ()) -> str:
    """A cell as text; empty where the cell says that there is nothing.

    Args:
        value: As a table holds it: a text, a number, or None.
        missing: Words that the user means as missing, such as R's `NA`, in this case.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    text = str(value).strip()
    return "" if text.lower() in NOT_THERE or text in missing else text


def warn_of_words(name: str, columns: Mapping[str, Iterable[str]], option: str) -> None:
    """Warns once where columns hold words that may mean that there is nothing, such as R's `NA`.

    Args:
        name: Of the file.
        columns: Cells by column, of the columns that are read.
        option: How the user says which words mean it, for example `--set task.missing`.
    """
    counts = {column: Counter(cell for cell in cells if cell.lower() in _WORDS) for column, cells in columns.items()}
    found = {column: words.most_common(1)[0] for column, words in counts.items() if words}
    found = {column: (word, count) for column, (word, count) in found.items() if count >= _SEVERAL}
    if not found:
        return
    told = ", ".join(f"'{word}' in {count:,} cells of '{column}'" for column, (word, count) in found.items())
    words = sorted({word for word, _ in found.values()})
    warnings.warn(
        f"{name} holds {told}, which is read as a word; if it means that nothing is known, say {option}="
        f"'[{', '.join(json.dumps(word) for word in words)}]'.",
        stacklevel=3,
    )


def read_text(path: Path, what: str) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: It cannot be read, is no regular file, is too large, is no UTF-8 text, or is empty.
    """
    if path.exists() and not path.is_file() and not path.is_dir():  # a pipe would block, and a device never ends
        raise DataError(f"{what} {path} is a pipe or a device, not a file; write it into a file first.")
    try:
        text = read_utf8(path, MAX_TEXT_BYTES)
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read ({error.strerror}); check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{what} {path} is not UTF-8 text; save it as 'CSV UTF-8'.") from error
    if not text.strip():
        raise DataError(f"{what} {path} is empty; it needs a row of column names, and one row per sample.")
    return text


def read_head(path: Path) -> str:
    """The beginning of a text file, to see what it may be; empty where it is no file that can be read."""
    try:
        check_regular(path)
        with path.open("rb") as stream:
            return stream.read(_HEAD).decode("utf-8-sig", "ignore").lstrip("\r\n")
    except OSError:
        return ""


def split_rows(path: Path, text: str, what: str, delimiter: str) -> Table:
    """A delimited text as a table; the first row that is not empty names the columns.

    Row names as R writes them, without a column name of their own, are the column ''.

    Raises:
        DataError: Its quotes do not close, a cell is too long, or a row has too many of them.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        filled = []
        for number, cells in enumerate(reader, 1):
            if len(cells) > MAX_COLUMNS:
                raise DataError(
                    f"{what} {path.name}, row {number}: {len(cells):,} columns; mint reads at most {MAX_COLUMNS:,}: "
                    "leave out what is not needed."
                )
            if any(map(str.strip, cells)):
                filled.append((number, cells))
    except csv.Error as error:
        long = " or, if a cell is that long, write the table as .jsonl" if "field limit" in str(error) else ""
        raise DataError(
            f"{what} {path.name}, near line {reader.line_num}: {error}; mend the quotes there{long}."
        ) from error
    names = [name.strip() for name in filled[0][1]] if filled else []
    rows = filled[1:]
    if _has_row_names(len(names), [cells for _, cells in rows]):
        names = ["", *names]
    return Table(names, rows)


def _has_row_names(columns: int, rows: Sequence[Sequence[str]]) -> bool:
    """Whether a first column without a name stands in front, as R's write.table writes it."""
    if not rows or any(len(cells) != columns + 1 for cells in rows):
        return False
    first = {cells[0] for cells in rows}
    return len(first) == len(rows) and any(cells[-1].strip() for cells in rows)


def first_row(text: str, delimiter: str) -> list[str]:
    """The cells of the first row, stripped; none where it is no row under this delimiter."""
    try:
        cells = next(csv.reader(io.StringIO(text[:_HEAD], newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in cells]


def check_columns(
    place: str,
    there: Iterable[str],
    needed: Mapping[tuple[str, ...], str],
    advice: str = "",
    *,
    surely: bool = False,
) -> None:
    """Refuses a table that lacks columns; the message names all of them, and those that there are.

    A first row that does not look like names is not quoted: the table may have none, and the row be a patient's.

    Args:
        place: The table, as messages name it.
        there: Its columns.
        needed: Columns of which one is enough, and how the user names another one, such as `--set
            task.columns.text=NAME`; empty where that cannot be.
        advice: What else the user may do; half a sentence.
        surely: They are names by the kind of the file, and no first row.

    Raises:
        DataError: It lacks some.
    """
    names = [name for name in there if name]
    missing = {some: remedy for some, remedy in needed.items() if not set(some) & set(names)}
    if not missing:
        return
    lacking = " and ".join("".join([f"'{one}'", *(f" (or '{other}')" for other in others)]) for one, *others in missing)
    remedies = " ".join(dict.fromkeys(remedy for remedy in missing.values() if remedy))
    one = len(missing) == 1
    told = f"; name the right {'one' if one else 'ones'} with {remedies}" if remedies else ""
    told += f"; {advice}" if advice else ""
    raise DataError(f"{place} has no column{'' if one else 's'} {lacking}{_there(names, missing, surely)}{told}.")


def _there(names: Sequence[str], missing: Iterable[tuple[str, ...]], surely: bool) -> str:
    """Which columns there are, and which of them the missing ones may be."""
    alike = all(
        _NAME.fullmatch(one) and len(one.split()) <= _MOST_WORDS and not _OWN_ID.fullmatch(one) for one in names
    )
    if names and not surely and not (alike and len(names) > 1):
        return " (its first row does not look like names of columns, and is not shown)"
    near = dict.fromkeys(nearest_name(name, names) for some in missing for name in some)
    meant = " and ".join(f"'{name}'" for name in near if name)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    hint = f"; did you mean {meant}?" if meant else ""
    return f"{hint} (available: {', '.join(sorted(names)[:_SHOWN]) or 'none'}{more})"


def ragged(where: str, columns: Sequence[str], cells: Sequence[str]) -> str:
    """What is wrong with a row that does not fit its columns; empty where it fits."""
    if len(cells) >= len(columns) and not any(cells[len(columns) :]):
        return ""
    return (
        f"{where}: {len(cells)} cells under {len(columns)} column names; quote values that hold the delimiter, and "
        "fill missing ones with nothing between two delimiters."
    )


_USUAL = ("sex", "gender", "age", "ethnicity", "site")
"""Columns by which results are reported without being asked for."""


def usual_subgroups(columns: Iterable[str]) -> tuple[str, ...]:
    """Those of a table's columns by which results are reported where the user names none, whatever their case."""
    found = {column.casefold(): column for column in columns}
    return tuple(found[name] for name in _USUAL if name in found)


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
