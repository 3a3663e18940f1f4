"""Files on disk: digests, JSON that is complete or not there, locks, and refusals of the operating system."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from mint_core.documents import parse_json
from mint_core.errors import DataError, StorageError

MAX_TEXT_BYTES = 512 * 2**20
"""Of a text that is read as a whole."""
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFDIR: "a folder"}


class UnreadableFile(OSError):
    """A path that leads to no regular file, or to one that is too large; `strerror` says so."""

    def __init__(self, reason: str, path: Path) -> None:
        super().__init__(errno.EINVAL, reason, str(path))


def check_regular(path: Path) -> None:
    """Refuses what has no end or no content: pipes, devices, sockets, folders.

    Raises:
        UnreadableFile: It is one.
        OSError: There is nothing there, or it may not be looked at.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise UnreadableFile(f"it is {_KINDS.get(stat.S_IFMT(mode), 'a socket')}, not a file", path)


def read_bytes(path: Path, limit: int | None = MAX_TEXT_BYTES) -> bytes:
    """All of a file that someone names; every reader of whole files reads through this one.

    Args:
        path: The file.
        limit: Most bytes; None = no limit, for files of mint's own.

    Raises:
        UnreadableFile: It is no regular file, or larger.
        OSError: It cannot be read.
    """
    check_regular(path)
    with path.open("rb") as stream:
        if limit is None:
            return stream.read()
        # the size is asked first, so that nothing is read of what is too large, and a file may lie about its size
        content = b"" if os.fstat(stream.fileno()).st_size > limit else stream.read(limit + 1)
        if len(content) > limit or os.fstat(stream.fileno()).st_size > limit:
            raise UnreadableFile(f"it is larger than {limit / 2**20:.4g} MiB", path)
    return content


def read_utf8(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """The text of a file in UTF-8, without a byte order mark; arguments and errors as above.

    Raises:
        UnicodeDecodeError: It is no UTF-8.
    """
    return read_bytes(path, limit).decode("utf-8-sig")


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


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file that is complete or not there."""
    temporary = path.with_name(path.name + ".tmp")
    with storage_errors(path), temporary.open("w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=2, ensure_ascii=False, default=str)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """Reads a JSON file of the run folder."""
    return parse_json(read_utf8(path))


def write_line(stream: TextIO, record: Mapping[str, Any]) -> None:
    """Appends one JSON line and hands it to the operating system."""
    stream.write(json.dumps(record) + "\n")
    stream.flush()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads JSON lines; a last line that was cut off by an interruption is left out."""
    if not path.exists():
        return []
    lines = read_bytes(path, None).split(b"\n")  # not splitlines: an answer may hold any other line separator
    records = []
    for position, line in enumerate(lines, 1):
        try:
            records.append(parse_json(line))
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
