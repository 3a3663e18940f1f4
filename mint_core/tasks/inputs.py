"""New samples without labels: a folder of images, a table, or one image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from mint_core.errors import DataError
from mint_core.images import SUFFIXES as IMAGE_SUFFIXES
from mint_core.images import UNREAD_SUFFIXES, FileImage
from mint_core.interfaces import Unreadable
from mint_core.tasks.manifest import Layout, entry_of, file_of
from mint_core.tasks.rows import SUFFIXES, TABLES
from mint_core.types import Sample


def read_new(
    place: Path, layout: Layout, facts: Counter[str], worded: Callable[[str], str] | None = None
) -> Iterator[Sample | Unreadable]:
    """Lists new samples; pixels are read when they are needed.

    Args:
        place: A folder, whose images count at any depth; a table of texts, or of paths below its own folder; or an
            image.
        layout: Which columns a table has; of these, label and privileged values are not read.
        facts: Gets the counts.
        worded: What becomes of a text before the student reads it.

    Yields:
        Samples in the order of their names, or of the rows of the table. The id is the path below the folder, or the
        table's own.

    Raises:
        DataError: There is nothing to read.
    """
    if not place.exists():
        raise DataError(f"There is nothing at {place}; check the path after --input.")
    suffix = place.suffix.lower()
    if suffix in (TABLES if layout.text else SUFFIXES) and not place.is_dir():
        yield from _table(place, layout, worded)
    elif layout.text:
        raise DataError(f"{place} is no table that ends in .csv, .tsv, .jsonl or .parquet; write the texts into one.")
    elif place.is_dir():
        yield from _folder(place, layout, facts)
    elif suffix in IMAGE_SUFFIXES:
        yield Sample(place.name, "test", image=FileImage(place, max_pixels=layout.max_pixels))
    else:
        raise DataError(f"{place} is no folder, image, or table that ends in .csv, .tsv or .parquet.")


def _folder(root: Path, layout: Layout, facts: Counter[str]) -> Iterator[Sample | Unreadable]:
    whole = root.resolve()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            if path.is_symlink():
                yield Unreadable(name, f"'{name}' is a linked folder, which mint does not follow; copy it.")
        elif any(part.startswith(".") for part in Path(name).parts):
            facts["files of other kinds, not read"] += 1
        elif path.suffix.lower() in UNREAD_SUFFIXES:
            yield Unreadable(name, f"Image '{name}' is of a kind that mint does not read; convert it to PNG or TIFF.")
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            facts["files of other kinds, not read"] += 1
        elif not path.resolve().is_relative_to(whole):
            yield Unreadable(name, f"Image '{name}' is a link that leaves {root}; copy the file into the folder.")
        else:
            yield Sample(name, "test", image=FileImage(path, max_pixels=layout.max_pixels))


def _table(place: Path, layout: Layout, worded: Callable[[str], str] | None) -> Iterator[Sample | Unreadable]:
    fields = tuple(field for field in ("image", "id") if field == "id" or "image" in layout.needed)
    # Where texts are read, a row without an id is called as `load` calls it.
    table = layout.read(place, "Table", "Table " if layout.images_once else "", fields)
    look = partial(file_of, place.parent.resolve(), layout)
    for row in table.rows:
        try:
            entry = entry_of(row, table.columns, layout, look)
        except DataError as error:
            yield Unreadable(row.cells.get("id") or row.where, str(error))
            continue
        text = worded(entry.text) if worded is not None and entry.text is not None else entry.text
        yield Sample(entry.id, "test", image=entry.image, text=text)
