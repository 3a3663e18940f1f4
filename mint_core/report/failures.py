"""What a reader should know where many answers score 0: why, what they are worth without the rule, what to try."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mint_core.characters import visible
from mint_core.evaluation.failures import many_fail
from mint_core.evaluation.statistics import told
from mint_core.types import VARIANTS


def failures_told(metrics: Mapping[str, Any]) -> list[str]:
    """Sentences for a student of whom more than one answer in ten is not credited, and the next step.

    Where one was aligned the base student is not told of: that it knows no labels is why it is aligned.

    Args:
        metrics: Content of metrics.json.
    """
    lines = []
    aligned = any(VARIANTS[variant].who == "aligned" for variant in metrics["failures"])
    for variant, by_key in metrics["failures"].items():
        if many_fail(by_key) and not (aligned and VARIANTS[variant].who == "base"):
            lines += sentences(VARIANTS[variant].title, by_key, metrics["titles"], metrics["ungated"][variant])
    return lines + ([next_step(metrics["decode"])] if lines else [])


def sentences(
    who: str, by_key: Mapping[str, Any], titles: Mapping[str, str], ungated: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Why the answers of one student are not credited, and what they are worth without that rule.

    Args:
        who: The row's name.
        by_key: From `mint_core.evaluation.failures.failures`.
        titles: Of the metrics, by key.
        ungated: Estimates by key.
    """
    lines = []
    for key, one in by_key.items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in one["reasons"].items())
        shown = "; ".join(map(_example, next(iter(one["examples"].values()))))
        example = f" (for example {shown})" if shown else ""
        lines.append(f"{who}: {one['failed']} of {one['n']} answers fail {titles[key]}: {reasons}{example}.")
    if ungated:
        values = ", ".join(f"{titles[key]} {told(one)}" for key, one in ungated.items())
        lines.append(f"{who}, without that rule: {values}.")
    return [visible(sentence) for sentence in lines]


def _example(names: list[str | None]) -> str:
    """Labels as they were recognised; what the student made up is not shown, for it may be a patient's words."""
    return " / ".join(name or "an unknown name" for name in names) or "nothing"


def next_step(decode: str) -> str:
    """What to try where a student does not write lists of known labels."""
    if decode == "free":
        return (
            "Next step: --decode constrained (only lists of known labels can be written) or --decode score (labels are "
            "ranked by likelihood); or train longer (aligner.epochs), ask for single names (--strategy pairwise), or "
            "take a larger student."
        )
    return "Next step: train longer (aligner.epochs), or take a larger student."
