"""Clauses: what the docstrings of the interfaces promise, by number, and how a check says that one is broken."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

from mint_core.interfaces import Component

Check = Callable[..., str | None]
"""Raises AssertionError where the clause is broken; returns None where it holds, or why it does not apply."""


def require(condition: object, clause: str, sentence: str) -> None:
    """Fails a check.

    Args:
        condition: What must be true.
        clause: Its clause, for example `teacher 2`.
        sentence: What is wrong instead.

    Raises:
        AssertionError: It is not true.
    """
    if not condition:
        raise AssertionError(f"{clause}: {sentence}")


def clauses_of(seam: type[Component]) -> dict[int, str]:  # type: ignore[type-arg]
    """The numbered clauses in the docstring of an interface."""
    _, _, section = inspect.cleandoc(seam.__doc__ or "").partition("Clauses:\n")
    numbered = re.findall(r"^ +(\d+)\. (.+(?:\n {7,}.+)*)", section.partition("\n\n")[0], flags=re.M)
    return {int(number): " ".join(text.split()) for number, text in numbered}


def number_of(check: Check) -> int:
    """The clause that a check is of, by its name: `teacher_2_distributions` is of the second."""
    return int(check.__name__.split("_")[1])
