"""A table with one sample per row: text, image, label and the like, each in a column or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Formatter
from typing import NamedTuple

from mint_core.errors import ConfigError, DataError
from mint_core.images import FileImage
from mint_core.tables import file_below
from mint_core.tasks.entries import Entries, Entry, split_of
from mint_core.tasks.rows import Row, Table, read_table
from mint_core.types import ImageRef, Split, squeezed

FIELDS = ("image", "label", "group", "split", "id")
"""What one column holds, beside texts and privileged values."""
UNKNOWN = "unknown"
"""What a template writes for an empty cell."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns of a table mean what."""

    columns: Mapping[str, str]
    """Column by field, for all of `FIELDS`."""
    needed: frozenset[str]
    """Fields that must be there: without them there is no sample, or the user named their column."""
    remedy: str
    """How the user names another column, for example `--set task.columns.{field}=NAME`."""
    text: tuple[str, ...] = ()
    """Columns of the text."""
    template: str | None = None
    """How it is made of several."""
    privileged: tuple[str, ...] = ()
    """Columns that only the teacher reads."""
    subgroups: tuple[str, ...] = ()
    """Columns by which results are reported though something else reads them, too."""
    images_once: bool = True
    """An image stands in one row only: it is all that the student reads."""
    images: Path | None = None
    """Folder of the images; None = that of the table."""
    missing: tuple[str, ...] = ()
    """Words that mean that a cell is empty."""
    max_pixels: int = 0

    def column_of(self, fields: Sequence[str] = FIELDS) -> dict[str, str]:
        """Column by field; texts, privileged values and subgroups are fields of their own."""
        read = {field: self.columns[field] for field in fields}
        read |= {f"text {column}": column for column in self.text}
        if fields == FIELDS:
            read |= {f"privileged {column}": column for column in self.privileged}
            read |= {f"subgroup {column}": column for column in self.subgroups}
        return read

    def read(self, path: Path, what: str, front: str, fields: Sequence[str] = FIELDS) -> Table:
        """The table; see `mint_core.tasks.rows.read_table`.

        Args:
            path: The file.
            what: What messages call it.
            front: What stands in front of its name where a row is told.
            fields: What is read of `FIELDS`.
        """
        column_of = self.column_of(fields)
        needed: dict[str | tuple[str, ...], str] = {
            field: remedy for field, remedy in self._remedies().items() if field in column_of
        }
        return read_table(path, column_of, needed, missing=self.missing, what=what, front=front)

    def needed_columns(self) -> dict[tuple[str, ...], str]:
        """How the user names another column, by the columns that must be there."""
        column_of = self.column_of()
        return {(column_of[field],): remedy for field, remedy in self._remedies().items()}

    def _remedies(self) -> dict[str, str]:
        """How the user names another column, by the fields that must be there."""
        text = self.remedy.format(field="text") if self.template is None else "--set task.template='…'"
        return {
            **{field: self.remedy.format(field=field) for field in FIELDS if field in self.needed},
            **dict.fromkeys((f"text {column}" for column in self.text), text),
            **{f"privileged {column}": "--set task.privileged='[NAME]'" for column in self.privileged},
            **{f"subgroup {column}": "--set task.subgroups='[NAME]'" for column in self.subgroups},
        }

    def text_of(self, cells: Mapping[str, str], facts: Counter[str] | None = None) -> str:
        """The text of a row: one column as it is, a template filled in, or a line for each of several columns.

        Args:
            cells: By field.
            facts: Gets a count of every column that is empty where others are not.
        """
        filled = {column: cells[f"text {column}"] for column in self.text if f"text {column}" in cells}
        if not filled:
            return ""
        if facts is not None:
            facts.update(f"without {column}" for column in self.text if column not in filled)
        if self.template is not None:
            return "".join(
                literal + (filled.get(column, UNKNOWN) if column else "")
                for literal, column, *_ in Formatter().parse(self.template)
            )
        return "\n".join(cell if len(self.text) == 1 else f"{column}: {cell}" for column, cell in filled.items())


