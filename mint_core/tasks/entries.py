"""Entries as a table or a folder holds them, before labels are settled and splits are made; a million take little room.

They lie in Arrow tables: in memory where they are few, and in a file that is memory-mapped where they are many. Python
objects are made of them one by one, when they are asked for.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from mint_core.errors import DataError
from mint_core.files import storage_errors
from mint_core.images import CellImage, FileImage
from mint_core.types import ImageRef, Sample, Split

SPLIT_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What splits are called, in lower case."""
_LONGEST_SPLIT = 20
"""A longer word may be a text about a patient that stands in the wrong column, and is not quoted."""
_BATCH = 1_000
"""Entries that are Python objects at once."""
_IN_MEMORY = 20_000
"""More entries are written into a file."""
_KEY = 16
"""Bytes of an image's key."""
_COLUMNS = ("where", "id", "label", "group", "split", "image", "text", "privileged", "subgroups")


@dataclass(frozen=True, slots=True)
class Entry:
    """One sample before its label is normalised and its split is made."""

    where: str
    """Row or file, for messages."""
    id: str
    label: str | None = None
    group: str | None = None
    split: Split | None = None
    image: ImageRef | None = field(default=None, repr=False)
    text: str | None = field(default=None, repr=False)
    privileged: Mapping[str, str] = field(default_factory=dict, repr=False)
    subgroups: Mapping[str, str] = field(default_factory=dict, repr=False)


def split_of(word: str, where: str) -> Split:
    """The split that a cell names.

    Raises:
        DataError: There is none of that name.
    """
    split = SPLIT_WORDS.get(word.lower())
    if split is None:
        shown = f"split '{word}'" if len(word) <= _LONGEST_SPLIT else "the split"
        raise DataError(f"{where}: {shown} is not known; write train, val or test.")
    return split


