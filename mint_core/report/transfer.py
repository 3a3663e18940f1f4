"""What arrived of the teacher's knowledge, in sentences: transfer efficiency with its parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mint_core.evaluation.statistics import told_plain

_WHAT = {
    "preferences": "the preferences carry {} of what the teacher knows beyond the student's modality",
    "student": "alignment gave the student {} of what it lacked before",
}
_NOTHING = {
    "preferences": "what the teacher knows beyond the student's modality",
    "student": "what the student lacked before alignment",
}


def transfer_told(metrics: Mapping[str, Any]) -> list[str]:
    """Sentences on the transfer efficiency eta; none where it was not estimated.

    Args:
        metrics: Content of metrics.json.
    """
    found = metrics.get("transfer")
    if not found:
        return []
    entropies = ", ".join(f"{name} {value:.2f}" for name, value in found["cross_entropy"].items())
    lines = [_sentence(name, found[name], what) for name, what in _WHAT.items() if name in found]
    basis = f"Cross-entropies in nats on {found['n']} samples in {found['clusters']} groups, cross-fitted: {entropies}."
    return [*lines, basis]


def _sentence(name: str, one: Mapping[str, Any], what: str) -> str:
    eta = one["eta"]
    if eta is None:
        return (
            f"Transfer efficiency ({name}): not estimated, since {_NOTHING[name]} is not above chance "
            f"({told_plain(one['there'], 3)} nats)."
        )
    outside = (
        " Estimate or interval leave [0, 1], where eta itself lies: so few samples say little of it."
        if one["outside"]
        else ""
    )
    share = f"eta = {told_plain(eta, 2)}"
    parts = f"{told_plain(one['gained'], 3)} of {told_plain(one['there'], 3)} nats"
    return f"Transfer efficiency ({name}): {what.format(share)} ({parts}).{outside}"