def columns_in(template: str) -> tuple[str, ...]:
    """The columns that a template names, each once.

    Raises:
        ConfigError: A brace is not closed, or holds more than a column's name.
    """
    try:
        parts = [part[1:] for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ConfigError(
            f"task.template: {error}; write columns in braces, as in '{{age}} years: {{note}}'."
        ) from None
    for column, form, conversion in parts:
        if not column or form or conversion:
            raise ConfigError(
                f"task.template: '{{{column}}}' must be a column's name and nothing else, as in '{{age}} years: "
                "{note}'."
            )
    return tuple(dict.fromkeys(str(column) for column, *_ in parts))


def entries_of(table: Table, layout: Layout, facts: Counter[str]) -> Iterator[Entry]:
    """The samples of a table.

    Args:
        table: As the layout has read it.
        layout: Which columns mean what.
        facts: Gets the counts of what is missing.

    Raises:
        DataError: A row is malformed, or has no text or image where it must.
    """
    look = partial(file_of, (layout.images or table.path.parent).resolve(), layout)
    return (entry_of(row, table.columns, layout, look, facts) for row in table.rows)


def check_unique(entries: Entries, layout: Layout) -> None:
    """Refuses entries two of which have one id, or one image where that is all that the student reads.

    Raises:
        DataError: Two have.
    """
    import pyarrow.compute as pc

    told = {"image": "image '{}' stands in {} already; delete one of the rows"} if layout.images_once else {}
    told["id"] = "id '{}' stands in {} already; give each row its own id"
    for name, sentence in told.items():
        column = entries.column(name)
        counts = pc.value_counts(column.drop_null())
        twice = counts.filter(pc.greater(pc.struct_field(counts, "counts"), 1))
        if not len(twice):
            continue
        first: dict[str, str] = {}
        for row in entries.table.filter(pc.is_in(column, pc.struct_field(twice, "values"))).to_pylist():
            value, where = row[name], row["where"]
            if value in first:
                shown = Path(value).name if name == "image" else value
                raise DataError(f"{where}: {sentence.format(shown, first[value].rpartition(', ')[2])}.")
            first[value] = where


class Seen(NamedTuple):
    """The image of a row."""

    image: ImageRef | None
    name: str | None = None
    """What a sample without an id of its own goes by."""


def entry_of(
    row: Row, columns: frozenset[str], layout: Layout, look: Callable[[Row], Seen], facts: Counter[str] | None = None
) -> Entry:
    """One row as a sample.

    Args:
        row: As the table has it.
        columns: Fields that the table has.
        layout: Which columns mean what.
        look: Finds the row's image.
        facts: Gets the counts of what is missing.

    Raises:
        DataError: The row is malformed, or has no text or image where it must.
    """
    if row.problem:
        raise DataError(row.problem)
    cells = row.cells
    seen = look(row) if "image" in columns else Seen(None)
    if seen.image is None and "image" in layout.needed:
        raise DataError(f"{row.where}: the image is empty; name a file below the data folder.")
    text = layout.text_of(cells, facts)
    if layout.text and not text:
        raise DataError(f"{row.where}: the text is empty; fill it or delete the row.")
    name = cells.get("id") if "id" in columns else (seen.name if layout.images_once else None) or row.where
    if name is None:
        raise DataError(f"{row.where}: the id is empty; fill it, or leave the id column out.")
    split: Split | None = split_of(cells.get("split", ""), row.where) if "split" in columns else None
    label = squeezed(cells["label"]) if "label" in cells else None
    if label is None and split not in (None, "train"):
        raise DataError(f"{row.where}: the label is empty in split '{split}'; fill it, or move the row to train.")
    if facts is not None:
        facts.update(f"without {column}" for column in layout.privileged if f"privileged {column}" not in cells)
    subgroups = {column: cells[f"subgroup {column}"] for column in layout.subgroups if f"subgroup {column}" in cells}
    return Entry(
        where=row.where,
        id=name,
        label=label,
        group=cells.get("group"),
        split=split,
        image=seen.image,
        text=text or None,
        privileged={c: cells[f"privileged {c}"] for c in layout.privileged if f"privileged {c}" in cells},
        subgroups={**row.others, **subgroups},
    )


def file_of(root: Path, layout: Layout, row: Row) -> Seen:
    """The image file that a row names, with links resolved, which must lie below `root`; nothing where it is empty.

    Raises:
        DataError: It lies elsewhere, or does not exist.
    """
    if "image" not in row.cells:
        return Seen(None)
    file = file_below(root, row.cells["image"], row.where)
    if file.outside:
        raise DataError(
            f"{row.where}: image '{row.cells['image']}' lies outside the manifest's folder; write paths relative to "
            "that folder and copy files that a link points to."
        )
    if file.missing:
        raise DataError(f"{row.where}: image '{row.cells['image']}' does not exist; check the path or delete the row.")
    return Seen(FileImage(file.path, max_pixels=layout.max_pixels), file.path.relative_to(root).as_posix())
