"""All runs below one folder as a store: a stage that is complete in one of them is never made again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from mint_core.files import acquire, remove_leftovers, storage_errors
from mint_core.runs.folder import RunFolder
from mint_core.stages.stage import Manifest

_DEPTHS = ("*", "*/*")
"""Runs lie in the folder itself, and those of a comparison one level below."""


@dataclass(frozen=True, slots=True)
class Store:
    """Complete stages by name and key, wherever below `out` they lie."""

    out: Path

    @property
    def cache(self) -> Path:
        """Folder of features, indexes and encoded rows, kept by content."""
        return self.out / ".cache"

    def prepare(self) -> None:
        """Makes the folders, or raises StorageError."""
        with storage_errors(self.cache):
            self.cache.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.cache)

    def find(self, stage: str, key: str) -> Iterator[RunFolder]:
        """The runs in which a stage of this key (see `Stage.key`) is complete."""
        for depth in _DEPTHS:
            for path in sorted(self.out.glob(f"{depth}/stages/{stage}.json")):
                folder = RunFolder(path.parent.parent)
                if folder.complete(stage, key) is not None:
                    yield folder

    @contextmanager
    def alone(self, stage: str, key: str, waiting: Callable[[], None]) -> Iterator[None]:
        """No other process that comes here makes this stage meanwhile; one that does so already is waited for.

        Args:
            stage: Its name.
            key: Its key, see `Stage.key`.
            waiting: Called where another process makes it.
        """
        lock = FileLock(self.cache / f"{stage}-{key[:16]}.lock")
        acquire(lock, waiting)
        try:
            yield
        finally:
            lock.release()

    def adopt(self, into: RunFolder, stage: str, key: str) -> Manifest | None:
        """Copies a stage that is complete in another run; None where there is none."""
        for other in self.find(stage, key):
            if other.path.resolve() != into.path.resolve():
                adopted = into.adopt(stage, key, other)
                if adopted is not None:
                    into.log("stage adopted", stage=stage, run=other.path.name)
                    return adopted
        return None
