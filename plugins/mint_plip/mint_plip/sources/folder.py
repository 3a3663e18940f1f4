"""Source `folder`: your own images, as one folder per class or with a manifest."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mint_core.plugin import (
    IMAGE_SUFFIXES,
    Candidate,
    ConfigError,
    DataError,
    FileImage,
    LabelSpace,
    Sample,
    Split,
    TaskData,
    assign_splits,
    check_image_header,
    did_you_mean,
    file_below,
    find_copies,
    squeezed,
)
from mint_plip.sources.checks import checked
from mint_plip.sources.manifest import SUFFIXES as MANIFEST_SUFFIXES
from mint_plip.sources.manifest import Row, read_manifest
from mint_plip.sources.names import find_label, labels_found, labels_given
from mint_plip.sources.options import TissueOptions

MANIFESTS = ("manifest.csv", "manifest.parquet")
_SPLITS: dict[str, Split] = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
_SPLITS |= {"test": "test", "testing": "test"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One image before its label is normalised and its split is made."""

    where: str
    """Row or file, for messages."""
    id: str
    path: Path
    label: str | None
    group: str | None
    split: Split | None


def load(options: TissueOptions) -> TaskData:
    """Lists the images; headers are read, pixels are not.

    Args:
        options: `data`, the `*_column` options, `labels`, `val_fraction`, `test_fraction`, `sample_seed`,
            `check_images`, `max_pixels` and `duplicates` count.

    Raises:
        DataError: The layout, a row, a label, a split or an image is not as it must be.
    """
    data = options.data or Path()
    if not data.exists():
        raise DataError(f"There is nothing at {data}; check the path after --data.")
    manifest = _manifest_of(data)
    entries = _manifest_entries(manifest, options) if manifest else list(_class_folder_entries(data))
    if not entries:
        raise DataError(f"{manifest or data} lists no image; add one row per image, or one folder of images per class.")
    if options.check_images:
        for entry in entries:
            check_image_header(entry.path, options.max_pixels)
    labels = _label_space(entries, options)
    result = checked(_samples(_named(entries, labels), options), labels, options)
    return TaskData(result.samples, labels, _line(manifest or data, entries, options) + result.note)


def _line(place: Path, entries: Sequence[Entry], options: TissueOptions) -> str:
    shown = f"{place.parent.name}/{place.name}" if place.suffix and place.parent.name else place.resolve().name
    splits = "splits as given" if entries[0].split else f"splits by mint, seed {options.sample_seed}"
    groups = "" if any(entry.group for entry in entries) else "; no groups given, so patients are not kept apart"
    return f"images at {shown}, {splits}{groups}"


def _manifest_of(data: Path) -> Path | None:
    if data.is_file():
        if data.suffix.lower() not in MANIFEST_SUFFIXES:
            raise DataError(f"{data} is no manifest; name a folder, or a file that ends in .csv, .tsv or .parquet.")
        return data
    found = [data / name for name in MANIFESTS if (data / name).is_file()]
    if len(found) > 1:
        raise DataError(f"{data} holds both {' and '.join(MANIFESTS)}; name the one to use with --data.")
    return found[0] if found else None


# --- manifest


def _manifest_entries(manifest: Path, options: TissueOptions) -> list[Entry]:
    table = read_manifest(manifest, options)
    root = manifest.parent.resolve()
    entries = []
    row_of: dict[Path, int] = {}
    row_of_id: dict[str, int] = {}
    for row in table.rows:
        where = f"Manifest {manifest.name}, row {row.number}"
        path = inside(root, row, where)
        if path in row_of:
            raise DataError(
                f"{where}: image '{row.image}' stands in row {row_of[path]} already; delete one of the rows."
            )
        name = row.id if table.has_ids else path.relative_to(root).as_posix()
        if name is None:
            raise DataError(f"{where}: the id is empty; fill it, or leave the id column out.")
        if name in row_of_id:
            raise DataError(f"{where}: id '{name}' stands in row {row_of_id[name]} already; give each row its own id.")
        row_of[path] = row_of_id[name] = row.number
        split = _split(row, where) if table.has_splits else None
        if row.label is None and split not in (None, "train"):
            raise DataError(f"{where}: the label is empty in split '{split}'; fill it, or move the row to train.")
        label = squeezed(row.label) if row.label else row.label
        entries.append(Entry(where, name, path, label, row.group, split))
    return entries


def inside(root: Path, row: Row, where: str) -> Path:
    """The path of a row's image with links resolved, which must lie below `root`.

    Args:
        root: Folder of the manifest, resolved.
        row: A row of it.
        where: The row, for messages.

    Raises:
        DataError: It lies elsewhere, or does not exist.
    """
    if row.image is None:
        raise DataError(f"{where}: the image is empty; name a file below the data folder.")
    file = file_below(root, row.image, where)
    if file.outside:
        raise DataError(
            f"{where}: image '{row.image}' lies outside the manifest's folder; write paths relative to that folder and "
            "copy files that a link points to."
        )
    if file.missing:
        raise DataError(f"{where}: image '{row.image}' does not exist; check the path or delete the row.")
    return file.path


