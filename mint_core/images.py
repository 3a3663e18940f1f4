"""The one place that opens images: every file is suspect until its header has been read.

An image is named by its content, and is decoded only when it is needed. Formats are limited to plain raster formats:
Pillow would hand others (EPS, for example) to outside programs.
"""

from __future__ import annotations

import hashlib
import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mint_core.dicom import SUFFIXES as DICOM_SUFFIXES
from mint_core.dicom import is_dicom, read_dicom, size_of
from mint_core.errors import DataError
from mint_core.types import ImageRef

MAX_PIXELS = 50_000_000
"""Images with more pixels are refused from their header, unless the user raises the limit."""
PIXEL_CEILING = 89_478_485
"""The highest limit that can be set: above it Pillow itself suspects a decompression bomb."""
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")
SUFFIXES = frozenset(
    {
        ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2", ".j2k",
        ".j2c", ".jpc", ".jpf", ".jpx", ".pbm", ".pgm", ".ppm", ".pnm", *DICOM_SUFFIXES,
    }
)  # fmt: skip
"""How the names of image files end, in lower case."""
UNREAD_SUFFIXES = frozenset(
    {
        ".avif", ".heic", ".heif", ".jxl", ".jxr", ".svg", ".psd", ".tga", ".pcx", ".dib", ".qoi",
        ".raw", ".dng", ".cr2", ".nef", ".arw", ".exr", ".hdr", ".pfm", ".svs", ".ndpi", ".mrxs", ".scn", ".bif",
        ".vms", ".vmu", ".czi", ".lif", ".vsi", ".qptiff", ".ico", ".fits", ".sgi", ".xbm", ".xpm", ".eps",
    }
)  # fmt: skip
"""How the names of images end that mint does not read: whole slides, and formats that want other programs."""

_NPY_MAGIC = b"\x93NUMPY"
_BLOCK = 4096
_BLOCKS = 64
_DEPTHS = (8, 10, 12, 14)
"""Bits per value that cameras and scanners use in files of 16."""
_FEW_HIGH_BITS = 1 << _DEPTHS[-1] - 8
_TOLD: set[int] = set()
"""Depths that the user of this process was told of."""


class FileImage(ImageRef):
    """An image file.

    Its key is a hash of the file's bytes, read once when it is first asked for.

    Args:
        path: The file.
        key: The content hash where it is already known.
        max_pixels: Larger images are refused.
    """

    def __init__(self, path: Path | str, key: str | None = None, max_pixels: int = MAX_PIXELS) -> None:
        self._path = str(path)
        self._key = key
        self._max_pixels = max_pixels

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return Path(self._path)

    @property
    def max_pixels(self) -> int:
        """Larger images are refused."""
        return self._max_pixels

    @property
    def key(self) -> str:
        """A blake2b hash of the file.

        Raises:
            DataError: The file is missing or cannot be read.
        """
        if self._key is None:
            try:
                with self.path.open("rb") as file:
                    self._key = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            except OSError as error:
                raise _unreadable(self.path, error) from error
        return self._key

    @property
    def quick_key(self) -> str:
        """The size of the file.

        Raises:
            DataError: The file is missing.
        """
        try:
            return str(self.path.stat().st_size)
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def open(self) -> Image.Image:
        """See `open_image`."""
        return open_image(self.path, self._max_pixels)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FileImage):
            return NotImplemented
        return (self._path, self._max_pixels) == (other._path, other._max_pixels)

    def __hash__(self) -> int:
        return hash(self._path)

    def __repr__(self) -> str:
        return f"FileImage({self._path!r})"


