"""Files on disk: digests, JSON that is complete or not there, locks, and refusals of the operating system."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
import re
import shutil
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TextIO

import psutil
from filelock import FileLock, Timeout

from mint_core.documents import parse_json
from mint_core.errors import DataError, StorageError
from mint_core.faults import explained

NOTES = (".md",)
"""Endings of files that are for people: an edited one makes nothing again."""
BESIDE = ("confidence.json",)
"""Files that are put beside a stage's output later, and decide nothing that is made of it."""

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


def digest_of_each(items: Iterable[Any]) -> str:
    """What `digest_of` says of a list of these, of which only one at a time is held."""
    digest = hashlib.blake2b(b"[", digest_size=16)
    for number, item in enumerate(items):
        text = json.dumps(item, sort_keys=True, default=str, ensure_ascii=False)
        digest.update(f"{', ' if number else ''}{text}".encode())
    digest.update(b"]")
    return digest.hexdigest()


def digest_of_path(path: Path) -> str:
    """Digest of a file's bytes, or of the names and bytes of all files in a folder but those of `BESIDE`."""
    digest = hashlib.blake2b(digest_size=16)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and p.name not in BESIDE)
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns what the operating system, or a library that writes, refuses into one sentence.

    Args:
        path: What is written.

    Raises:
        StorageError: The disk is full, or the folder is not writable.
    """
    try:
        yield
    except Exception as error:
        told = explained(error, path)
        if not isinstance(told, StorageError):
            raise
        raise told from error


_HERE = hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()
_LEFT = re.compile(rf"\.{_HERE}-(\d+)\.tmp$")
"""The end of a temporary file's name: its machine's and its process's number."""


def remove_leftovers(folder: Path) -> None:
    """Deletes the temporary files of processes of this machine that ended before they were done."""
    for path in folder.rglob("*.tmp"):
        found = _LEFT.search(path.name)
        if found and (int(found[1]) == os.getpid() or not psutil.pid_exists(int(found[1]))):
            remove(path)