def _split(row: Row, where: str) -> Split:
    split = _SPLITS.get((row.split or "").lower())
    if split is None:
        raise DataError(f"{where}: split '{row.split or ''}' is not known; write train, val or test.")
    return split


# --- class folders


def _class_folder_entries(root: Path) -> Iterator[Entry]:
    folders = _folders(root)
    splits = [folder for folder in folders if folder.name.lower() in _SPLITS]
    if not folders:
        raise DataError(
            f"{root} holds neither {' nor '.join(MANIFESTS)} nor folders named after classes; add one of them."
        )
    if splits and len(splits) < len(folders):
        other = next(folder.name for folder in folders if folder not in splits)
        raise DataError(
            f"{root} mixes folders of splits ('{splits[0].name}') and of classes ('{other}'); put every class below "
            "train, val or test, or none."
        )
    seen: dict[Split, str] = {}
    for folder in splits:
        split = _SPLITS[folder.name.lower()]
        if split in seen:
            raise DataError(f"{root} holds '{seen[split]}' and '{folder.name}', which both mean {split}; merge them.")
        seen[split] = folder.name
    classes = _classes_by_split(splits) if splits else [(folder, None) for folder in folders]
    images = {folder: _images(folder) for folder, _ in classes}
    empty = [folder.relative_to(root).as_posix() for folder in images if not images[folder]]
    if empty:
        raise DataError(
            f"Class folders without images: {', '.join(empty)}; put images ({', '.join(sorted(IMAGE_SUFFIXES))}) "
            "directly into them, or delete them."
        )
    for folder, split_or_none in classes:
        for path in images[folder]:
            name = path.relative_to(root).as_posix()
            if not path.resolve().is_relative_to(root.resolve()):
                raise DataError(f"Image '{name}' is a link that leaves {root}; copy the file into the folder.")
            yield Entry(f"Image '{name}'", name, path, squeezed(folder.name), None, split_or_none)


def _classes_by_split(splits: Iterable[Path]) -> list[tuple[Path, Split | None]]:
    return [(folder, _SPLITS[split.name.lower()]) for split in splits for folder in _folders(split)]


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


# --- labels and splits


def _label_space(entries: Sequence[Entry], options: TissueOptions) -> LabelSpace:
    if options.labels is not None:
        return labels_given(options.labels)
    counts = Counter(entry.label for entry in entries if entry.label is not None)
    if not counts:
        raise DataError("No image has a label, so there is nothing to rank; fill the label column.")
    return labels_found(counts)


def _named(entries: Sequence[Entry], labels: LabelSpace) -> list[Entry]:
    """The entries with their labels written as in the label space."""
    canonical = {entry.label: find_label(entry.label, labels) for entry in entries if entry.label is not None}
    for entry in entries:
        if entry.label is not None and canonical[entry.label] is None:
            raise DataError(
                f"{entry.where}: label '{entry.label}' is not in the label space"
                f"{did_you_mean(entry.label, labels.names)}."
            )
    return [replace(entry, label=canonical[entry.label] if entry.label else None) for entry in entries]


def _samples(entries: Sequence[Entry], options: TissueOptions) -> list[Sample]:
    images = [FileImage(entry.path, max_pixels=options.max_pixels) for entry in entries]
    if entries[0].split is not None:
        return [
            Sample(entry.id, entry.split or "train", entry.label, entry.group, image)
            for entry, image in zip(entries, images, strict=True)
        ]
    groups = _groups(entries, images)
    candidates = [
        Candidate(entry.id, entry.label, group, image)
        for entry, group, image in zip(entries, groups, images, strict=True)
    ]
    splits = assign_splits(candidates, _fractions(options), options.sample_seed)
    return [
        Sample(candidate.id, split, candidate.label, candidate.group, candidate.image)
        for candidate, split in zip(candidates, splits, strict=True)
    ]


def _groups(entries: Sequence[Entry], images: Sequence[FileImage]) -> list[str | None]:
    """The groups as given; identical images without a group become one."""
    groups = [entry.group for entry in entries]
    taken = defaultdict(list)
    for places in find_copies(images):
        taken[min(entries[i].id for i in places)] = [i for i in places if groups[i] is None]
    for name, places in taken.items():
        for i in places:
            groups[i] = f"copies of {name}"
    return groups


def _fractions(options: TissueOptions) -> dict[Split, float]:
    train = 1 - options.val_fraction - options.test_fraction
    if train <= 0:
        raise ConfigError("val_fraction and test_fraction together must be below 1, so that train keeps a share.")
    return {"train": train, "val": options.val_fraction, "test": options.test_fraction}
