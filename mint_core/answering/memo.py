"""What was worked out for a model, kept for as long as the model lives: callers may come batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")
_KNOWN: WeakKeyDictionary[Any, dict[Hashable, Any]] = WeakKeyDictionary()


def once(model: Any, key: Hashable, make: Callable[[], T]) -> T:
    """What `make` returned when it was first asked for.

    Args:
        model: The model that it belongs to.
        key: What it depends on beside the model.
        make: Works it out; what it returns must not refer to the model, which would then live for ever.
    """
    found = _KNOWN.setdefault(model, {})
    if key not in found:
        found[key] = make()
    known: T = found[key]
    return known