def remove(path: Path) -> None:
    """Deletes a file or a whole folder, where it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary path, for a file or a folder, that becomes `path` at the end: it is complete or not there.

    The folder above it is made. Several processes may write the same at the same time; a folder that another one was
    faster with stays. A folder in the place of one of mint's own files is damage, and goes.

    Raises:
        StorageError: The disk is full, or the folder is not writable.
    """
    temporary = path.with_name(f"{path.name}.{_HERE}-{os.getpid()}.tmp")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            sync(temporary)
            if path.is_dir() and not path.is_symlink() and temporary.is_file():
                remove(path)
            if not (temporary.is_dir() and path.is_dir()):
                temporary.replace(path)
            sync_names(path.parent)
        finally:
            remove(temporary)


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
    with replaced(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        json.dump(without_nan(content), stream, indent=2, ensure_ascii=False, default=str, allow_nan=False)
        stream.write("\n")


def sync(path: Path) -> None:
    """Waits until a file, or all of a folder, is on the disk: contents and names."""
    if path.is_dir():
        for inner in path.iterdir():
            sync(inner)
        sync_names(path)
        return
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_names(folder: Path) -> None:
    """Waits until the names in a folder are on the disk. Windows has no such call and needs none."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


Access = Literal["private", "group", "umask"]
_MASKS = {"private": 0o077, "group": 0o007}


@contextmanager
def access(who: Access, *folders: Path) -> Iterator[None]:
    """Who may read what is written meanwhile, whatever the process's umask: the owner, or the owner's group too.

    Args:
        who: `umask` leaves everything as it is.
        folders: Where they are there, and others can look into them, they are closed too.
    """
    if who not in _MASKS:
        yield
        return
    mask = _MASKS[who]
    before = os.umask(mask)
    try:
        for folder in folders:
            if folder.is_dir() and folder.stat().st_mode & mask:
                with suppress(PermissionError):  # another person's folder
                    folder.chmod(folder.stat().st_mode & 0o7777 & ~mask)
        yield
    finally:
        os.umask(before)


def as_masked(folder: Path) -> None:
    """Gives every file in a folder the mode that the umask grants; libraries write some for their owner alone."""
    mask = os.umask(0o077)
    os.umask(mask)
    for path in folder.rglob("*"):
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) != 0o666 & ~mask:
            path.chmod(0o666 & ~mask)


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file in a folder, by its path in it, but for those in `BESIDE` and with an ending of `NOTES`."""
    return {
        file.relative_to(folder).as_posix(): digest_of_path(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.suffix not in NOTES and file.name not in BESIDE
    }


def digest_of_adapter(folder: Path) -> str:
    """Digest of an adapter without its card, which is written anew whenever more is known of it."""
    return digest_of(contents(folder))


def intact(folder: Path, digests: Mapping[str, str]) -> bool:
    """Whether every file is in a folder as it was written; further files do not matter."""
    return all(
        (folder / name).is_file() and digest_of_path(folder / name) == digest for name, digest in digests.items()
    )


def seal(folder: Path, marker: str) -> None:
    """Says that a folder is complete: its files first, down to the disk, then a marker with the digest of each.

    Args:
        folder: Nobody writes into it any longer.
        marker: Name of the marker.
    """
    remove(folder / marker)
    as_masked(folder)
    sync(folder)
    write_json(folder / marker, contents(folder))
    sync_names(folder.parent)


def sealed(folder: Path, marker: str) -> bool:
    """Whether a folder was sealed, and every file in it is as it was then."""
    try:
        digests = read_json(folder / marker)
        return isinstance(digests, dict) and bool(digests) and intact(folder, digests)
    except (OSError, ValueError, TypeError):
        return False


_DIGEST = ".digest"


def seal_file(path: Path) -> None:
    """Says that a file is complete and on the disk: its digest is written beside it."""
    sync(path)
    write_json(path.with_name(path.name + _DIGEST), digest_of_path(path))


def sealed_file(path: Path) -> bool:
    """Whether a file was sealed, and is as it was then."""
    try:
        return path.is_file() and read_json(path.with_name(path.name + _DIGEST)) == digest_of_path(path)
    except (OSError, ValueError):
        return False


def read_json(path: Path) -> Any:
    """Reads a JSON file of the run folder."""
    return parse_json(read_utf8(path))


def write_line(stream: TextIO, record: Mapping[str, Any], *, checked: bool = False) -> None:
    """Appends one JSON line and hands it to the operating system; numbers that are not finite become null.

    Args:
        stream: Where to.
        record: Must not have the key `crc32`.
        checked: Add a checksum, so that `read_lines` sees whether the line is as it was written.
    """
    plain = without_nan(record)
    stream.write(json.dumps({**plain, _CHECK: _checksum(plain)} if checked else plain, allow_nan=False) + "\n")
    stream.flush()


def read_lines(path: Path, *, drop: bool = False) -> list[dict[str, Any]]:
    """Reads JSON lines; a last line that was cut off by an interruption is left out.

    Args:
        path: Where there is no such file, there are no lines.
        drop: Leave out every damaged line.

    Raises:
        DataError: A line is damaged, and none is to be dropped.
    """
    if not path.exists():
        return []
    lines = read_bytes(path, None).split(b"\n")  # not splitlines: an answer may hold any other line separator
    records = []
    for position, line in enumerate(lines, 1):
        try:
            record = parse_json(line)
            if not isinstance(record, dict) or record.pop(_CHECK, None) not in (None, _checksum(record)):
                raise ValueError
            records.append(record)
        except ValueError:
            if position < len(lines) and not drop:
                raise DataError(
                    f"Line {position} of {path} is damaged; delete the file and run the stage again."
                ) from None
    return records


_CHECK = "crc32"
_LOOK_EVERY = 0.5
"""Seconds between two looks at a lock that another process holds."""


def _checksum(record: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps({key: value for key, value in record.items() if key != _CHECK}).encode())


def acquire(lock: FileLock, waiting: Callable[[], None] | None = None) -> None:
    """Takes a folder's lock, or says who has it.

    Args:
        lock: The lock.
        waiting: Called where another process holds it, which is then waited for; None = that is an error.

    Raises:
        StorageError: Another process holds it, or the folder is not writable.
    """
    folder = Path(lock.lock_file).parent
    with storage_errors(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if waiting is not None:
                waiting()
                lock.acquire(timeout=-1, poll_interval=_LOOK_EVERY)
                return
            raise StorageError(
                f"Another process is working in {folder}; wait for it, or choose another --name."
            ) from None
