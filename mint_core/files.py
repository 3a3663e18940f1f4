"""Files on disk: digests, JSON that is complete or not there, locks, and refusals of the operating system."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from mint_core.errors import DataError, StorageError


def digest_of(data: Any) -> str:
    """Digest of plain data, independent of the order of keys."""
    text = json.dumps(data, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def digest_of_path(path: Path) -> str:
    """Digest of a file's bytes, or of the names and bytes of all files in a folder."""
    digest = hashlib.blake2b(digest_size=16)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's refusals into one sentence.

    Raises:
        StorageError: The disk is full, or the folder is not writable.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"The disk that holds {path} is full; free some space and give the same command again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(
                f"{path} cannot be written ({error.strerror}); choose another folder with --out."
            ) from error
        raise


def without_nan(content: Any) -> Any:
    """Plain data with null for every number that JSON cannot write: NaN and the infinities."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    return content


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file that is complete or not there."""
    temporary = path.with_name(path.name + ".tmp")
    with storage_errors(path), temporary.open("w", encoding="utf-8") as stream:
        json.dump(without_nan(content), stream, indent=2, ensure_ascii=False, default=str, allow_nan=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """Reads a JSON file of the run folder."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_line(stream: TextIO, record: Mapping[str, Any]) -> None:
    """Appends one JSON line and hands it to the operating system."""
    stream.write(json.dumps(without_nan(record), allow_nan=False) + "\n")
    stream.flush()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads JSON lines; a last line that was cut off by an interruption is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")  # not splitlines: an answer may hold any other line separator
    records = []
    for position, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except ValueError:
            if position < len(lines):
                raise DataError(
                    f"Line {position} of {path} is damaged; delete the file and run the stage again."
                ) from None
    return records


def acquire(lock: FileLock) -> None:
    """Takes a folder's lock, or says who has it.

    Raises:
        StorageError: Another process holds it, or the folder is not writable.
    """
    folder = Path(lock.lock_file).parent
    with storage_errors(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StorageError(
                f"Another process is working in {folder}; wait for it, or choose another --name."
            ) from None
