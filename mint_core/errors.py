"""The error tree. Every error says what is wrong, where, and what to do next, and carries the exit code of the CLI."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class MintError(Exception):
    """Base of all errors that mint raises on purpose.

    The message is one or two sentences for a person. It never quotes patients' text.
    """

    exit_code: ClassVar[int] = 1
    meaning: ClassVar[str] = "an unexpected error (a bug: please report it); `mint doctor`: it found a problem"
    """What the exit code says, for `mint --help` and the docs."""


class ConfigError(MintError):
    """A flag, a config key or a value is wrong, or a component name is unknown."""

    exit_code = 2
    meaning = "a flag, a config key, a value or a name is wrong"


class PluginError(MintError):
    """A plugin cannot be loaded, or two plugins claim one component name."""

    exit_code = 3
    meaning = "a plugin is broken, or two plugins claim one name"


class DataError(MintError):
    """The user's data cannot be read or contradict themselves."""

    exit_code = 4
    meaning = "the data cannot be read or contradict themselves"


class ContractError(MintError):
    """A component returned something that its interface forbids, or a plugin's raised what it should not."""

    exit_code = 5
    meaning = "a component failed or broke its contract; the message names its plugin"


class ModelError(MintError):
    """A student or a teacher cannot be found or loaded."""

    exit_code = 6
    meaning = "a student or teacher cannot be found or loaded"


class TrainingError(MintError):
    """Training cannot go on: a loss or a gradient is not finite."""

    exit_code = 7
    meaning = "training cannot go on: a loss or gradient is not finite"


class StorageError(MintError):
    """The run folder cannot be written: the disk is full, or another process holds it."""

    exit_code = 8
    meaning = "the run folder cannot be written (disk full, no permission, in use)"


class PartialError(MintError):
    """The work is done, but some samples failed and were skipped as the user asked."""

    exit_code = 9
    meaning = "`mint predict --on-error skip`: done, but some samples failed"


class CapacityError(MintError):
    """The memory of the machine or of the GPU does not suffice."""

    exit_code = 10
    meaning = "the memory of the machine or of the GPU does not suffice"


_TREE = (
    MintError,
    ConfigError,
    PluginError,
    DataError,
    ContractError,
    ModelError,
    TrainingError,
    StorageError,
    PartialError,
    CapacityError,
)
INTERRUPTED = 130


def error_of(exit_code: int) -> type[MintError]:
    """The kind of error that a command ended with; MintError itself where there is none of this code."""
    return next((error for error in _TREE if error.exit_code == exit_code), MintError)


EXIT_CODES: dict[int, str] = {
    0: "done",
    **{error.exit_code: error.meaning for error in _TREE},
    INTERRUPTED: "interrupted; the same command goes on from there",
}
"""What every exit code of the CLI says; there are no others."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The second half of an 'unknown name' message.

    Returns:
        `; did you mean 'x'?` where one is near, and the list of the names that exist.
    """
    names = sorted(known)
    near = nearest_name(name, names)
    hint = f"; did you mean '{near}'?" if near else ""
    return f"{hint} (available: {', '.join(names) or 'none'})"


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that a mistyped one stands for, whatever its case; None where none is near."""
    folded = {one.casefold(): one for one in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None
