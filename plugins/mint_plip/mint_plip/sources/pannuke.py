"""Source `pannuke`: the three folds of PanNuke (Gamper et al. 2019, 2020), memory-mapped.

PanNuke publishes no patient or slide ids, so neither split can keep patients apart, and the source line says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mint_core.plugin import (
    ArrayFile,
    ArrayImage,
    ConfigError,
    DataError,
    Sample,
    Split,
    TaskData,
    checked,
    did_you_mean,
)
from mint_plip.sources.options import TissueOptions
from mint_plip.sources.tissues import TISSUE_LABELS

LICENCE = "CC BY-NC-SA 4.0 (PanNuke)"
PATCH = (256, 256, 3)
FOLDS = (1, 2, 3)
TRAIN_SHARE = 0.7
"""Share of the training patches in split=paper."""

_NUCLEI = slice(0, 5)  # five maps of nuclei by type; the sixth is the background
_CHUNK = 32  # lines of a mask read at once; most patches show a nucleus in the first chunk


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold: files that belong together row by row."""

    number: int
    images: ArrayFile
    tissues: tuple[str, ...]
    """Canonical name per row."""
    masks: Path

    def sample(self, row: int, split: Split) -> Sample:
        """One patch."""
        return Sample(f"fold{self.number}-{row:05d}", split, self.tissues[row], None, ArrayImage(self.images, row))


def recognises(place: Path, _: TissueOptions) -> bool:
    """Whether a fold lies there, in either layout."""
    return any(_fold_files(place, number) for number in FOLDS)


def load(options: TissueOptions) -> TaskData:
    """Reads the tissue of every patch; the pixels stay on disk until an image is opened.

    Args:
        options: `data` (the folder that holds the folds), `split`, `*_folds`, `sample_seed` and `duplicates` count.

    Raises:
        ConfigError: The folds of two splits overlap, or there is no such fold.
        DataError: A file is missing or has the wrong shape, a tissue is unknown, or an image lies in two splits.
    """
    root = options.data or Path()
    if options.split == "folds":
        samples, how = _by_folds(root, options)
    else:
        samples, how = _as_in_the_paper(root, options)
    result = checked(samples, TISSUE_LABELS, options)
    line = f"PanNuke at {root.name or root}, {how}; no patient ids, so patients are not kept apart{result.note}"
    return TaskData(result.samples, TISSUE_LABELS, line, licence=LICENCE)


def _by_folds(root: Path, options: TissueOptions) -> tuple[list[Sample], str]:
    wanted: dict[Split, tuple[int, ...]] = {
        "train": options.train_folds,
        "val": options.val_folds,
        "test": options.test_folds,
    }
    numbers = [number for folds in wanted.values() for number in folds]
    if len(set(numbers)) < len(numbers) or not set(numbers) <= set(FOLDS):
        raise ConfigError("train_folds, val_folds and test_folds must name the folds 1, 2, 3, each at most once.")
    samples = []
    for split, folds in wanted.items():
        for number in folds:
            fold = open_fold(root, number)
            samples += [fold.sample(row, split) for row in range(len(fold.tissues))]
    used = ", ".join(f"{split} = {'+'.join(map(str, folds))}" for split, folds in wanted.items() if folds)
    return samples, f"official folds ({used})"


def _as_in_the_paper(root: Path, options: TissueOptions) -> tuple[list[Sample], str]:
    """A seeded 70/30 over the patches that hold at least one nucleus: 5,436 and 2,330 of the 7,766 in three folds."""
    present = [number for number in FOLDS if _fold_files(root, number)]
    if not present:
        raise _missing(root, FOLDS[0])
    places = []
    for number in present:
        fold = open_fold(root, number)
        places += [(fold, int(row)) for row in np.flatnonzero(holds_nucleus(_masks(fold)))]
    in_train = np.zeros(len(places), dtype=bool)
    order = np.random.default_rng(options.sample_seed).permutation(len(places))
    in_train[order[: round(TRAIN_SHARE * len(places))]] = True
    samples = [
        fold.sample(row, "train" if train else "test") for (fold, row), train in zip(places, in_train, strict=True)
    ]
    return samples, (
        f"70/30 of the {len(places):,} patches with nuclei in fold {'+'.join(map(str, present))}, "
        f"seed {options.sample_seed}"
    )