class ArrayFile:
    """A `.npy` file that is memory-mapped, never unpickled, and never read as a whole.

    Crossing a process boundary costs a path: the copy maps the file anew.

    Raises:
        DataError: It is missing, cut short, no `.npy` file, or holds Python objects.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_file(path, "Array")
        self.fingerprint = self._fingerprint()
        self.array  # noqa: B018  a file that cannot be mapped is reported here, not in the middle of a run

    @cached_property
    def array(self) -> NDArray[Any]:
        """The mapped array, read-only."""
        with self.path.open("rb") as file:
            head = file.read(256)
        if not head.startswith(_NPY_MAGIC):
            raise DataError(f"{self.path} is not a .npy file; fetch it again or write it with numpy.save.")
        if b"'|O" in head:
            raise DataError(
                f"{self.path} holds Python objects, which mint never unpickles; if you trust the file, convert it once "
                "with numpy: `np.save(path, np.load(path, allow_pickle=True).astype(str))`."
            )
        try:
            array: NDArray[Any] = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{self.path} is damaged or cut short; fetch it again.") from error
        return array

    def _fingerprint(self) -> str:
        """A hash of size, time of change and blocks spread over the file; small files are hashed whole."""
        about = self.path.stat()
        digest = hashlib.blake2b(f"{about.st_size} {about.st_mtime_ns}".encode(), digest_size=16)
        with self.path.open("rb") as file:
            for start in range(0, about.st_size, max(_BLOCK, about.st_size // _BLOCKS)):
                file.seek(start)
                digest.update(file.read(_BLOCK))
        return digest.hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "fingerprint": self.fingerprint}


class ArrayImage(ImageRef):
    """One row of a memory-mapped array of patches.

    Its key is made of the file's fingerprint (size, time of change, sampled blocks) and the row, so that naming
    gigabytes of patches reads next to nothing.

    Args:
        file: Array of shape (n, height, width, 3), uint8 or float with values in 0..255.
        row: Which patch.
    """

    def __init__(self, file: ArrayFile, row: int) -> None:
        self._file = file
        self._row = row

    @property
    def key(self) -> str:
        """The file's fingerprint and the row."""
        return f"{self._file.fingerprint}-{self._row}"

    @property
    def quick_key(self) -> str:
        """A hash of the eight lines in the middle."""
        pixels = self._file.array[self._row]
        middle = len(pixels) // 2
        return _hash_pixels(pixels[max(middle - 4, 0) : middle + 4])

    @property
    def content_key(self) -> str:
        """A hash of all pixels."""
        return _hash_pixels(self._file.array[self._row])

    def open(self) -> Image.Image:
        """Returns the patch as RGB, floats rounded.

        Raises:
            DataError: A value lies outside 0..255.
        """
        pixels = self._file.array[self._row]
        if pixels.dtype != np.uint8:
            if not (pixels.min() >= 0 and pixels.max() <= 255):  # also true of NaN
                raise DataError(
                    f"{self._file.path}, row {self._row}: pixel values outside 0..255; fetch the file again."
                )
            pixels = np.rint(pixels).astype(np.uint8)
        return Image.fromarray(np.array(pixels))

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, ArrayImage) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"ArrayImage({str(self._file.path)!r}, row={self._row})"


class CellImage(ImageRef):
    """An image whose bytes stand in a cell of a table that is memory-mapped.

    Args:
        cells: The bytes by row, read when they are asked for.
        row: Which row.
        where: The row in words, for messages.
        max_pixels: Larger images are refused.
    """

    def __init__(self, cells: Cells, row: int, where: str, max_pixels: int = MAX_PIXELS) -> None:
        self.cells, self.row, self.max_pixels = cells, row, max_pixels
        self._where = where

    @property
    def key(self) -> str:
        """A blake2b hash of the bytes."""
        return hashlib.blake2b(self.cells[self.row], digest_size=16).hexdigest()

    @property
    def quick_key(self) -> str:
        """How many bytes there are."""
        return str(len(self.cells[self.row]))

    def open(self) -> Image.Image:
        """See `open_image`."""
        return open_image(self._where, self.max_pixels, self.cells[self.row])

    def check(self) -> None:
        """See `check_image_header`."""
        check_image_header(self._where, self.max_pixels, self.cells[self.row])

    def __repr__(self) -> str:
        return f"CellImage({self._where!r})"


class Cells(Protocol):
    """Images of a column, as bytes."""

    def __getitem__(self, row: int) -> bytes:
        """The bytes of one row."""


