"""Finds images below a folder, and tells what it could not read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mint_core.errors import DataError
from mint_core.images import SUFFIXES, UNREAD_SUFFIXES


@dataclass(slots=True)
class Found:
    """What lies below a folder; names that begin with a dot do not count."""

    images: list[Path] = field(default_factory=list)
    """Sorted."""
    left_out: list[Path] = field(default_factory=list)
    """Images of kinds that mint does not read, dangling links, pipes and devices."""
    others: int = 0
    """Files that are no images."""


def images_in(folder: Path, *, deep: bool) -> Found:
    """Lists the images of a folder.

    Args:
        folder: Where to look.
        deep: Look into the folders below, too.

    Raises:
        DataError: A folder cannot be listed, or one below is a link.
    """
    found = Found()
    folders = [folder]
    while folders:
        for path in _listed(folders.pop()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                if deep and path.is_symlink():
                    raise DataError(f"{path} is a linked folder, which mint does not follow; copy it into the data.")
                folders += [path] if deep else []
            elif path.suffix.lower() in SUFFIXES and path.is_file():
                found.images.append(path)
            elif path.suffix.lower() in SUFFIXES | UNREAD_SUFFIXES:
                found.left_out.append(path)
            else:
                found.others += 1
    found.images.sort()
    found.left_out.sort()
    return found


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be listed ({error.strerror}); check its permissions.") from error