def holds_nucleus(masks: NDArray[Any]) -> NDArray[np.bool_]:
    """Which patches show at least one nucleus.

    Reads a few lines of a mask at a time, and of most masks only the first: the file has about 8 GB per fold.

    Args:
        masks: Shape (n, height, width, 6), the last channel being the background.

    Returns:
        Shape (n,).
    """
    height = masks.shape[1]
    return np.array(
        [any(mask[top : top + _CHUNK, :, _NUCLEI].any() for top in range(0, height, _CHUNK)) for mask in masks],
        dtype=bool,
    )


@dataclass(frozen=True, slots=True)
class _Files:
    images: Path
    types: Path
    masks: Path


def _fold_files(root: Path, number: int) -> _Files | None:
    """Where the fold lies in either layout, or None."""
    original, flat = root / f"Fold {number}", root / f"fold{number}"
    images = original / "images" / f"fold{number}"
    masks = original / "masks" / f"fold{number}"
    for files in (
        _Files(images / "images.npy", images / "types.npy", masks / "masks.npy"),
        _Files(flat / "images.npy", flat / "types.npy", flat / "masks.npy"),
    ):
        if files.images.exists():
            return files
    return None


def _missing(root: Path, number: int) -> DataError:
    return DataError(
        f"PanNuke's fold {number} is not at {root}; the folder must hold "
        f"'Fold {number}/images/fold{number}/images.npy' or 'fold{number}/images.npy', as the unpacked download does."
    )


def open_fold(root: Path, number: int) -> Fold:
    """Maps one fold and reads its tissues.

    Args:
        root: The folder that holds the folds.
        number: 1, 2 or 3.

    Raises:
        DataError: A file is missing, damaged or of another shape, or a tissue is unknown.
    """
    files = _fold_files(root, number)
    if files is None:
        raise _missing(root, number)
    images = ArrayFile(files.images)
    if images.array.shape[1:] != PATCH or images.array.dtype.kind not in "fu":
        raise DataError(
            f"{files.images} holds {images.array.dtype} of shape {images.array.shape}, not patches of 256 x 256 x 3 "
            "(float or uint8, 0 to 255); fetch PanNuke's images.npy again."
        )
    _check_range(images)
    types = ArrayFile(files.types).array
    if types.shape != (len(images.array),) or types.dtype.kind not in "US":
        raise DataError(
            f"{files.types} holds {types.dtype} of shape {types.shape}, not one tissue name per patch "
            f"({len(images.array)} are in images.npy); both must come from the same fold."
        )
    return Fold(number, images, _tissues(types, files.types), files.masks)


def _check_range(images: ArrayFile) -> None:
    """Looks at five patches, since a copy scaled to 0..1 would otherwise be read as black."""
    rows = np.unique(np.linspace(0, len(images.array) - 1, 5).astype(int)) if len(images.array) else np.array([], int)
    highest = [float(images.array[row].max()) for row in rows]
    if images.array.dtype.kind == "f" and highest and max(highest) <= 1:
        raise DataError(f"{images.path} seems to be scaled to 0..1; mint needs 0..255: multiply it by 255.")
    for row in rows:
        if not (images.array[row].min() >= 0 and images.array[row].max() <= 255):
            raise DataError(f"{images.path}, row {row}: pixel values outside 0..255; fetch the file again.")


def _tissues(types: NDArray[Any], path: Path) -> tuple[str, ...]:
    names = types.astype(str)
    canonical = {name: TISSUE_LABELS.find(name) for name in np.unique(names).tolist()}
    for name, found in canonical.items():
        if found is None:
            row = int(np.flatnonzero(names == name)[0])
            raise DataError(f"{path}, row {row}: unknown tissue '{name}'{did_you_mean(name, TISSUE_LABELS.names)}.")
    return tuple(canonical[name] or "" for name in names.tolist())


def _masks(fold: Fold) -> NDArray[Any]:
    if not fold.masks.exists():
        raise DataError(
            f"split=paper leaves out patches without nuclei and needs {fold.masks}; fetch PanNuke's masks, or use "
            "--set task.split=folds."
        )
    masks = ArrayFile(fold.masks).array
    if masks.ndim != 4 or masks.shape[:3] != (len(fold.tissues), *PATCH[:2]) or masks.shape[3] != 6:
        raise DataError(
            f"{fold.masks} has shape {masks.shape}, not ({len(fold.tissues)}, 256, 256, 6); it must come from the same "
            "fold as images.npy."
        )
    return masks