def open_image(path: Path | str, max_pixels: int = MAX_PIXELS, content: bytes | None = None) -> Image.Image:
    """Decodes an image file to RGB.

    Values of 16 bits are scaled to 8 by the bits that they use (8, 10, 12, 14 or 16; where not all, with a warning),
    transparency is laid over white, the EXIF orientation is applied, and of several frames or pages the first counts.
    DICOM files are read as `mint_core.dicom.read_dicom` says.

    Args:
        path: The file.
        max_pixels: Width x height that is still accepted; checked on the header, before anything is decoded.
        content: The bytes, where they lie in no file of their own; `path` then only names them.

    Returns:
        An RGB image of its own, not tied to the file.

    Raises:
        DataError: The file is missing, empty, not an image, too large, truncated or damaged.
    """
    path = Path(path)
    if _is_dicom(path, max_pixels, content):
        return read_dicom(path, content).convert("RGB")
    with _opened(path, max_pixels, content) as image:
        try:
            deep = _is_deep_colour(image)
            image.load()
            dark = deep and int(np.asarray(image)[..., :3].max(initial=0)) < _FEW_HIGH_BITS
            decoded = _deep_colours(image, path, content) if dark else image
            return _to_rgb(ImageOps.exif_transpose(decoded), image.format, path)
        except (DataError, MemoryError):
            raise
        except Exception as error:  # Pillow's decoders raise a dozen types on damaged files
            raise _damaged(path, error) from error


def check_image_header(path: Path | str, max_pixels: int = MAX_PIXELS, content: bytes | None = None) -> None:
    """Makes sure, without decoding, that a file is an image of acceptable size; arguments as for `open_image`.

    A file that passes may still be truncated: only decoding shows that.

    Raises:
        DataError: The file is missing, empty, not an image or too large.
    """
    if not _is_dicom(Path(path), max_pixels, content):
        with _opened(Path(path), max_pixels, content):
            pass


def _is_dicom(path: Path, max_pixels: int, content: bytes | None) -> bool:
    """Whether it is a DICOM file, whose header is then accepted."""
    if content is None:
        _check_file(path, "Image")
        if path.suffix.lower() in SUFFIXES - DICOM_SUFFIXES:
            return False
    try:
        found = is_dicom(path, content)
    except OSError as error:
        raise _unreadable(path, error) from error
    if found:
        size = size_of(path, content)
        if size.width * size.height > max_pixels:
            raise _too_large(path, f"{size.width} x {size.height}", max_pixels)
    return found


