"""What must be said beside every number of a run that says nothing about patients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHORT = {"simulated": "SIMULATED data", "quick": "QUICK run"}
_ADAPTER = {
    "simulated": "trained on simulated data: it knows nothing about patients",
    "quick": "made by a quick run: it was trained on a handful of samples, and knows next to nothing",
}


def in_short(content: Mapping[str, Any], then: str = ", ") -> str:
    """Before the title of a table or figure, each with `then` behind it; empty where nothing need be said.

    Args:
        content: metrics.json, compare.json or sweep.json.
        then: What stands behind each.
    """
    return "".join(f"{said}{then}" for key, said in _SHORT.items() if content.get(key))


def of_adapter(*, simulated: bool, quick: bool) -> list[str]:
    """What must be known of an adapter before its answers are read, as ends of the sentence `The adapter was …`."""
    return [_ADAPTER[key] for key, holds in (("simulated", simulated), ("quick", quick)) if holds]
