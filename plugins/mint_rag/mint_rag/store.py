"""Indexes on disk: a folder per content, complete or not there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mint_core.plugin import digest_of, replaced, seal, sealed

T = TypeVar("T")
COMPLETE = "complete.json"
"""Marks an index, with the digest of each of its files."""


def cached(root: Path, kind: str, content: Any, build: Callable[[Path], None], load: Callable[[Path], T]) -> T:
    """Loads an index, or builds it first.

    A folder that is damaged, or was made by an older mint, is built again.

    Args:
        root: Where indexes are kept.
        kind: What it is, for the folder's name.
        content: Plain data that the index was made from; another content is another folder.
        build: Writes the index into an empty folder.
        load: Reads it.

    Raises:
        StorageError: The folder cannot be written.
    """
    folder = root / f"{kind}-{digest_of(content)}"
    if folder.is_dir():
        try:
            if sealed(folder, COMPLETE):
                return load(folder)
        except (OSError, ValueError, KeyError, EOFError):
            pass
        shutil.rmtree(folder, ignore_errors=True)
    with replaced(folder) as temporary:
        temporary.mkdir()
        build(temporary)
        seal(temporary, COMPLETE)
    return load(folder)
