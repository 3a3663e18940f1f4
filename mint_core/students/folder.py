"""A student's folder, judged before a library reads it: what is damaged or without end is one sentence, and no pickle.

A config can ask for any size, and a library makes layers and tensors on its word. Here the numbers of layers are
bounded first, and then the sizes by what the weights beside the config hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mint_core.documents import parse_json
from mint_core.errors import ModelError
from mint_core.files import check_regular, read_bytes, read_json

_LARGEST_JSON = 64 * 2**20
"""Bytes of a config or an index."""
_SMALL_JSON_BYTES = 4 * 2**20
"""Larger ones are vocabularies, which take a while to read."""
_COUNTS = re.compile(
    r"(n|num)_\w*(layers?|blocks?|heads?|experts?)|n_layer|n_head|\w*_layers|\w*_heads|depth"
    r"|(block|head|expert)_\w*count\w*"  # in a GGUF file
)
"""Keys of a config that say how often something is made."""
_MOST = 4096
"""Layers, heads or experts; the largest published students have a tenth of that."""
_LARGEST_NUMBER = 2**40
_ROOM = 4
"""How many times the numbers of the weight files a student may hold: shared and quantised weights are stored once."""
_BUFFERS = 2**28
"""Numbers that a student may hold beside its weights (masks, positions)."""


def check_folder(role: str, source: str) -> None:
    """Refuses a local model whose files have no end or no bottom, before a library reads them.

    Args:
        role: For messages, for example `student`.
        source: Folder or Hugging Face id; an id is not looked at.

    Raises:
        ModelError: A file is a pipe, a device or a socket, or a JSON file is nested too deep or holds absurd numbers.
    """
    folder = Path(source)
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir()):
        if not file.exists() or file.is_dir():
            continue
        try:
            check_regular(file)
            if file.suffix == ".json" and file.stat().st_size <= _SMALL_JSON_BYTES:
                parse_json(read_bytes(file))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no JSON that can be read"
            raise ModelError(
                f"The {role} in {source} cannot be loaded ({file.name}: {reason}); check that the folder holds a "
                "complete model."
            ) from error


def check_config(folder: Path) -> None:
    """Refuses configs that are no JSON mappings, or that ask for more layers or larger numbers than there can be.

    Args:
        folder: The student's folder; one without config.json is left to the library, which says so.

    Raises:
        ModelError: One does.
    """
    for name in ("generation_config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            _mapping(folder / name)
    file = folder / "config.json"
    for key, value in _numbers(_mapping(file)) if file.is_file() else ():
        if is_absurd(key, value):
            raise ModelError(
                f"The student in {folder} is damaged: `{key}` in config.json is larger than any student has; copy the "
                "folder again."
            )


def is_absurd(key: str, value: float) -> bool:
    """Whether a config asks for more layers, or for a larger number, than any student has.

    Args:
        key: As in config.json, or the last part of a key of a GGUF file.
        value: What it asks for; infinity says that something has no limit.
    """
    endless = isinstance(value, float) and not math.isfinite(value)
    return not endless and abs(value) > (_MOST if _COUNTS.fullmatch(key) else _LARGEST_NUMBER)


def check_weights(folder: Path) -> int:
    """How many numbers the weight files of a folder hold; 0 where the library looks for them elsewhere.

    Args:
        folder: The student's folder.

    Raises:
        ModelError: They are pickles, a header is damaged, or an index names a file that is not in the folder.
    """
    index = folder / "model.safetensors.index.json"
    whole = folder / "model.safetensors"
    if whole.is_file():
        files = [whole]
    elif index.is_file():
        files = _indexed(folder, index)
    elif any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"The student in {folder} holds its weights as pickles, which mint does not read; save it as safetensors "
            "(`save_pretrained` does)."
        )
    else:
        return 0
    return sum(_held(file) for file in files)


def check_size(source: str, model: Any, held: int) -> None:
    """Refuses a model that would hold far more than its files.

    Args:
        source: For the message.
        model: Without weights, on the meta device.
        held: See `check_weights`.

    Raises:
        ModelError: It would.
    """
    weights = sum(parameter.numel() for parameter in model.parameters())
    buffers = sum(buffer.numel() for buffer in model.buffers())
    if weights > _ROOM * held + 2**20 or buffers > _ROOM * held + _BUFFERS:
        raise ModelError(
            f"The student in {source} is damaged: its config.json asks for {weights + buffers:.3g} numbers, and its "
            f"weights hold {held:.3g}; copy the folder again."
        )


def _mapping(file: Path) -> Mapping[str, Any]:
    try:
        if file.stat().st_size > _LARGEST_JSON:
            raise ValueError
        content = read_json(file)
    except (OSError, ValueError, RecursionError):
        raise ModelError(f"The student's {file} cannot be read; copy the folder again.") from None
    if not isinstance(content, dict):
        raise ModelError(f"The student's {file} holds no mapping; copy the folder again.")
    return content


def _numbers(content: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number in nested data, with the key that it stands under."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _numbers(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from _numbers(value, key)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield key, content


def _indexed(folder: Path, index: Path) -> list[Path]:
    names = _mapping(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(f"The student's {index} names no weight files; copy the folder again.")
    files = []
    for name in dict.fromkeys(names.values()):
        if Path(name).name != name or name in ("", ".", "..") or "\\" in name:
            raise ModelError(f"The student's {index} names a file outside its folder; copy the folder again.")
        if not (folder / name).is_file():
            raise ModelError(f"The student in {folder} lacks {name}, which its index names; copy the folder again.")
        files.append(folder / name)
    return files


def _held(file: Path) -> int:
    """Numbers in a safetensors file; whole numbers may be packed, eight and more in one."""
    from safetensors import SafetensorError, safe_open

    total = 0
    try:
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 - no mapping
                part = opened.get_slice(key)
                total += math.prod(part.get_shape()) * (1 if part.get_dtype().startswith(("F", "BF")) else 16)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"The student's {file} is damaged; copy the folder again.") from error
    return total
