"""Source `folder`: your own images, as one folder per class or with a manifest."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
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
    usual_subgroups,
)
from mint_plip.sources.checks import checked
from mint_plip.sources.manifest import SUFFIXES as MANIFEST_SUFFIXES
from mint_plip.sources.manifest import Row, columns_of, read_manifest
from mint_plip.sources.names import find_label, labels_found, labels_given
from mint_plip.sources.options import TissueOptions
from mint_plip.sources.walk import Found, images_in

_TAKEN = "folders below the class folders, taken for patients or slides"
_TOO_FEW = "folders below the class folders, too few to be kept apart by the split"
_NAMED = 16
"""How many of the images that are left out are named."""
_LOOKED = 100_000
"""Files among which an image is looked for, to see whether a folder holds any."""
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
    subgroups: Mapping[str, str] = field(default_factory=dict)


def recognises(place: Path, options: TissueOptions) -> bool:
    """Whether a manifest with the columns for image and label lies there, or a folder with images below folders."""
    manifests = [place] if place.is_file() else [path for name in MANIFESTS if (path := place / name).is_file()]
    if manifests:
        wanted = {options.image_column, options.label_column}
        return any(wanted <= set(columns_of(path, options)) for path in manifests)
    if not place.is_dir():
        return False
    below = (path for path in islice(place.glob("*/**/*"), _LOOKED) if path.suffix.lower() in IMAGE_SUFFIXES)
    return any(not any(part.startswith(".") for part in path.relative_to(place).parts) for path in below)


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
    if not data.is_dir() and not data.is_file():
        raise DataError(f"{data} is a pipe or a device; name a folder, or a manifest, after --data.")
    manifest = _manifest_of(data)
    facts: Counter[str] = Counter()
    entries = _manifest_entries(manifest, options) if manifest else _class_folder_entries(data, facts)
    if not entries:
        raise DataError(f"{manifest or data} lists no image; add one row per image, or one folder of images per class.")
    if options.check_images:
        for entry in entries:
            check_image_header(entry.path, options.max_pixels)
    labels = _label_space(entries, options)
    named = _named(entries, labels)
    samples = _samples(named, options)
    if facts[_TAKEN] and not _all_filled(samples, options):  # nobody said that these folders are patients
        facts[_TOO_FEW] = facts.pop(_TAKEN)
        entries = [replace(entry, group=None) for entry in entries]
        samples = _samples([replace(entry, group=None) for entry in named], options)
    result = checked(samples, labels, options)
    line = _line(manifest or data, entries, options) + result.note
    known = usual_subgroups({column for entry in entries for column in entry.subgroups})
    return TaskData(result.samples, labels, line, facts=dict(+facts), subgroups=known)


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
        entries.append(Entry(where, name, path, label, row.group, split, row.others))
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


def _class_folder_entries(root: Path, facts: Counter[str]) -> list[Entry]:
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
    found = {folder: images_in(folder, deep=True) for folder, _ in classes}
    beside = [images_in(folder, deep=False) for folder in (root, *splits)]
    _account(root, found, beside, facts)
    grouped = not splits and _has_groups(found)
    entries = []
    for folder, split_or_none in classes:
        for path in found[folder].images:
            name = path.relative_to(root).as_posix()
            if not path.resolve().is_relative_to(root.resolve()):
                raise DataError(f"Image '{name}' is a link that leaves {root}; copy the file into the folder.")
            below = path.relative_to(folder).parts
            facts["images in folders below the class folders"] += len(below) > 1
            group = below[0] if grouped else None
            entries.append(Entry(f"Image '{name}'", name, path, squeezed(folder.name), group, split_or_none))
    if grouped:
        facts[_TAKEN] = len({one.group for one in entries})
    return entries


def _account(root: Path, found: Mapping[Path, Found], beside: Sequence[Found], facts: Counter[str]) -> None:
    """Counts and names the images that are left out.

    Raises:
        DataError: They are most of the images, of a class or of all; or a class has none.
    """
    empty = [folder.relative_to(root).as_posix() for folder, one in found.items() if not (one.images or one.left_out)]
    if empty:
        raise DataError(
            f"Class folders without images: {', '.join(empty)}; put images ({', '.join(sorted(IMAGE_SUFFIXES))}) "
            "into them, or delete them."
        )
    loose = sorted(path for one in beside for path in (*one.images, *one.left_out))
    left_out = [*(path for one in found.values() for path in one.left_out), *loose]
    names = [path.relative_to(root).as_posix() for path in left_out]
    most = next((one for one in found.values() if len(one.left_out) > len(one.images)), None)
    used = sum(len(one.images) for one in found.values())
    if most is not None or len(left_out) > used:
        lost = most.left_out if most is not None else left_out
        raise DataError(
            f"{len(lost)} images of {root} would be left out, more than are read, '"
            f"{lost[0].relative_to(root).as_posix()}' for one: mint reads {', '.join(sorted(IMAGE_SUFFIXES))} below "
            "class folders, and no dangling links, pipes or devices; convert or move them, or take them out."
        )
    facts["images left out, not in a class folder or not readable as images"] = len(names)
    for name in names[:_NAMED]:
        facts[f"left out: {name}"] = 1
    facts["files of other kinds, not read"] = sum(one.others for one in (*found.values(), *beside))


def _has_groups(found: Mapping[Path, Found]) -> bool:
    """Whether folders below the classes look like patients or slides: two or more a class, and all images in them."""
    below = {folder: [path.relative_to(folder).parts for path in one.images] for folder, one in found.items()}
    deep = all(len(parts) > 1 for paths in below.values() for parts in paths)
    return deep and all(len({parts[0] for parts in paths}) > 1 for paths in below.values())


def _classes_by_split(splits: Iterable[Path]) -> list[tuple[Path, Split | None]]:
    return [(folder, _SPLITS[split.name.lower()]) for split in splits for folder in _folders(split)]


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


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
            Sample(entry.id, entry.split or "train", entry.label, entry.group, image, subgroups=entry.subgroups)
            for entry, image in zip(entries, images, strict=True)
        ]
    groups = _groups(entries, images)
    candidates = [
        Candidate(entry.id, entry.label, group, image)
        for entry, group, image in zip(entries, groups, images, strict=True)
    ]
    splits = assign_splits(candidates, _fractions(options), options.sample_seed)
    return [
        Sample(one.id, split, one.label, one.group, one.image, subgroups=entry.subgroups)
        for one, split, entry in zip(candidates, splits, entries, strict=True)
    ]


def _all_filled(samples: Sequence[Sample], options: TissueOptions) -> bool:
    """Whether every split that the options ask for holds a sample."""
    return {split for split, share in _fractions(options).items() if share > 0} <= {one.split for one in samples}


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
