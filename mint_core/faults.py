"""What an error of the operating system or of a library means: no space, no permission, no memory."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

from mint_core.errors import CapacityError, MintError, StorageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_SAYS_FULL = (
    "no space left",
    "os error 28",
    "disk quota exceeded",
    "os error 122",
    "disk is full",
    "file write failed",  # torch.save
    "unexpected pos",  # torch.save, when it closes what it could not write
    "iostream error",  # torch.save into an open stream
)
_SAYS_NO_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "std::bad_alloc",
    "bad allocation",
    "alloc_failed",
    "failed to allocate",
    "os error 12)",
)


def no_space(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that a disk is full."""
    return any(_is_full(one) for one in _chain(error))


def no_memory(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that the machine's or the GPU's memory does not suffice."""
    return any(_is_out_of_memory(one) for one in _chain(error))


def explained(error: BaseException, place: Path | None = None, lower: str = "") -> MintError | None:
    """The error of ours that another one amounts to; None where it is something else, or says so itself.

    Args:
        error: Any exception.
        place: What was being written, or the folder of it.
        lower: What the user can lower when memory is short, as half a sentence with a verb.
    """
    if isinstance(error, StorageError | CapacityError):
        return None
    where = f"The disk that holds {place}" if place else "A disk"
    if no_space(error):
        return StorageError(f"{where} is full; free some space and give the same command again.")
    if no_memory(error):
        remedy = lower or "lower the batch size, close other programs, or use a machine with more memory"
        return CapacityError(f"The memory does not suffice; {remedy}, and give the same command again.")
    if isinstance(error, MintError):
        return None
    forbidden = next((one for one in _chain(error) if isinstance(one, OSError) and one.errno in _FORBIDDEN), None)
    if forbidden is not None:
        what = forbidden.filename or place or "A file"
        return StorageError(f"{what} cannot be written ({forbidden.strerror}); choose another folder with --out.")
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        seen.append(one)
        yield one
        one = one.__cause__ or one.__context__


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return _foreign(error) and any(words in str(error).lower() for words in _SAYS_FULL)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if type(error).__name__ in ("OutOfMemoryError", "ArrowMemoryError"):
        return True
    return _foreign(error) and any(words in str(error).lower() for words in _SAYS_NO_MEMORY)


def _foreign(error: BaseException) -> bool:
    """Libraries say it in words: torch and safetensors have no errno, sqlite3 and Arrow have errors of their own."""
    return isinstance(error, RuntimeError | OSError) or type(error).__module__.partition(".")[0] in (
        "safetensors_rust",
        "safetensors",
        "sqlite3",
        "pyarrow",
        "_sqlite3",
        "torch",
    )
