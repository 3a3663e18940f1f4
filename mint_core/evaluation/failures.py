"""Why answers score 0: counted by reason, with examples that hold names of labels and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mint_core.types import VARIANTS

_EXAMPLES = 2
"""Per reason."""
_MANY = 0.1


def failures(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """How many answers score 0 for a reason that a metric can tell, by its key.

    Args:
        records: One variant's, see `mint_core.evaluation.evaluate.Record`.

    Returns:
        By key of a metric with such answers: `n` (answers), `failed`, `reasons` (count by reason, the most frequent
        first) and `examples` (up to two answers per reason; an unknown name is None).
    """
    n = 0
    reasons: dict[str, dict[str, int]] = {}
    examples: dict[str, dict[str, list[list[str | None]]]] = {}
    for record in records:
        n += 1
        for key, reason in record["why"].items():
            if reason is None:
                continue
            counts, shown = reasons.setdefault(key, {}), examples.setdefault(key, {}).setdefault(reason, [])
            counts[reason] = counts.get(reason, 0) + 1
            if len(shown) < _EXAMPLES and record["answer"] not in shown:
                shown.append(record["answer"])
    return {
        key: {
            "n": n,
            "failed": sum(counts.values()),
            "reasons": dict(sorted(counts.items(), key=lambda one: (-one[1], one[0]))),
            "examples": examples[key],
        }
        for key, counts in reasons.items()
    }


def many_fail(by_key: Mapping[str, Any]) -> bool:
    """Whether more than one answer in ten is not credited, so that a table alone says little; from `failures`."""
    return any(one["failed"] > _MANY * one["n"] for one in by_key.values())


def is_students(variant: str) -> bool:
    """Whether a student answered, to its own prompt: no teacher, no control, nothing combined."""
    one = VARIANTS[variant]
    return one.who in ("base", "aligned") and not one.shuffled and not one.fused
