"""A student that is one GGUF file: its header, judged before a library reads it, and what it says of its origin.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. A header makes promises (how many values, how
large the tensors); here each is held against the bytes that are there, and nothing is allocated on its word.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mint_core.characters import visible
from mint_core.errors import ModelError
from mint_core.files import check_regular
from mint_core.students.folder import is_absurd

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Kinds of values by their number, as `struct` writes them; 8 is a text, 9 an array."""
_TEXT, _ARRAY = 8, 9
_MOST_TEXTS = 10_000_000
"""Entries of an array of texts; the largest vocabularies have a fiftieth of that."""
_LONGEST = 200
"""Characters of what a file says of itself that are repeated."""
_ORIGIN = {
    "general.name": "name",
    "general.organization": "organisation",
    "general.source.url": "source",
    "general.source.huggingface.repository": "source",
    "general.base_model.0.repo_url": "base_model",
    "general.base_model.0.name": "base_model",
    "general.quantized_by": "quantised_by",
    "general.license": "licence",
}
"""Keys of a header that tell where the weights come from; of two that say the same the first counts."""


class _Damaged(ValueError):
    """A header that contradicts itself or the file's size."""


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What the header of a GGUF file says."""

    path: Path
    architecture: str
    origin: Mapping[str, str]
    """What the file says of its origin: name, organisation, source, base_model, quantised_by, licence."""
    tensors: Mapping[str, int]
    """How many tensors are stored in which kind, for example {"Q4_1": 210, "F32": 61}; the most weights first."""
    numbers: int
    """Weights in all."""

    def record(self) -> dict[str, Any]:
        """As run.json and mint.json say it."""
        return {
            "file": self.path.name,
            "architecture": self.architecture,
            "quantised_from": dict(self.origin),
            "stored_as": dict(self.tensors),
        }

    def describe(self, dtype: str) -> str:
        """One sentence on origin and quantisation.

        Args:
            dtype: The run's precision, to which the weights are unpacked.
        """
        told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in self.origin.items())
        kinds = ", ".join(f"{count} tensors {kind}" for kind, count in self.tensors.items())
        return (
            f"{self.path.name}, a GGUF file of the architecture {self.architecture} ({told or 'of unknown origin'}); "
            f"stored as {kinds}; unpacked to {dtype}, which brings back nothing that quantisation took."
        )


def find_gguf(source: str) -> GgufFile | None:
    """The GGUF file that a student is: a file, or the only one in a folder without safetensors.

    Args:
        source: File, folder or Hugging Face id.

    Returns:
        Its header; None for an ordinary folder, an id, or where there is nothing.

    Raises:
        ModelError: It is no GGUF file, it is damaged or one of several parts, or a folder holds several.
    """
    path = Path(source)
    if path.is_dir():
        found = sorted(path.glob("*.gguf"))
        if not found or any(path.glob("*.safetensors")):
            return None
        if len(found) > 1:
            names = ", ".join(visible(one.name) for one in found[:5])
            raise ModelError(f"{source} holds {len(found)} GGUF files ({names}); name one of them with --student.")
        path = found[0]
    elif not path.exists():
        return None
    try:
        check_regular(path)
    except OSError as error:
        raise ModelError(f"The student {path} cannot be read ({error.strerror}); check the path.") from None
    stat = path.stat()
    return _read(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _read(path: Path, size: int, changed: int) -> GgufFile:
    """Reads a header once as long as the file does not change."""
    with path.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise ModelError(
                f"The student {path} is no GGUF file; give a .gguf file, a folder with safetensors, or a hub id."
            )
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                return _Header(content).read(path)
            except (_Damaged, struct.error, UnicodeDecodeError, OverflowError) as error:
                reason = str(error) if isinstance(error, _Damaged) else "its header is damaged or cut short"
                raise ModelError(f"The student {path} cannot be loaded: {reason}; copy it again.") from None


class _Header:
    """A position in a file that is read from front to back.

    Args:
        content: The whole file; only the header is looked at.
    """

    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.place = content, len(_MAGIC)

    def read(self, path: Path) -> GgufFile:
        """The header.

        Raises:
            ModelError: The file is one of several parts, or its tensors are stored in an unknown kind.
            _Damaged: It contradicts itself.
            struct.error: It is cut short.
        """
        version, tensors, pairs = self._take("<IQQ")
        if version not in _VERSIONS:
            raise _Damaged(f"it is of GGUF version {version}, and mint reads {_VERSIONS[0]} and {_VERSIONS[1]}")
        values: dict[str, Any] = {}
        for _ in range(pairs):
            key = self._text()
            values[key] = self._value(self._take("<I")[0])
        _check(values)
        if values.get("split.count", 0) > 1:
            raise ModelError(
                f"The student {path} is one of {values['split.count']} parts; join them first, with "
                "`llama-gguf-split --merge`, and name the whole."
            )
        stored, weights = self._tensors(path, tensors, values.get("general.alignment", 32))
        origin: dict[str, str] = {}
        for key, name in _ORIGIN.items():
            if isinstance(values.get(key), str) and values[key].strip():
                origin.setdefault(name, visible(values[key].strip()[:_LONGEST]))
        kinds = {kind: stored[kind] for kind, _ in weights.most_common()}
        return GgufFile(path, values["general.architecture"], origin, kinds, weights.total())

    def _tensors(self, path: Path, count: int, alignment: Any) -> tuple[Counter[str], Counter[str]]:
        """Tensors and weights by kind; that all of them lie within the file is checked."""
        sizes = _block_sizes(path)
        stored, weights = Counter[str](), Counter[str]()
        end = 0
        for _ in range(count):
            self._text()
            (dimensions,) = self._take("<I")
            if dimensions > 8:
                raise _Damaged("its header is damaged")
            numbers = math.prod(self._take(f"<{dimensions}Q"))
            kind, offset = self._take("<IQ")
            if kind not in sizes:
                raise ModelError(f"The student {path} holds tensors of a kind (number {kind}) that nobody here reads.")
            name, block, nbytes = sizes[kind]
            stored[name] += 1
            weights[name] += numbers
            end = max(end, offset + -(-numbers // block) * nbytes)
        if not isinstance(alignment, int) or not 0 < alignment <= 2**20:
            raise _Damaged("its header is damaged")
        end += -(-self.place // alignment) * alignment
        if end > len(self.content):
            raise _Damaged(f"it is cut short, {len(self.content):,} of {end:,} bytes")
        if not count:
            raise _Damaged("it holds no weights")
        return stored, weights

    def _value(self, kind: int) -> Any:
        """One value; of an array only its place is passed over."""
        if kind in _NUMBERS:
            return self._take(f"<{_NUMBERS[kind]}")[0]
        if kind == _TEXT:
            return self._text()
        if kind != _ARRAY:
            raise _Damaged("its header is damaged")
        inner, count = self._take("<IQ")
        if inner in _NUMBERS:
            self._skip(count * struct.calcsize(f"<{_NUMBERS[inner]}"))
        elif inner == _TEXT and count <= _MOST_TEXTS:
            for _ in range(count):
                self._skip(*self._take("<Q"))
        else:
            raise _Damaged("its header is damaged")
        return None

    def _take(self, form: str) -> tuple[Any, ...]:
        taken = struct.unpack_from(form, self.content, self.place)
        self.place += struct.calcsize(form)
        return taken

    def _text(self) -> str:
        (length,) = self._take("<Q")
        begin = self.place
        self._skip(length)
        return self.content[begin : self.place].decode()

    def _skip(self, length: int) -> None:
        self.place += length
        if self.place > len(self.content):
            raise _Damaged("it is cut short within its header")


def _check(values: Mapping[str, Any]) -> None:
    """Refuses a header without an architecture, or with more layers or larger numbers than there can be."""
    if not isinstance(values.get("general.architecture"), str):
        raise _Damaged("its header names no architecture")
    for key, value in values.items():
        if isinstance(value, int | float) and is_absurd(key.rpartition(".")[2], value):
            raise _Damaged(f"`{visible(key)}` in its header is larger than any student has")
    if not isinstance(values.get("split.count", 0), int):
        raise _Damaged("its header is damaged")


def _block_sizes(path: Path) -> dict[int, tuple[str, int, int]]:
    """Name, weights per block and bytes per block of every kind of tensor, by its number.

    Raises:
        ModelError: The package that knows them, and with which transformers reads the file, is not installed.
    """
    try:
        from gguf import GGML_QUANT_SIZES
    except ImportError:
        raise ModelError(
            f"The student {path} needs the package gguf, which is not installed here; `pip install 'mint-core[gguf]'`."
        ) from None
    return {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
