"""The teacher `file`: rankings that somebody else computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from mint_core.errors import ConfigError, DataError, did_you_mean
from mint_core.files import check_regular
from mint_core.folds import log_softmax
from mint_core.interfaces import ComponentConfig, Teacher
from mint_core.types import Sample

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

LABELS_OF = b"mint.labels"
"""Key of a Parquet file's metadata: the label space of a column of log-probabilities, as JSON."""
_IDS = ("sample", "id", "sample_id")
_BESIDE = ("split", "label", "group", "truth")
_SHOWN = 3
_OFF = 1e-2
Scale = Literal["auto", "log-probabilities", "probabilities", "scores"]


class FileConfig(ComponentConfig):
    """Options of the teacher `file`."""

    path: Path | None = Field(
        None,
        description="The rankings: .parquet, .csv or .tsv with an id per row and a column per label, or with the "
        "columns sample, label and score; or rankings/rankings.parquet of a run.",
    )
    scale: Scale = Field(
        "auto",
        description="What the numbers are: natural log-probabilities, probabilities, or scores = any numbers, of which "
        "mint makes probabilities with a softmax; auto = probabilities or their logarithms, whichever add up.",
    )


class RankingsFile(Teacher):
    """Rankings from a file, for teachers that cannot run here: another framework, a closed model, a reader's opinion.

    Rows are found by id and columns by the names or aliases of labels, so that neither order matters. Log-probabilities
    are taken as they stand, bit for bit. Rankings of training samples should come from a model that did not see their
    label; a file cannot tell.

    Raises:
        ConfigError: No file is named, or it does not exist.
        DataError: It cannot be read, lacks a sample or a label, names another label or a sample twice, or holds what is
            no number or adds up to no probability.
    """

    name = "file"
    together = True
    Config: ClassVar[type[Any]] = FileConfig
    config: FileConfig

    def log_probs(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """See `mint_core.interfaces.teacher.Teacher.log_probs`."""
        if self.config.path is None:
            raise ConfigError("The teacher 'file' needs rankings; name them with --set teacher.path=FILE.")
        place = self.config.path
        ids, names, numbers = _read(place)
        columns = self._columns(place, names)
        rows = self._rows(place, ids, samples)
        self._told: dict[str, Any] = {"rows": len(ids), "rows of no sample": len(ids) - len(samples)}
        self.context.advance(len(samples))
        return self._settled(place, numbers[rows][:, columns], samples)

    def describe(self) -> dict[str, Any]:
        """How many rows there were, and what the numbers were taken for."""
        return self._told

    def _columns(self, place: Path, names: Sequence[str]) -> list[int]:
        """The column of each label."""
        found: dict[str, int] = {}
        for position, name in enumerate(names):
            label = self.labels.find(name)
            if label is None:
                hint = did_you_mean(name, self.labels.names)
                raise DataError(f"{place.name}: '{name}' is no label of the task{hint}; rename or delete that column.")
            if label in found:
                raise DataError(f"{place.name}: '{names[found[label]]}' and '{name}' are one label; delete one.")
            found[label] = position
        missing = [label for label in self.labels.names if label not in found]
        if missing:
            raise DataError(
                f"{place.name} has no numbers for {len(missing):,} of {len(self.labels):,} labels "
                f"({_some(missing)}); a teacher ranks all of them."
            )
        return [found[label] for label in self.labels.names]

    def _rows(self, place: Path, ids: Sequence[str], samples: Sequence[Sample]) -> list[int]:
        """The row of each sample."""
        twice = [name for name, count in Counter(ids).items() if count > 1]
        if twice:
            raise DataError(f"{place.name} names {len(twice):,} ids twice ({_some(twice)}); keep one row of each.")
        where = {name: row for row, name in enumerate(ids)}
        missing = [sample.id for sample in samples if sample.id not in where]
        if missing:
            raise DataError(
                f"{place.name} has no row for {len(missing):,} of {len(samples):,} samples ({_some(missing)}); "
                "add them, or check that its ids are those of the task's samples."
            )
        return [where[sample.id] for sample in samples]

    def _settled(self, place: Path, numbers: NDArray[Any], samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Log-probabilities of the samples."""
        wrong = np.isnan(numbers) | np.isposinf(numbers)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise DataError(
                f"{place.name}: {int(wrong.any(1).sum()):,} samples have no number for some label, '{samples[row].id}' "
                f"none for '{self.labels.names[column]}'; give every sample a finite number for every label."
            )
        scale = self.config.scale if self.config.scale != "auto" else _recognised(numbers)
        self._told["scale"] = scale or ""
        if scale == "scores":
            if not np.isfinite(numbers).all():
                raise DataError(f"{place.name} holds scores that are not finite; give numbers.")
            return log_softmax(numbers)
        wide = numbers.astype(np.float64)
        off = {"log-probabilities": _off(wide), "probabilities": _off(wide, logarithms=False)}
        if scale is None or off[scale] > _OFF:
            told = " and ".join(f"as {kind} the worst row is off by {value:.3g}" for kind, value in off.items())
            raise DataError(
                f"{place.name}: the numbers of a sample do not add up to a probability ({told}); if they are other "
                "scores, say --set teacher.scale=scores."
            )
        if scale == "log-probabilities":
            return numbers.astype(np.float32)
        with np.errstate(divide="ignore"):
            logarithms: NDArray[np.float32] = np.log(wide / wide.sum(1, keepdims=True)).astype(np.float32)
        return logarithms


def _off(numbers: NDArray[np.float64], *, logarithms: bool = True) -> float:
    """By how much the probabilities of the worst row miss 1; infinite where they are none."""
    if (numbers > _OFF).any() if logarithms else (numbers < 0).any():
        return float("inf")
    return float(np.abs((np.exp(numbers) if logarithms else numbers).sum(1) - 1).max())


def _recognised(numbers: NDArray[Any]) -> Literal["log-probabilities", "probabilities"] | None:
    wide = numbers.astype(np.float64)
    if _off(wide) <= _OFF:
        return "log-probabilities"
    return "probabilities" if _off(wide, logarithms=False) <= _OFF else None


def _some(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _read(place: Path) -> tuple[list[str], list[str], NDArray[Any]]:
    """Ids of the rows, names of the columns, and the numbers, shape (rows, columns)."""
    table = _table(place)
    columns = table.column_names
    name = next((name for name in _IDS if name in columns), None)
    if name is None:
        raise DataError(f"{place.name} has no column of ids; call it 'sample' or 'id'.")
    found = table.column(columns.index(name)).to_pylist()
    if any(value in (None, "") for value in found):
        raise DataError(f"{place.name} has a row without an id; give every row the id of its sample.")
    ids = [str(value) for value in found]
    if "log_probs" in columns:
        return ids, *_of_a_run(place, table)
    if {"label", "score"} <= set(columns):
        return _from_long(place, ids, table)
    own = [position for position, column in enumerate(columns) if column != name and column not in _BESIDE]
    numbers = [_numbers(place, columns[position], table.column(position)) for position in own]
    return ids, [columns[position] for position in own], np.stack(numbers, 1) if numbers else _NONE


_NONE = np.empty((0, 0))


def _table(place: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import csv

    if place.is_dir():
        raise ConfigError(
            f"teacher.path: {place} is a folder; name a file, of a run its {place}/rankings/rankings.parquet."
        )
    if place.suffix not in (".parquet", ".csv", ".tsv"):
        raise ConfigError(f"teacher.path: {place.name} is no .parquet, .csv or .tsv file.")
    try:
        check_regular(place)
        if place.suffix == ".parquet":
            return pq.read_table(place)
        texts = {name: pa.string() for name in (*_IDS, *_BESIDE)}
        return csv.read_csv(
            place,
            parse_options=csv.ParseOptions(delimiter="\t" if place.suffix == ".tsv" else ","),
            convert_options=csv.ConvertOptions(column_types=texts, strings_can_be_null=False),
        )
    except OSError as error:
        raise DataError(f"{place} cannot be read ({error.strerror or 'it is damaged'}); check the file.") from error
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
        raise DataError(f"{place} cannot be read as {place.suffix}; write it again as such a table.") from error


def _of_a_run(place: Path, table: pa.Table) -> tuple[list[str], NDArray[Any]]:
    """The rankings of a run, whose labels stand in the file's metadata."""
    import json

    stored = (table.schema.metadata or {}).get(LABELS_OF)
    if stored is None:
        raise DataError(f"{place.name} does not say which labels its log_probs are of; write it with this mint again.")
    try:
        names = [str(name) for name in json.loads(stored)]
        numbers = np.array(table["log_probs"].to_pylist(), np.float32).reshape(len(table), len(names))
    except (ValueError, TypeError) as error:  # not JSON, rows of other lengths, cells that are no numbers
        raise DataError(
            f"{place.name}: log_probs are not numbers of the labels that it names; write it again."
        ) from error
    return names, numbers


def _from_long(place: Path, ids: Sequence[str], table: pa.Table) -> tuple[list[str], list[str], NDArray[Any]]:
    """A row per sample and label, made a row per sample."""
    labels = [str(value) for value in table["label"].to_pylist()]
    scores = _numbers(place, "score", table["score"])
    rows = {name: row for row, name in enumerate(dict.fromkeys(ids))}
    columns = {name: column for column, name in enumerate(dict.fromkeys(labels))}
    twice = [pair for pair, count in Counter(zip(ids, labels, strict=True)).items() if count > 1]
    if twice:
        raise DataError(f"{place.name} has two scores for '{twice[0][0]}' and '{twice[0][1]}'; keep one.")
    numbers = np.full((len(rows), len(columns)), np.nan)
    numbers[[rows[name] for name in ids], [columns[name] for name in labels]] = scores
    return list(rows), list(columns), numbers


def _numbers(place: Path, name: str, column: pa.ChunkedArray) -> NDArray[Any]:
    import pyarrow as pa

    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise DataError(f"{place.name}: the column '{name}' holds something else than numbers; mend it.")
    return np.asarray(column.cast(pa.float64() if not pa.types.is_floating(column.type) else column.type), float)