@contextmanager
def _opened(path: Path, max_pixels: int, content: bytes | None = None) -> Iterator[Image.Image]:
    """The image with its header read and its size accepted."""
    try:
        image = Image.open(_source(path, content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, f"more than {PIXEL_CEILING:,}", max_pixels) from error
    except UnidentifiedImageError as error:
        raise _not_an_image(path, content) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    except MemoryError:
        raise
    except Exception as error:  # see open_image
        raise _damaged(path, error) from error
    with image:
        if image.width * image.height > max_pixels:
            raise _too_large(path, f"{image.width} x {image.height}", max_pixels)
        yield image


def _source(path: Path, content: bytes | None) -> Path | io.BytesIO:
    return path if content is None else io.BytesIO(content)


def _check_file(path: Path, what: str) -> None:
    try:
        about = path.stat()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(about.st_mode):  # a pipe would block for ever
        raise DataError(f"{what} {path} is not a file; name a file instead.")
    if about.st_size == 0:
        raise DataError(f"{what} {path} is empty; fetch it again or take it out of the data.")


def _to_rgb(image: Image.Image, file_format: str | None, path: Path) -> Image.Image:
    mode = image.mode
    if mode == "F" or (mode == "I" and file_format not in ("PNG", "PPM")):
        raise DataError(f"Image {path} has 32-bit pixels of unknown range; save it with 8 bits per channel.")
    if mode.startswith("I"):
        return Image.fromarray(_to_8_bits(np.asarray(image).astype(np.int64), path)).convert("RGB")
    try:
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
        return image.convert("RGB")
    except ValueError as error:
        raise DataError(f"Image {path} has colours that mint cannot convert (mode {mode}); save it as RGB.") from error


def _to_8_bits(values: NDArray[np.int64], path: Path) -> NDArray[np.uint8]:
    """Values of a file of 16 bits as 8 bits; a camera of 12 bits leaves the upper four empty."""
    most = int(values.max(initial=0))
    bits = next((bits for bits in _DEPTHS if most < 1 << bits), 16)
    if bits == 16 or most == 0:
        whole: NDArray[np.uint8] = np.clip((values + 128) // 257, 0, 255).astype(np.uint8)
        return whole
    if bits not in _TOLD:
        _TOLD.add(bits)
        warnings.warn(
            f"Images use {bits} of their 16 bits, and are scaled by that range, {path} for one; save them with 8 bits "
            "if that is not what they hold.",
            stacklevel=2,
        )
    scaled: NDArray[np.uint8] = np.clip(np.rint(values * (255 / ((1 << bits) - 1))), 0, 255).astype(np.uint8)
    return scaled


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether Pillow, which has no colours of 16 bits, is about to keep the upper 8 of each."""
    tiles: Any = getattr(image, "tile", ())
    return image.mode in ("RGB", "RGBA") and len(tiles) > 0 and ";16" in _raw_mode(tiles[0])


def _raw_mode(tile: Any) -> str:
    """How Pillow will read the pixels: `RGB;16B` is big-endian."""
    first = tile[3] if isinstance(tile[3], str) else (tile[3] or ("",))[0]
    return str(first)


def _deep_colours(upper: Image.Image, path: Path, content: bytes | None) -> Image.Image:
    """The same image by the bits that it uses: the lower byte of each value is read by the other byte order."""
    lower: Any
    with Image.open(_source(path, content), formats=FORMATS) as lower:
        raw = _raw_mode(lower.tile[0])
        swapped = raw[:-1] + ("B" if raw.endswith(("L", "N")) else "L")
        lower.tile = [
            tile._replace(args=swapped if isinstance(tile.args, str) else (swapped, *tile.args[1:]))
            for tile in lower.tile
        ]
        lower.load()
        values = np.asarray(upper).astype(np.int64) * 256 + np.asarray(lower)
        colours = _to_8_bits(values[..., :3], path)
        if upper.mode == "RGBA":  # opaque may be 65535, whatever the colours use
            colours = np.dstack([colours, _to_8_bits(values[..., 3], path)])
        scaled = Image.fromarray(colours)
        scaled.info, scaled.format = dict(upper.info), upper.format
        return scaled


def _not_an_image(path: Path, content: bytes | None) -> DataError:
    if content is None:
        with path.open("rb") as file:
            content = file.read(64)
    head = content[:64].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return DataError(f"Image {path} is a web page, not an image: a download failed; fetch it again.")
    if head.startswith(b"version https://git-lfs"):
        return DataError(f"Image {path} is a Git LFS pointer, not an image; run `git lfs pull`.")
    return DataError(
        f"Image {path} is not an image that mint reads ({', '.join(FORMATS)}); convert it or take it out of the data."
    )


def _too_large(path: Path, size: str, max_pixels: int) -> DataError:
    return DataError(
        f"Image {path} declares {size} pixels, more than the limit of {max_pixels:,}; cut it into patches, or raise "
        f"task.max_pixels (at most {PIXEL_CEILING:,}) if you trust the file."
    )


def _damaged(path: Path, error: Exception) -> DataError:
    state = "truncated" if "truncated" in str(error).lower() else "damaged"
    return DataError(f"Image {path} is {state} and cannot be decoded; fetch it again or take it out of the data.")


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return DataError(f"File {path} does not exist; check the path.")
    if isinstance(error, PermissionError):
        return DataError(f"File {path} may not be read by this user; change its permissions.")
    reason = (error.strerror if isinstance(error, OSError) else None) or "bad name or damaged content"
    return DataError(f"File {path} cannot be read ({reason}); fetch it again or check the disk.")


def _hash_pixels(pixels: NDArray[Any]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=16).hexdigest()
