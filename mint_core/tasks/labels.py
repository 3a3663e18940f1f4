"""Names of labels: which spellings are one label, which only look like it, and files of names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mint_core.documents import parse_json
from mint_core.errors import DataError
from mint_core.files import read_utf8
from mint_core.tables import check_columns, present, split_rows, warn_of_words
from mint_core.types import LabelSpace, identity_of, normalise_name, squeezed


@dataclass(frozen=True, slots=True)
class GivenLabel:
    """A label as a list or a file names it."""

    name: str
    aliases: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    """Under which data may know it, for example `OMIM:147920`."""


def names_of(label: str) -> tuple[str, ...]:
    """`WILLIAMS-BEUREN SYNDROME; WBS` -> the name, then its aliases."""
    return tuple(name for part in label.split(";") if (name := squeezed(part)))


def given_label(label: str, ids: str = "") -> GivenLabel:
    """A label from its name and aliases, parted by `;`, and its ids, parted likewise."""
    name, *aliases = names_of(label)
    return GivenLabel(name, tuple(aliases), names_of(ids))


def labels_given(labels: Sequence[str] | Path) -> LabelSpace:
    """The label space that the user names.

    Args:
        labels: Names, or a file as `read_labels` reads it; `;` parts a name from its aliases.

    Raises:
        DataError: The file cannot be read, or two names are one after normalisation.
    """
    given = read_labels(labels) if isinstance(labels, Path) else [given_label(one) for one in labels if names_of(one)]
    aliases = tuple(one.aliases for one in given)
    return LabelSpace(tuple(one.name for one in given), aliases if any(aliases) else ())


def labels_found(counts: Mapping[str, int]) -> LabelSpace:
    """The label space of the names that occur, in alphabetical order.

    Spellings that differ in case, spaces, hyphens or underscores are one label, written as it is written most often.

    Args:
        counts: How often each spelling occurs.

    Raises:
        DataError: Two names differ only in other signs (HER2+ and HER2-).
    """
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        spellings[normalise_name(name)].append(name)
    for same in spellings.values():
        for other in same[1:]:
            _refuse_lookalike(other, (same[0],))
    return LabelSpace(tuple(sorted((same[0] for same in spellings.values()), key=str.casefold)))


def find_label(name: str, labels: LabelSpace) -> str | None:
    """The label that a spelling stands for, or None.

    Raises:
        DataError: It differs from the label only in signs that may carry meaning.
    """
    found = labels.find(name)
    if found is not None:
        _refuse_lookalike(name, labels.all_names(found))
    return found


def _refuse_lookalike(name: str, known: Sequence[str]) -> None:
    if identity_of(name) not in map(identity_of, known):
        raise DataError(
            f"The labels '{name}' and '{known[0]}' differ only in punctuation, which mint does not compare; if they "
            "are one label write it one way, if they are two put the difference into words."
        )


# --- files of names


def read_labels(path: Path, missing: Collection[str] = ()) -> list[GivenLabel]:
    """Reads a file of names in the order of the label space; `;` parts a name from its aliases.

    `.json` holds an index (`{"0": "NAME; ALIAS"}`, as GestaltMML publishes it) or a list. `.csv` has a column `name`
    and perhaps `aliases` and `id`. Any other file holds one label per line.

    Args:
        path: UTF-8.
        missing: Words that mean that a cell is empty.

    Raises:
        DataError: It cannot be read, or holds no names.
    """
    try:
        text = read_utf8(path)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise DataError(
            f"The label file {path} cannot be read as UTF-8 text ({why}); check the path after task.labels."
        ) from error
    readers = {".json": _from_json, ".csv": _from_csv}
    reader = readers.get(path.suffix.lower())
    labels = (
        reader(path, text, missing) if reader else [given_label(line) for line in text.split("\n") if names_of(line)]
    )
    if not labels:
        raise DataError(f"The label file {path} holds no names; write one label per line.")
    return labels


def _from_json(path: Path, text: str, missing: Collection[str]) -> list[GivenLabel]:
    try:
        content = parse_json(text)
    except ValueError as error:
        raise DataError(f"The label file {path} is not valid JSON; fetch it again.") from error
    if isinstance(content, dict):
        if sorted(content) != sorted(map(str, range(len(content)))):
            raise DataError(f"The label file {path} must count its labels from 0 without a gap; mend the keys.")
        content = [content[str(index)] for index in range(len(content))]
    if not isinstance(content, list) or not all(isinstance(label, str) and names_of(label) for label in content):
        raise DataError(f"The label file {path} must map numbers to names, or list names; an entry is no name.")
    return [given_label(label) for label in content]


def _from_csv(path: Path, text: str, missing: Collection[str]) -> list[GivenLabel]:
    found = split_rows(path, text, "The label file", ",")
    check_columns(f"The label file {path}", found.columns, {("name",): ""}, "the others are 'aliases' and 'id'")
    cells = (dict(zip(found.columns, row, strict=False)) for _, row in found.rows)
    read = ({column: present(row.get(column), missing) for column in ("name", "aliases", "id")} for row in cells)
    rows = [row for row in read if names_of(row["name"])]
    warn_of_words(
        path.name, {column: [row[column] for row in rows] for column in ("name", "aliases", "id")}, "--set task.missing"
    )
    return [given_label(f"{row['name']};{row['aliases']}", row["id"]) for row in rows]
