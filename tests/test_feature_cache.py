"""The stream and the store of features: order, reuse, interruption, two processes, errors."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mint_core.decoding import AHEAD, ahead
from mint_core.errors import DataError, StorageError
from mint_core.teachers.feature_cache import FeatureStore, stream_features
from mint_core.types import ImageRef, Sample


class Grey(ImageRef):
    """A 4 x 4 image of one grey; opening it may fail."""

    def __init__(self, value: int, error: Exception | None = None) -> None:
        self.value, self.error, self.opened = value, error, 0

    @property
    def key(self) -> str:
        return f"grey-{self.value}"

    def open(self) -> Image.Image:
        self.opened += 1
        if self.error:
            raise self.error
        return Image.new("RGB", (4, 4), (self.value,) * 3)


class CountingEncoder:
    """Stands for an image encoder: the feature of an image is its grey and its square; counts what it encodes."""

    dtype = np.float32

    def __init__(self, stop_after: int = 10**9) -> None:
        self.encoded, self.stop_after, self.calls = 0, stop_after, 0

    def encode(self, images: list[np.ndarray]) -> np.ndarray:
        self.calls += 1
        if self.calls > self.stop_after:
            raise KeyboardInterrupt
        self.encoded += len(images)
        grey = np.stack(images)[:, 0, 0, 0].astype(np.float32)
        return np.stack([grey, grey**2], 1)


def samples(values: Iterator[int] | range | list[int]) -> list[Sample]:
    return [Sample(f"s{row}", "test", image=Grey(value)) for row, value in enumerate(values)]


def run(items: list[Sample], encoder: CountingEncoder, store: FeatureStore | None = None, **options) -> np.ndarray:
    done: list[int] = []
    settings = {"batch_size": 4, "workers": 2, "advance": done.append} | options
    how = {"key": lambda sample: sample.image.key, "prepare": lambda sample: np.asarray(sample.image.open())}
    parts = list(stream_features(items, **how, encode=encoder.encode, store=store, dtype=encoder.dtype, **settings))
    assert done == [len(part) for part in parts]
    return np.concatenate(parts) if parts else np.empty((0, 2), np.float32)


def test_features_come_in_the_order_of_the_samples() -> None:
    values = [5, 3, 3, 250, 9, 5, 0, 1, 2, 7, 8]
    features = run(samples(values), CountingEncoder())
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features[:, 0], values)
    assert run([], CountingEncoder()).shape == (0, 2)


def test_equal_keys_in_a_batch_are_encoded_once() -> None:
    encoder = CountingEncoder()
    run(samples([1, 1, 2, 1]), encoder)
    assert encoder.encoded == 2


def test_what_is_stored_is_neither_decoded_nor_encoded_again(tmp_path: Path) -> None:
    with FeatureStore(tmp_path / "f.sqlite", np.float32) as store:
        first, encoder = run(samples(range(10)), CountingEncoder(), store), CountingEncoder()
        again = samples(range(12))
        second = run(again, encoder, store)
        assert len(store) == 12
    np.testing.assert_array_equal(second[:10], first)
    assert encoder.encoded == 2
    assert [sample.image.opened for sample in again] == [0] * 10 + [1, 1]


def test_values_do_not_depend_on_whether_they_were_stored(tmp_path: Path) -> None:
    class Rounded(CountingEncoder):
        dtype = np.float16

        def encode(self, images: list[np.ndarray]) -> np.ndarray:
            return super().encode(images) / 255 / 3

    items = samples(range(200, 210))
    with FeatureStore(tmp_path / "f.sqlite", np.float16) as store:
        fresh, cached = run(items, Rounded(), store), run(items, Rounded(), store)
    np.testing.assert_array_equal(fresh, cached)
    np.testing.assert_array_equal(fresh, run(items, Rounded()))
    np.testing.assert_allclose(fresh[:, 0], np.arange(200, 210) / 765, rtol=1e-3)


def test_an_interruption_keeps_what_was_done(tmp_path: Path) -> None:
    path, items = tmp_path / "f.sqlite", samples(range(20))
    with FeatureStore(path, np.float32) as store, pytest.raises(KeyboardInterrupt):
        run(items, CountingEncoder(stop_after=3), store)
    encoder = CountingEncoder()
    with FeatureStore(path, np.float32) as store:
        assert len(store) == 12
        np.testing.assert_array_equal(run(items, encoder, store)[:, 0], range(20))
    assert encoder.encoded == 8


def test_a_bad_image_comes_through_unchanged_and_leaves_no_thread(tmp_path: Path) -> None:
    items = samples(range(40))
    error = DataError("Sample 's9' is cut off.")
    items[9] = Sample("s9", "test", image=Grey(9, error))
    with FeatureStore(tmp_path / "f.sqlite", np.float32) as store:
        with pytest.raises(DataError) as caught:
            run(items, CountingEncoder(), store)
        assert caught.value is error
        assert len(store) == 8  # the batches before it
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mint-decode")]
    assert items[-1].image.opened == 0


def test_decoding_stays_a_bounded_number_of_batches_ahead() -> None:
    items, seen = samples(range(100)), []

    class Watching(CountingEncoder):
        def encode(self, images: list[np.ndarray]) -> np.ndarray:
            seen.append(sum(sample.image.opened for sample in items) - self.encoded)
            return super().encode(images)

    run(items, Watching())
    assert max(seen) <= 4 * (AHEAD + 1)
    assert list(ahead(range(5), lambda job: job * 2)) == [0, 2, 4, 6, 8]


WRITER = """
import sys
import numpy as np
from pathlib import Path
from mint_core.teachers.feature_cache import FeatureStore
with FeatureStore(Path(sys.argv[1]), np.float32) as store:
    for start in range(0, 200, 10):
        keys = [str(n) for n in range(start, start + 10)]
        store.put(keys, np.arange(start, start + 10, dtype=np.float32)[:, None])
"""


def test_two_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) for _ in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with FeatureStore(path, np.float32) as store:
        assert len(store) == 200
        found = store.get([str(n) for n in range(1200)])
    assert {key: float(value[0]) for key, value in found.items()} == {str(n): float(n) for n in range(200)}


def test_several_that_open_a_new_file_at_once_wait_for_each_other(tmp_path: Path) -> None:
    """sqlite3 itself does not wait where two switch to write-ahead logging at once."""
    together, refused = threading.Barrier(4), []

    def open_all() -> None:
        for number in range(60):
            together.wait()
            try:
                with FeatureStore(tmp_path / f"{number}.sqlite", np.float32):
                    pass
            except StorageError as error:
                refused.append(error)

    threads = [threading.Thread(target=open_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not refused


def test_a_value_that_was_altered_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite"
    with FeatureStore(path, np.float32) as store:
        store.put(["a", "b", "c"], np.arange(6, dtype=np.float32).reshape(3, 2))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE checked SET value = ? WHERE key = 'a'", (np.float32([7, 1]).tobytes(),))
        connection.execute("UPDATE checked SET key = 'd' WHERE key = 'b'")
    with FeatureStore(path, np.float32) as store:
        assert list(store.get(["a", "b", "c", "d"])) == ["c"]
        store.put(["a"], np.float32([[0, 1]]))
        np.testing.assert_array_equal(store.get(["a"])["a"], [0, 1])


def test_a_broken_file_is_reported_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "f.sqlite"
    path.write_bytes(b"this is no database, " * 100)
    with pytest.raises(StorageError, match=r"f\.sqlite.*delete the file"):
        FeatureStore(path, np.float32)
