"""The error tree. Every error says what is wrong, where, and what to do next, and carries the exit code of the CLI."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MintError(Exception):
    """Base of all errors that mint raises on purpose.

    The message is one or two sentences for a person. It never quotes patients' text.
    """

    exit_code = 1


class ConfigError(MintError):
    """A flag, a config key or a value is wrong, or a component name is unknown."""

    exit_code = 2


class PluginError(MintError):
    """A plugin cannot be loaded, or two plugins claim one component name."""

    exit_code = 3


class DataError(MintError):
    """The user's data cannot be read or contradict themselves."""

    exit_code = 4


class ContractError(MintError):
    """A component returned something that its interface forbids."""

    exit_code = 5


class ModelError(MintError):
    """A student or a teacher cannot be found or loaded."""

    exit_code = 6


class TrainingError(MintError):
    """Training cannot go on: a loss or a gradient is not finite."""

    exit_code = 7


class StorageError(MintError):
    """The run folder cannot be written: the disk is full, or another process holds it."""

    exit_code = 8


class PartialError(MintError):
    """The work is done, but some samples failed and were skipped as the user asked."""

    exit_code = 9


class CapacityError(MintError):
    """The memory of the machine or of the GPU does not suffice."""

    exit_code = 10


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The second half of an 'unknown name' message.

    Returns:
        `; did you mean 'x'?` where one is near, and the list of the names that exist.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"{hint} (available: {', '.join(names) or 'none'})"
