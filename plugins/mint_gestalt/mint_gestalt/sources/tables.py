"""Tables whose columns the user may rename, and the faces that they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mint_core.plugin import (
    ConfigError,
    DataError,
    FileImage,
    Row,
    Table,
    check_image_header,
    did_you_mean,
    file_below,
)
from mint_core.plugin import read_table as read_rows
from mint_gestalt.sources.options import RareDiseaseOptions


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
        path: See `mint_core.tasks.rows.read_table`.
        fields: Usual column by field of mint.
        options: `columns` renames, `missing` names words that mean that there is nothing.
        extra: Further columns to keep under their own name.
        must: Those of them that must be there.
        needed: Fields that must be there; one of those that stand together is enough.
        known_words: The reader knows by itself which words of its tables mean that there is nothing.

    Raises:
        ConfigError: `columns` renames a field that there is not.
        DataError: The file cannot be read, or lacks columns that are needed or that the user named.
    """
    for name in options.columns:
        if name not in fields:
            raise ConfigError(f"task.columns: there is no field '{name}'{did_you_mean(name, fields)}.")
    column_of = {**{name: name for name in extra}, **fields, **options.columns}
    wanted = [(field,) for field in options.columns if not any(field in some for some in needed)] + list(needed)
    remedies: dict[str | tuple[str, ...], str] = {some: f"--set task.columns.{some[0]}=NAME" for some in wanted}
    remedies |= dict.fromkeys(must, "--set task.privileged='[NAME]'")
    return read_rows(path, column_of, remedies, missing=options.missing, known_words=known_words)


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
