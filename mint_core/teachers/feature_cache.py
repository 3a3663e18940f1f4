"""Frozen features: samples prepared ahead in threads, encoded in batches, kept by content in an sqlite3 file.

Memory is flat: what is prepared stays `mint_core.decoding.AHEAD` batches ahead. What is done is in the file at the end
of every batch, so an interrupted run goes on where it stopped; two processes may share the file.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from mint_core.decoding import ahead, decoding_pool
from mint_core.errors import StorageError
from mint_core.types import Sample

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

T = TypeVar("T")
WAIT_SECONDS = 60.0
"""How long a process waits for another one's transaction."""


class FeatureStore:
    """Features by content key.

    Args:
        path: The file; made where it is absent. Its name holds the model's fingerprint and the precision.
        dtype: How a value is stored: float16 or float32.

    Raises:
        StorageError: The file cannot be opened, read or written.
    """

    def __init__(self, path: Path, dtype: DTypeLike) -> None:
        self.path, self._dtype = path, np.dtype(dtype)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=WAIT_SECONDS)
            _write_ahead(self._connection)
            self._connection.execute("PRAGMA synchronous=NORMAL")
            with self._connection:
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS checked "
                    "(key TEXT PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL)"
                )
        except (sqlite3.Error, OSError) as error:
            raise self._storage_error(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def __len__(self) -> int:
        try:
            return int(self._connection.execute("SELECT COUNT(*) FROM checked").fetchone()[0])
        except sqlite3.Error as error:
            raise self._storage_error(error) from error

    def get(self, keys: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The features that are there and as they were written, each of shape (dim,)."""
        found = {}
        try:
            for start in range(0, len(keys), 500):
                part = keys[start : start + 500]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, value, crc FROM checked WHERE key IN ({marks})"  # noqa: S608 - question marks only
                for key, value, crc in self._connection.execute(query, part):
                    if crc == _checksum(key, value):
                        found[key] = np.frombuffer(value, self._dtype).astype(np.float32)
        except sqlite3.Error as error:
            raise self._storage_error(error) from error
        return found

    def put(self, keys: Sequence[str], values: NDArray[np.float32]) -> None:
        """Keeps features of shape (n, dim), all or none of them."""
        kept = [(key, value.astype(self._dtype).tobytes()) for key, value in zip(keys, values, strict=True)]
        rows = [(key, value, _checksum(key, value)) for key, value in kept]
        try:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO checked VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise self._storage_error(error) from error

    def _storage_error(self, error: Exception) -> StorageError:
        return StorageError(
            f"The feature cache {self.path} cannot be used ({error}); make room or delete the file, and run again."
        )


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Lets others read while one writes; sqlite3 itself does not wait where two processes ask for that at once."""
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def _checksum(key: str, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(key.encode()))


@dataclass(frozen=True, slots=True)
class _Batch:
    keys: list[str]
    known: dict[str, NDArray[np.float32]]
    preparing: dict[str, Future[Any]]


def stream_features(
    samples: Sequence[Sample],
    *,
    key: Callable[[Sample], str],
    prepare: Callable[[Sample], Any],
    encode: Callable[[Sequence[Any]], NDArray[Any]],
    store: FeatureStore | None,
    dtype: DTypeLike,
    batch_size: int,
    workers: int,
    advance: Callable[[int], None],
) -> Iterator[NDArray[np.float32]]:
    """Yields the features of all samples in order, batch by batch, shape (at most batch_size, dim).

    Values are rounded to the precision in which they are kept, so that a cached run gives the same numbers.

    Args:
        samples: What to encode; equal keys within a batch are encoded once.
        key: Names the content of a sample: equal keys mean equal features.
        prepare: Makes of a sample what is encoded, in a thread; for example opens its image.
        encode: Features, shape (n, dim), of n prepared samples.
        store: Where features are kept, or None.
        dtype: The precision that they are rounded to: that of the store.
        batch_size: Samples per batch.
        workers: Threads that prepare.
        advance: Called with the number of samples just done.

    Raises:
        DataError: A sample lacks what is read, or its image cannot be read.
    """
    with decoding_pool(workers) as pool:

        def start(batch: Sequence[Sample]) -> _Batch:
            keys = [key(sample) for sample in batch]  # once per sample: a key may be a hash over a file
            distinct = dict(zip(keys, batch, strict=True))
            known = {} if store is None else store.get(list(distinct))
            preparing = {name: pool.submit(prepare, one) for name, one in distinct.items() if name not in known}
            return _Batch(keys, known, preparing)

        for batch in ahead(batches(samples, batch_size), start):
            features = dict(batch.known)
            if batch.preparing:
                encoded = encode([future.result() for future in batch.preparing.values()])
                encoded = encoded.astype(dtype).astype(np.float32)
                if store is not None:
                    store.put(list(batch.preparing), encoded)
                features |= dict(zip(batch.preparing, encoded, strict=True))
            advance(len(batch.keys))
            yield np.stack([features[name] for name in batch.keys])


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cuts a sequence into pieces of `size`; the last one may be shorter."""
    return (items[start : start + size] for start in range(0, len(items), size))
