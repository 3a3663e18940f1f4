"""Images in one folder per class, perhaps below folders of splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mint_core.errors import DataError
from mint_core.images import SUFFIXES, FileImage
from mint_core.tasks.entries import SPLIT_WORDS, Entry
from mint_core.tasks.settle import TAKEN
from mint_core.tasks.walk import Found, images_in
from mint_core.types import Split, squeezed

MANIFESTS = ("manifest.csv", "manifest.parquet")
"""Names under which a manifest is looked for in a folder."""
_NAMED = 16
"""How many of the images that are left out are named."""


def class_folders(root: Path, facts: Counter[str], max_pixels: int) -> list[Entry]:
    """The images below the folders of classes, which may lie below folders of splits.

    Args:
        root: The folder.
        facts: Gets the counts of what is left out, and of folders that are taken for patients (`TAKEN`).
        max_pixels: Larger images are refused when they are opened.

    Raises:
        DataError: There are no such folders, they mix splits and classes, or most images cannot be read.
    """
    folders = _folders(root)
    splits = [folder for folder in folders if folder.name.lower() in SPLIT_WORDS]
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
        split = SPLIT_WORDS[folder.name.lower()]
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
            entries.append(
                Entry(
                    where=f"Image '{name}'",
                    id=name,
                    label=squeezed(folder.name),
                    group=group,
                    split=split_or_none,
                    image=FileImage(path, max_pixels=max_pixels),
                )
            )
    if grouped:
        facts[TAKEN] = len({one.group for one in entries})
    return entries


def _account(root: Path, found: Mapping[Path, Found], beside: Sequence[Found], facts: Counter[str]) -> None:
    """Counts and names the images that are left out.

    Raises:
        DataError: They are most of the images, of a class or of all; or a class has none.
    """
    empty = [folder.relative_to(root).as_posix() for folder, one in found.items() if not (one.images or one.left_out)]
    if empty:
        raise DataError(
            f"Class folders without images: {', '.join(empty)}; put images ({', '.join(sorted(SUFFIXES))}) "
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
            f"{lost[0].relative_to(root).as_posix()}' for one: mint reads {', '.join(sorted(SUFFIXES))} below "
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
    return [(folder, SPLIT_WORDS[split.name.lower()]) for split in splits for folder in _folders(split)]


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