class Entries(Sequence[Entry]):
    """Entries that are Python objects only while they are looked at.

    Args:
        entries: Read once, in order.
        cache: A folder; where they are many, a file without a name lies there as long as they are in use.

    Raises:
        StorageError: The file cannot be written.
    """

    def __init__(self, entries: Iterable[Entry], cache: Path) -> None:
        self._images = _Images()
        self.table = _kept((self._images.cells_of(entry) for entry in entries), cache)
        """Texts, one column per field; image, privileged values and subgroups are written as `_Images` and JSON do."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[Entry]:
        rows = (row for batch in self.table.to_batches(max_chunksize=_BATCH) for row in batch.to_pylist())
        return (self._images.entry_of(place, row) for place, row in enumerate(rows))

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Entry]: ...
    def __getitem__(self, place: int | slice) -> Entry | Sequence[Entry]:
        if isinstance(place, slice):
            begin, end, step = place.indices(len(self))
            if step != 1:
                return [self[i] for i in range(begin, end, step)]
            rows = self.table.slice(begin, max(end - begin, 0)).to_pylist()
            return [self._images.entry_of(begin + number, row) for number, row in enumerate(rows)]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        (row,) = self.table.slice(place, 1).to_pylist()
        return self._images.entry_of(place, row)

    @property
    def subgroups(self) -> Sequence[str]:
        """The columns by which results can be reported, in the order in which they were met."""
        return list(self._images.subgroups)

    @property
    def images(self) -> Sequence[ImageRef | None]:
        """The images alone."""
        return _ImagesAlone(self.table.select(["image", "where"]), self._images)

    def column(self, name: str) -> Any:
        """One field of all entries, a `pyarrow.ChunkedArray` of texts."""
        return self.table.column(name)


class StoredSamples(Sequence[Sample]):
    """The samples of settled entries.

    Args:
        entries: With their labels as in the label space.
        splits: One per entry; None = as the entries say.
        groups: Likewise.
    """

    def __init__(
        self, entries: Entries, splits: Sequence[Split] | None = None, groups: Sequence[str | None] | None = None
    ) -> None:
        self._entries, self._splits, self._groups = entries, splits, groups

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Sample]:
        return (self._sample(place, entry) for place, entry in enumerate(self._entries))

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(place, slice):
            places = range(*place.indices(len(self)))
            return [self._sample(i, entry) for i, entry in zip(places, self._entries[place], strict=True)]
        return self._sample(place, self._entries[place])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == one for mine, one in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def columns(self) -> Any:
        """Id, split, label and group of all samples, a `pyarrow.Table`, for checks that look at all of them."""
        import pyarrow as pa

        names = ("id", "split", "label", "group")
        found = {name: self._entries.column(name) for name in names}
        if self._splits is not None:
            found["split"] = pa.array(self._splits, pa.string())
        if self._groups is not None:
            found["group"] = pa.array(self._groups, pa.string())
        return pa.table(found)

    @property
    def images(self) -> Sequence[ImageRef | None]:
        """The images alone."""
        return self._entries.images

    def _sample(self, place: int, entry: Entry) -> Sample:
        return Sample(
            id=entry.id,
            split=self._splits[place] if self._splits is not None else entry.split or "train",
            label=entry.label,
            group=self._groups[place] if self._groups is not None else entry.group,
            image=entry.image,
            text=entry.text,
            privileged=entry.privileged,
            subgroups=entry.subgroups,
        )


class _StoredFile(FileImage):
    """An image file whose key is kept beside its row, since the object itself does not live long."""

    def __init__(self, path: str, max_pixels: int, keys: NDArray[np.uint8], place: int) -> None:
        super().__init__(path, max_pixels=max_pixels)
        self._keys, self._place = keys, place

    @property
    def key(self) -> str:
        """See `FileImage.key`."""
        kept = self._keys[self._place]
        if not kept.any():
            kept[:] = np.frombuffer(bytes.fromhex(super().key), np.uint8)
        return bytes(kept).hex()

    def __reduce__(self) -> tuple[Any, ...]:
        return FileImage, (self._path, None, self._max_pixels)


class _Images:
    """How images are written into a cell: paths as they are, others as places in a list of what holds them."""

    def __init__(self) -> None:
        self.max_pixels = self.rows = 0
        self.holders: list[Any] = []
        self.place_of: dict[int, int] = {}
        self.subgroups: dict[str, None] = {}

    @cached_property
    def keys(self) -> NDArray[np.uint8]:
        """The keys of files as far as somebody has asked for them, shape (n, 16); zeros where nobody has."""
        return np.zeros((self.rows, _KEY), np.uint8)

    def cells_of(self, entry: Entry) -> dict[str, str | None]:
        self.rows += 1
        self.subgroups.update(dict.fromkeys(entry.subgroups))
        return {
            "where": entry.where,
            "id": entry.id,
            "label": entry.label,
            "group": entry.group,
            "split": entry.split,
            "image": None if entry.image is None else self._cell(entry.image),
            "text": entry.text,
            "privileged": json.dumps(dict(entry.privileged)) if entry.privileged else None,
            "subgroups": json.dumps(dict(entry.subgroups)) if entry.subgroups else None,
        }

    def entry_of(self, place: int, row: Mapping[str, Any]) -> Entry:
        read = {name: json.loads(row[name]) if row[name] else {} for name in ("privileged", "subgroups")}
        return Entry(**{**row, **read, "image": self.image_of(place, row)})

    def image_of(self, place: int, row: Mapping[str, Any]) -> ImageRef | None:
        return None if row["image"] is None else self._image(place, row["image"], row["where"])

    def _cell(self, image: ImageRef) -> str:
        if isinstance(image, FileImage):
            self.max_pixels = image.max_pixels
            return str(image.path)
        held, row = (image.cells, image.row) if isinstance(image, CellImage) else (image, "")
        place = self.place_of.setdefault(id(held), len(self.holders))
        if place == len(self.holders):
            self.holders.append(held)
        if isinstance(image, CellImage):
            self.max_pixels = image.max_pixels
        return f"\0{place}\0{row}"

    def _image(self, place: int, cell: str, where: str) -> ImageRef:
        if not cell.startswith("\0"):
            return _StoredFile(cell, self.max_pixels, self.keys, place)
        _, number, row = cell.split("\0")
        held = self.holders[int(number)]
        return CellImage(held, int(row), where, self.max_pixels) if row else held


class _ImagesAlone(Sequence[ImageRef | None]):
    """One column, without what stands beside it."""

    def __init__(self, table: Any, images: _Images) -> None:
        self._table, self._images = table, images

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[ImageRef | None]:
        if self._table.column("image").null_count == len(self):
            return repeat(None, len(self))
        rows = (row for batch in self._table.to_batches(max_chunksize=_BATCH) for row in batch.to_pylist())
        return (self._images.image_of(place, row) for place, row in enumerate(rows))

    def __getitem__(self, place: Any) -> Any:
        (row,) = self._table.slice(place, 1).to_pylist()
        return self._images.image_of(place, row)


def _kept(rows: Iterable[Mapping[str, str | None]], cache: Path) -> Any:
    """The rows as a `pyarrow.Table`."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.large_string()) for name in _COLUMNS])
    batches, waiting, count = [], [], 0
    with contextlib.ExitStack() as stack:
        writer: Any = None
        for row in rows:
            waiting.append(row)
            if len(waiting) < _BATCH:
                continue
            batches.append(pa.RecordBatch.from_pylist(waiting, schema))
            waiting, count = [], count + _BATCH
            if count > _IN_MEMORY:
                if writer is None:
                    stack.enter_context(storage_errors(cache))
                    cache.mkdir(parents=True, exist_ok=True)
                    file = stack.enter_context(tempfile.NamedTemporaryFile(dir=cache, prefix="samples-"))
                    writer = stack.enter_context(pa.ipc.new_file(file, schema))
                for batch in batches:
                    writer.write_batch(batch)
                batches = []
        batches.append(pa.RecordBatch.from_pylist(waiting, schema))
        if writer is None:
            return pa.Table.from_batches(batches, schema)
        writer.write_batch(batches[-1])
        writer.close()
        file.flush()
        # Where the system allows it, the file has no name from now on, and goes when nobody looks at it any more.
        return pa.ipc.open_file(pa.memory_map(file.name)).read_all()
