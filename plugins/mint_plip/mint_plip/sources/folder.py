"""Source `folder`: your own images, as one folder per class or with a manifest."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mint_core.plugin import (
    Entries,
    Layout,
    TaskData,
    holds_images,
    label_space,
    labels_of,
    read_images,
    task_data,
    with_labels,
)
from mint_plip.sources.options import TissueOptions


def layout_of(options: TissueOptions) -> Layout:
    """Which columns of a manifest mean what; an optional one may be absent, unless the user has named it."""
    columns = {name: str(getattr(options, f"{name}_column")) for name in ("image", "label", "group", "split", "id")}
    usual = {name: TissueOptions.model_fields[f"{name}_column"].default for name in columns}
    named = {name for name in columns if columns[name] != usual[name]}
    return Layout(
        columns,
        needed=frozenset({"image", "label", *named}),
        remedy="--set task.{field}_column=NAME",
        missing=options.missing,
        max_pixels=options.max_pixels,
    )


def recognises(place: Path, options: TissueOptions) -> bool:
    """Whether a manifest with the columns for image and label lies there, or a folder with images below folders."""
    return holds_images(place, (options.image_column, options.label_column))


def load(options: TissueOptions, cache: Path) -> TaskData:
    """Lists the images; headers are read, pixels are not.

    Args:
        options: `data`, the `*_column` options, `labels`, `val_fraction`, `test_fraction`, `sample_seed`,
            `check_images`, `max_pixels` and `duplicates` count.
        cache: A folder for what many images are listed in.

    Raises:
        DataError: The layout, a row, a label, a split or an image is not as it must be.
    """
    facts: Counter[str] = Counter()
    found = read_images(options.data or Path(), layout_of(options), options, cache, facts)
    labels = label_space(labels_of(found.entries), options.labels)
    entries = Entries(with_labels(found.entries, labels), cache)
    return task_data(entries, labels, f"images at {found.shown}", options, facts)
