"""Datasets of Hugging Face: a folder, local files, or an id of the hub. The one file that talks to `datasets`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mint_core.errors import DataError
from mint_core.images import CellImage, FileImage
from mint_core.tables import check_columns
from mint_core.tasks.entries import Entries, Entry, split_of
from mint_core.tasks.load import Read, check_headers
from mint_core.tasks.manifest import Layout, Seen, check_unique, entry_of, file_of
from mint_core.tasks.options import ManifestOptions
from mint_core.tasks.rows import Row, row_of

_BUILDERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet", ".arrow": "arrow"}
_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
_BATCH = 1000
"""Rows that are Python objects at once."""


def is_dataset(place: Path) -> bool:
    """Whether `save_to_disk` wrote the folder."""
    return (place / "dataset_info.json").is_file() or (place / "dataset_dict.json").is_file()


def read_dataset(place: Path, layout: Layout, options: ManifestOptions, cache: Path, facts: Counter[str]) -> Read:
    """Lists the rows of a dataset. Its tables stay memory-mapped, and images are not decoded.

    Args:
        place: A folder that `save_to_disk` wrote, what else `load_dataset` reads here, or an id of the hub.
        layout: Which columns mean what.
        options: `revision`, `configuration`, `check_images` and `missing` count.
        cache: Where `datasets` keeps what it makes of other formats.
        facts: Gets the counts.

    Raises:
        DataError: It is not there, cannot be fetched, or a row is not as it must be.
    """
    entries = Entries(_all_entries(place, layout, options, cache, facts), cache)
    if not entries:
        raise DataError(f"The dataset {place} holds no rows.")
    check_unique(entries, layout)
    check_headers(entries, options)
    revision = f" at {options.revision}" if options.revision else ""
    return Read(entries, place, f"dataset {place.name if place.exists() else place.as_posix()}{revision}")


def _all_entries(
    place: Path, layout: Layout, options: ManifestOptions, cache: Path, facts: Counter[str]
) -> Iterator[Entry]:
    parts = _parts(place, options, cache)
    for name, part in parts.items():
        given = split_of(name, f"Dataset {place.name}") if len(parts) > 1 else None
        shown = f"{place.name} {name}" if given else place.name
        root = (layout.images or (place if place.is_dir() else place.parent)).resolve()
        for entry in _entries(part, shown, layout, root, facts):
            split = entry.split or given
            if entry.label is None and split not in (None, "train"):
                raise DataError(f"{entry.where}: the label is empty in split '{split}'; leave such rows out.")
            yield replace(entry, split=split)


def _parts(place: Path, options: ManifestOptions, cache: Path) -> dict[str, Any]:
    """The tables of a dataset by the name of their split."""
    import datasets

    datasets.disable_progress_bars()
    with _told(place, options):
        if is_dataset(place):
            found = datasets.load_from_disk(str(place))
        else:
            wanted: dict[str, Any] = {"name": options.configuration, "cache_dir": str(cache / "datasets")}
            if place.is_file():
                builder = _BUILDERS.get(place.suffix.lower())
                if builder is None:
                    raise DataError(
                        f"{place} is no file that mint hands to `datasets`; name one that ends in "
                        f"{', '.join(_BUILDERS)}, or a folder."
                    )
                extra = {"sep": "\t"} if place.suffix.lower() == ".tsv" else {}
                found = datasets.load_dataset(builder, data_files=str(place), **wanted, **extra)
            elif place.exists() or _HUB_ID.fullmatch(place.as_posix()):
                revision = None if place.exists() else options.revision
                found = datasets.load_dataset(str(place), revision=revision, **wanted)
            else:
                raise DataError(f"There is nothing at {place}; check the path, or the id of the dataset, after --data.")
    return dict(found) if isinstance(found, Mapping) else {"all": found}


@contextmanager
def _told(place: Path, options: ManifestOptions) -> Iterator[None]:
    """What `datasets` and the hub raise becomes one sentence; their own may quote rows."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        if place.exists():
            raise DataError(
                f"{place} cannot be read as a dataset ({type(error).__name__}); name a folder that `save_to_disk` "
                "wrote, or another source with --source."
            ) from error
        revision = f" at revision {options.revision}" if options.revision else ""
        raise DataError(
            f"The dataset '{place.as_posix()}'{revision} is not here and cannot be fetched ({type(error).__name__}); "
            "check the id and the network (is HF_HUB_OFFLINE set?), or fetch it elsewhere and name the folder that "
            "`save_to_disk` wrote."
        ) from error


class _Column:
    """The bytes of a column of images."""

    def __init__(self, part: Any, column: str) -> None:
        self.part, self.column = part.select_columns([column]), column

    def __getitem__(self, row: int) -> bytes:
        return bytes(self.part[row][self.column]["bytes"])


def _entries(part: Any, place: str, layout: Layout, root: Path, facts: Counter[str]) -> Iterator[Entry]:
    import datasets

    features = part.features
    column_of = layout.column_of()
    check_columns(place, part.column_names, layout.needed_columns(), surely=True)
    used = {column for column in column_of.values() if column in features}
    image = layout.columns["image"]
    seen = isinstance(features.get(image), datasets.Image)
    wrong = next((one for one in used if _is_nested(features[one]) and not (one == image and seen)), None)
    if wrong is not None:
        raise DataError(f"{place}: column '{wrong}' holds lists or objects; mint reads texts, numbers and images.")
    plain = [name for name, feature in features.items() if not _is_nested(feature)]
    columns = frozenset(field for field, column in column_of.items() if column in features)
    names = {name: features[name].names for name in plain if isinstance(features[name], datasets.ClassLabel)}
    cells = _Column(part.cast_column(image, datasets.Image(decode=False)), image) if seen else None

    def look(row: Row) -> Seen:
        if cells is None:
            return file_of(root, layout, row)
        number = int(row.where.rpartition(" ")[2]) - 1
        about = cells.part[number][image]
        if about is None:
            return Seen(None)
        if about["bytes"] is None:
            return Seen(FileImage(Path(about["path"]), max_pixels=layout.max_pixels))
        return Seen(CellImage(cells, number, row.where, layout.max_pixels))

    number = 0
    for batch in part.select_columns(plain).with_format("arrow").iter(batch_size=_BATCH):
        for values in batch.to_pylist():
            number += 1
            for name, known in names.items():
                at = values[name]
                values[name] = known[at] if at is not None and at >= 0 else None
            yield entry_of(
                row_of(f"{place}, row {number}", values, column_of, layout.missing), columns, layout, look, facts
            )


def _is_nested(feature: Any) -> bool:
    """Whether a cell holds more than one value, or an image or sound."""
    import datasets

    return not isinstance(feature, datasets.Value | datasets.ClassLabel) or feature.dtype in ("binary", "large_binary")
