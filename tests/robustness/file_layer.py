"""What the files of a trial go through: it counts every change of a file, and ends the process at one of them.

A point is one call that changes what lies on the disk: rename, write, fsync, mkdir, unlink, rmdir, or a file that is
created. Only paths below the trial's folder count. Libraries whose compiled code writes files by itself (safetensors,
torch.save, Parquet) are made to write the same bytes through Python's files, so that they are met in the middle too.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
import shutil
import signal
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_CHUNKS = 3
"""Compiled writers write so many pieces, so that a file can be half-written."""


@dataclass(frozen=True)
class Act:
    """What happens at a point.

    kill: SIGKILL; what was handed to the operating system stays. power: the same, and what was not synced to the disk
    is lost in part. full: every write from this point on says that the disk is full.
    """

    kind: str
    at: int
    seed: int = 0


@dataclass
class FileLayer:
    """Counts points below a folder and does what `act` says."""

    root: str
    act: Act | None = None
    points: list[tuple[str, str]] = field(default_factory=list)
    """Kind and path of every point so far."""
    _dirty: set[tuple[int, int]] = field(default_factory=set)
    """Files with bytes that are not on the disk yet."""
    _entries: list[tuple[str, str, str]] = field(default_factory=list)
    """Created and renamed since their folder was synced: kind, old path, new path."""
    _real: dict[str, Callable[..., Any]] = field(default_factory=dict)

    # --- points

    def inside(self, path: str) -> bool:
        """Whether a path belongs to the trial."""
        return path == self.root or path.startswith(self.root + os.sep)

    def point(self, kind: str, path: str, torn: Callable[[], object] | None = None) -> None:
        """Passes a point, or ends here.

        Args:
            kind: What is about to happen.
            path: To which file.
            torn: Does half of it.

        Raises:
            OSError: The disk is full from here on.
        """
        self.points.append((kind, os.path.relpath(path, self.root)))
        if self.act is None or len(self.points) - 1 < self.act.at:
            return
        if self.act.kind == "full":
            if kind in ("write", "create", "mkdir"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            return
        if torn is not None:
            torn()
        if self.act.kind == "power":
            self._lose()
        os.kill(os.getpid(), signal.SIGKILL)

    def _lose(self) -> None:
        """Takes away what a power cut takes: the last changes of folders, and the ends of files."""
        draw, self.act = random.Random(self.act.seed if self.act else 0), None  # what follows is no point
        for kind, old, new in reversed(self._entries[draw.randint(0, len(self._entries)) :]):
            if kind == "rename" and not os.path.lexists(old) and os.path.lexists(new):
                os.makedirs(os.path.dirname(old), exist_ok=True)
                self._real["rename"](new, old)
            elif kind == "create" and os.path.isfile(new):
                self._real["unlink"](new)
            elif kind == "mkdir" and os.path.isdir(new) and not os.listdir(new):
                self._real["rmdir"](new)
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(folder, name)
                state = os.lstat(path)
                if (state.st_dev, state.st_ino) in self._dirty and stat.S_ISREG(state.st_mode):
                    kept = draw.choice((0, draw.randint(0, state.st_size)))
                    self._real["truncate"](path, kept)
                    if draw.random() < 0.3:  # the length is on the disk, the bytes are not
                        self._real["truncate"](path, state.st_size)

    # --- what is known of the disk

    def wrote(self, descriptor: int) -> None:
        """Bytes of an open file changed."""
        state = os.fstat(descriptor)
        self._dirty.add((state.st_dev, state.st_ino))

    def synced(self, descriptor: int, path: str) -> None:
        """A file or a folder is on the disk."""
        state = os.fstat(descriptor)
        self._dirty.discard((state.st_dev, state.st_ino))
        if stat.S_ISDIR(state.st_mode):
            self._entries = [entry for entry in self._entries if os.path.dirname(entry[2]) != path]

    def entry(self, kind: str, old: str, new: str) -> None:
        """A folder changed."""
        self._entries.append((kind, old, new))

    # --- wrappers

    def install(self) -> None:
        """Puts the layer in the place of the functions that change files, for the rest of this process."""
        self._wrap_paths()
        self._wrap_descriptors()
        self._wrap_open()
        self._wrap_libraries()

    def _wrap_paths(self) -> None:
        for name, kind in (
            ("rename", "rename"), ("replace", "rename"), ("unlink", "unlink"), ("remove", "unlink"),
            ("mkdir", "mkdir"), ("rmdir", "rmdir"), ("truncate", "write"), ("link", "create"), ("symlink", "create"),
        ):  # fmt: skip
            real = getattr(os, name)
            self._real[name] = real
            setattr(os, name, self._path_wrapper(real, kind))

    def _path_wrapper(self, real: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def changed(*arguments: Any, **named: Any) -> Any:
            first = _path(arguments[0], named.get("dir_fd", named.get("src_dir_fd")))
            last = _path(arguments[1], named.get("dst_dir_fd")) if kind == "rename" else first
            if first is None or last is None or not self.inside(last):
                return real(*arguments, **named)
            if kind in ("mkdir", "create") and os.path.lexists(last):
                return real(*arguments, **named)  # changes nothing
            if kind in ("unlink", "rmdir") and not os.path.lexists(last):
                return real(*arguments, **named)
            fresh = not os.path.lexists(last)
            self.point(kind, last)
            result = real(*arguments, **named)
            if kind == "mkdir" or (kind in ("rename", "create") and fresh):
                self.entry(kind, first, last)
            return result

        return changed

    def _wrap_descriptors(self) -> None:
        for name in ("fsync", "fdatasync", "write", "pwrite", "ftruncate", "sendfile", "copy_file_range"):
            if hasattr(os, name):
                self._real[name] = getattr(os, name)
                setattr(os, name, self._descriptor_wrapper(name))
        real = os.open

        def opened(path: Any, flags: int, *rest: Any, **named: Any) -> int:
            name = _path(path, named.get("dir_fd"))
            if name is None or not flags & os.O_CREAT or not self.inside(name) or os.path.lexists(name):
                return real(path, flags, *rest, **named)
            self.point("create", name)
            descriptor = real(path, flags, *rest, **named)
            self.entry("create", "", name)
            return descriptor

        os.open = opened

    def _descriptor_wrapper(self, name: str) -> Callable[..., Any]:
        real = self._real[name]
        syncs = name in ("fsync", "fdatasync")

        def changed(*arguments: Any, **named: Any) -> Any:
            file = arguments[1] if name == "copy_file_range" else arguments[0]
            descriptor = file if isinstance(file, int) else file.fileno()
            path = _name_of(descriptor)
            if path is None or not self.inside(path):
                return real(*arguments, **named)
            self.point("fsync" if syncs else "write", path)
            result = real(*arguments, **named)
            if syncs:
                self.synced(descriptor, path)
            else:
                self.wrote(descriptor)
            return result

        return changed

    def _wrap_open(self) -> None:
        real, layer = io.open, self

        class Tracked(io.FileIO):
            """A file below the trial's folder that is open for writing."""

            def write(self, data: Any) -> int:
                def torn() -> None:
                    view = memoryview(data).cast("B")
                    super(Tracked, self).write(view[: len(view) // 2])
                    layer.wrote(self.fileno())

                layer.point("write", os.path.abspath(os.fsdecode(self.name)), torn)
                written = super().write(data)
                layer.wrote(self.fileno())
                return written

            def truncate(self, size: int | None = None) -> int:
                layer.point("write", os.path.abspath(os.fsdecode(self.name)))
                layer.wrote(self.fileno())
                return super().truncate(size)

        def opened(
            file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None,
            newline: Any = None, closefd: bool = True, opener: Any = None,
        ) -> Any:  # fmt: skip
            path = None if isinstance(file, int) else _path(file, None)
            if path is None or opener is not None or not set(mode) & set("wax+") or not layer.inside(path):
                return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
            fresh = not os.path.lexists(path)
            emptied = "w" in mode and not fresh and os.path.isfile(path) and os.path.getsize(path) > 0
            if os.path.isdir(os.path.dirname(path)) and (emptied or (fresh and not mode.startswith("r"))):
                layer.point("create", path)
            raw = Tracked(file, mode.replace("b", "").replace("t", ""), closefd)
            if fresh:
                layer.entry("create", "", path)
            if fresh or emptied:
                layer.wrote(raw.fileno())
            if buffering == 0:
                return raw
            size = io.DEFAULT_BUFFER_SIZE if buffering < 2 else buffering
            buffer = io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)
            if "b" in mode:
                return buffer
            text = io.TextIOWrapper(buffer, encoding, errors, newline, buffering == 1)
            text.mode = mode  # type: ignore[misc]
            return text

        builtins.open = opened  # type: ignore[assignment]
        io.open = opened  # type: ignore[assignment]
        import _io

        _io.open = opened  # type: ignore[assignment]

    def _wrap_libraries(self) -> None:
        import pyarrow.parquet as pq
        import safetensors
        import safetensors.torch
        import torch

        def serialize_file(tensors: Any, filename: Any, metadata: Any = None) -> None:
            _write(filename, safetensors.serialize(tensors, metadata))

        real_save, real_table = torch.save, pq.write_table

        def save(content: Any, file: Any, *rest: Any, **named: Any) -> None:
            if not isinstance(file, str | os.PathLike):
                return real_save(content, file, *rest, **named)
            buffer = io.BytesIO()
            real_save(content, buffer, *rest, **named)
            return _write(file, buffer.getvalue())

        def write_table(table: Any, where: Any, *rest: Any, **named: Any) -> None:
            if not isinstance(where, str | os.PathLike):
                return real_table(table, where, *rest, **named)
            buffer = io.BytesIO()
            real_table(table, buffer, *rest, **named)
            return _write(where, buffer.getvalue())

        safetensors.serialize_file = safetensors.torch.serialize_file = serialize_file
        torch.save, pq.write_table = save, write_table  # type: ignore[assignment]
        shutil._USE_CP_SENDFILE = False  # type: ignore[attr-defined]  # copies then pass through write


def _write(path: Any, data: bytes) -> None:
    step = max(1, -(-len(data) // _CHUNKS))
    with Path(path).open("wb", buffering=0) as stream:
        for begin in range(0, len(data), step):
            stream.write(data[begin : begin + step])


def _path(path: Any, folder: int | None) -> str | None:
    if isinstance(path, int):
        return _name_of(path)
    name = os.fsdecode(path)
    if folder is not None and folder >= 0 and not os.path.isabs(name):
        place = _name_of(folder)
        return None if place is None else os.path.join(place, name)
    return os.path.abspath(name)


def _name_of(descriptor: int) -> str | None:
    """The path of an open file, where the system tells it."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)")
    except OSError:
        return None
