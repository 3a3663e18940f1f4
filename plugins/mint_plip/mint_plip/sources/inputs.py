"""New images without labels: a folder, a table of paths, or one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mint_core.plugin import IMAGE_SUFFIXES, UNREAD_IMAGE_SUFFIXES, DataError, FileImage, Sample, Unreadable
from mint_plip.sources.folder import inside
from mint_plip.sources.manifest import SUFFIXES as TABLE_SUFFIXES
from mint_plip.sources.manifest import read_manifest
from mint_plip.sources.options import TissueOptions


def read(place: Path, options: TissueOptions, facts: Counter[str]) -> Iterator[Sample | Unreadable]:
    """Lists images; pixels are read when they are needed.

    Args:
        place: A folder, whose images count at any depth; a `.csv`, `.tsv` or `.parquet` table of paths below its own
            folder; or an image.
        options: `image_column`, `id_column` and `max_pixels` count.
        facts: Gets the counts.

    Yields:
        Samples in the order of their names, or of the rows of the table. The id is the path below the folder, or the
        table's own.

    Raises:
        DataError: There is nothing to read.
    """
    if not place.exists():
        raise DataError(f"There is nothing at {place}; check the path after --input.")
    if place.is_dir():
        yield from _folder(place, options, facts)
    elif place.suffix.lower() in TABLE_SUFFIXES:
        yield from _table(place, options)
    elif place.suffix.lower() in IMAGE_SUFFIXES:
        yield Sample(place.name, "test", image=FileImage(place, max_pixels=options.max_pixels))
    else:
        raise DataError(f"{place} is no folder, image, or table that ends in .csv, .tsv or .parquet.")


def _folder(root: Path, options: TissueOptions, facts: Counter[str]) -> Iterator[Sample | Unreadable]:
    whole = root.resolve()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            if path.is_symlink():
                yield Unreadable(name, f"'{name}' is a linked folder, which mint does not follow; copy it.")
        elif any(part.startswith(".") for part in Path(name).parts):
            facts["files of other kinds, not read"] += 1
        elif path.suffix.lower() in UNREAD_IMAGE_SUFFIXES:
            yield Unreadable(name, f"Image '{name}' is of a kind that mint does not read; convert it to PNG or TIFF.")
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            facts["files of other kinds, not read"] += 1
        elif not path.resolve().is_relative_to(whole):
            yield Unreadable(name, f"Image '{name}' is a link that leaves {root}; copy the file into the folder.")
        else:
            yield Sample(name, "test", image=FileImage(path, max_pixels=options.max_pixels))


def _table(place: Path, options: TissueOptions) -> Iterator[Sample | Unreadable]:
    table = read_manifest(place, options, fields=("image", "id"))
    root = place.parent.resolve()
    for row in table.rows:
        where = f"Table {place.name}, row {row.number}"
        try:
            path = inside(root, row, where)
            own = row.id if table.has_ids else path.relative_to(root).as_posix()
            if own is None:
                raise DataError(f"{where}: the id is empty; fill it, or leave the id column out.")
        except DataError as error:
            yield Unreadable(row.id or where, str(error))
            continue
        yield Sample(own, "test", image=FileImage(path, max_pixels=options.max_pixels))
