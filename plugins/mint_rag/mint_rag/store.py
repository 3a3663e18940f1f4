"""Indexes on disk: a folder per content, complete or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mint_core.plugin import StorageError, digest_of, storage_errors

T = TypeVar("T")


def cached(root: Path, kind: str, content: Any, build: Callable[[Path], None], load: Callable[[Path], T]) -> T:
    """Loads an index, or builds it first.

    A folder that cannot be loaded (another program's, cut off by a full disk) is built again.

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
            return load(folder)
        except (OSError, ValueError, KeyError, EOFError):
            shutil.rmtree(folder, ignore_errors=True)
    with storage_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=root))
        try:
            build(temporary)
            _publish(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return load(folder)


def _publish(temporary: Path, folder: Path) -> None:
    """Moves a complete index into place; where another process was faster, its index is the same."""
    for path in temporary.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    temporary.chmod(0o755)
    try:
        temporary.replace(folder)
    except OSError as error:
        if not folder.is_dir():
            raise StorageError(
                f"The index {folder} cannot be moved into place ({error.strerror}); try again."
            ) from error
