"""The one file that talks to pydicom: radiographs and other images as scanners and archives write them.

Only what an image is made of is read. What a header says of the patient is neither read, nor shown, nor kept.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mint_core.errors import DataError

SUFFIXES = frozenset({".dcm", ".dicom"})
_MAGIC_AT, _MAGIC = 128, b"DICM"


class Size(NamedTuple):
    """Of an image, in pixels."""

    width: int
    height: int


def is_dicom(path: Path, content: bytes | None = None) -> bool:
    """Whether a file, or its bytes, call themselves DICOM, by the ending or by what stands behind the preamble."""
    if content is not None:
        return content[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC
    if path.suffix.lower() in SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC


def size_of(path: Path, content: bytes | None = None) -> Size:
    """Width and height as the header names them; no pixel is read.

    Raises:
        DataError: pydicom is not installed, or the file holds no image.
    """
    with _told(path):
        return _size(path, _header(path, content, stop_before_pixels=True))


def read_dicom(path: Path, content: bytes | None = None) -> Image.Image:
    """Decodes the first frame of a file, or of its bytes, to 8 bits, grey or RGB.

    Grey values go through the modality's rescaling, then through the first window of the file: x becomes
    ((x - (c - 0.5)) / (w - 1) + 0.5) * 255 between its ends, 0 below and 255 above (DICOM PS3.3, C.11.2.1.2). Without a
    window, its look-up table (VOI LUT) counts, and without both the smallest value becomes 0 and the largest 255.
    MONOCHROME1, in which large values are dark, is turned round.

    Raises:
        DataError: pydicom is not installed, the file holds no image, or its compression needs another package.
    """
    with _told(path):
        from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

        header = _header(path, content, stop_before_pixels=False)
        _size(path, header)
        pixels = pixel_array(header, index=0 if int(header.get("NumberOfFrames") or 1) > 1 else None)
        if pixels.ndim == 3:
            return Image.fromarray(_stretched(pixels) if pixels.dtype != np.uint8 else pixels)
        values = np.asarray(apply_modality_lut(pixels, header), np.float64)
        centre, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
        if centre is not None and width is not None and width >= 1:
            grey = _windowed(values, centre, width)
        else:
            has_table = "VOILUTSequence" in header
            grey = _stretched(
                np.asarray(apply_voi_lut(np.rint(values).astype(np.int64), header)) if has_table else values
            )
        if header.get("PhotometricInterpretation") == "MONOCHROME1":
            grey = 255 - grey
        return Image.fromarray(grey)


def _header(path: Path, content: bytes | None, *, stop_before_pixels: bool) -> Any:
    import pydicom

    source = path if content is None else io.BytesIO(content)
    return pydicom.dcmread(source, stop_before_pixels=stop_before_pixels, force=path.suffix.lower() in SUFFIXES)


def _size(path: Path, header: Any) -> Size:
    columns, rows = header.get("Columns"), header.get("Rows")
    if not columns or not rows:
        raise DataError(f"Image {path} is a DICOM file without an image; take it out of the data.")
    return Size(int(columns), int(rows))


def _first(value: Any) -> float | None:
    """The first of several windows, or the only one."""
    if value is None or value == "":
        return None
    try:
        return float(value)
    except TypeError:
        return float(value[0])


def _windowed(values: NDArray[np.float64], centre: float, width: float) -> NDArray[np.uint8]:
    scaled = ((values - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5) * 255
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def _stretched(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))
    return np.rint((values.astype(np.float64) - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What pydicom raises becomes one sentence; what it warns of may quote the header, and is not shown."""
    if find_spec("pydicom") is None:
        raise DataError(f"Image {path} is a DICOM file, which needs pydicom; pip install 'mint-core[dicom]'.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DataError, MemoryError):
        raise
    except RuntimeError as error:
        raise DataError(
            f"Image {path} is compressed in a way that needs another package; pip install pylibjpeg pylibjpeg-libjpeg "
            "pylibjpeg-openjpeg, or store it uncompressed."
        ) from error
    except Exception as error:  # pydicom raises a dozen types on damaged files
        raise DataError(
            f"Image {path} is damaged and cannot be decoded; fetch it again or take it out of the data."
        ) from error
