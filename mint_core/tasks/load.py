"""Reads what lies at a place: a manifest, or folders of classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mint_core.errors import DataError
from mint_core.images import SUFFIXES as IMAGE_SUFFIXES
from mint_core.images import CellImage, FileImage, check_image_header
from mint_core.tasks.entries import Entries
from mint_core.tasks.folders import MANIFESTS, class_folders
from mint_core.tasks.manifest import Layout, check_unique, entries_of
from mint_core.tasks.options import SampleOptions
from mint_core.tasks.rows import SUFFIXES, head_of

_LOOKED = 100_000
"""Files among which an image is looked for, to see whether a folder holds any."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a place holds."""

    entries: Entries
    place: Path
    """The manifest, the folder of classes, or the dataset."""
    dataset: str = ""
    """What a dataset of the hub is called."""

    @property
    def shown(self) -> str:
        """The place as a report names it."""
        if self.dataset:
            return self.dataset
        named = self.place.suffix and self.place.parent.name
        return f"{self.place.parent.name}/{self.place.name}" if named else self.place.resolve().name


def holds_images(place: Path, wanted: Sequence[str]) -> bool:
    """Whether a manifest with the wanted columns lies there, or a folder with images below folders."""
    manifests = [place] if place.is_file() else [path for name in MANIFESTS if (path := place / name).is_file()]
    if manifests:
        tables = (path for path in manifests if path.suffix.lower() in SUFFIXES)
        return any(set(wanted) <= head_of(path, wanted).columns for path in tables)
    return place.is_dir() and has_class_folders(place)


def has_class_folders(place: Path) -> bool:
    """Whether images lie in folders below a folder."""
    below = (path for path in islice(place.glob("*/**/*"), _LOOKED) if path.suffix.lower() in IMAGE_SUFFIXES)
    return any(not any(part.startswith(".") for part in path.relative_to(place).parts) for path in below)


def read_images(data: Path, layout: Layout, options: SampleOptions, cache: Path, facts: Counter[str]) -> Read:
    """Lists images; headers are read, pixels are not.

    Args:
        data: A manifest, a folder that holds one, or a folder of classes.
        layout: Which columns of a manifest mean what.
        options: `check_images` and `max_pixels` count.
        cache: A folder for many rows; see `Entries`.
        facts: Gets the counts.

    Raises:
        DataError: The layout, a row or an image is not as it must be.
    """
    if not data.exists():
        raise DataError(f"There is nothing at {data}; check the path after --data.")
    if not data.is_dir() and not data.is_file():
        raise DataError(f"{data} is a pipe or a device; name a folder, or a manifest, after --data.")
    manifest = _manifest_of(data)
    if manifest is None:
        entries = Entries(class_folders(data, facts, options.max_pixels), cache)
    else:
        entries = Entries(entries_of(layout.read(manifest, "Manifest", "Manifest "), layout, facts), cache)
        check_unique(entries, layout)
    if not entries:
        raise DataError(f"{manifest or data} lists no image; add one row per image, or one folder of images per class.")
    check_headers(entries, options)
    return Read(entries, manifest or data)


def check_headers(entries: Entries, options: SampleOptions) -> None:
    """Makes sure that every image file is an image, unless the user wants to begin sooner.

    Raises:
        DataError: One is none, or is too large.
    """
    if options.check_images:
        for image in entries.images:
            if isinstance(image, FileImage):
                check_image_header(image.path, options.max_pixels)
            elif isinstance(image, CellImage):
                image.check()


def _manifest_of(data: Path) -> Path | None:
    if data.is_file():
        if data.suffix.lower() not in SUFFIXES:
            raise DataError(f"{data} is no manifest; name a folder, or a file that ends in .csv, .tsv or .parquet.")
        return data
    found = [data / name for name in MANIFESTS if (data / name).is_file()]
    if len(found) > 1:
        raise DataError(f"{data} holds both {' and '.join(MANIFESTS)}; name the one to use with --data.")
    return found[0] if found else None
