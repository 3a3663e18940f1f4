"""What was tried and what came of it, as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Trial:
    """One thing that was tried.

    Attributes:
        kind: The row of the table.
        case: What exactly, to try it again.
        how: How it ended well, for example `resumed, results equal`; what went wrong where it did not.
        survived: Whether it ended well.
    """

    kind: str
    case: str
    how: str
    survived: bool = True


def table(trials: Iterable[Trial]) -> str:
    """A Markdown table: one row per kind in the order of their first trial."""
    rows: dict[str, list[Trial]] = {}
    for trial in trials:
        rows.setdefault(trial.kind, []).append(trial)
    lines = ["| kind | tried | survived | how |", "|---|---:|---:|---|"]
    for kind, own in rows.items():
        ends = Counter(trial.how if trial.survived else "FAILED" for trial in own)
        how = "; ".join(f"{count} {end}" for end, count in ends.most_common())
        lines.append(f"| {kind} | {len(own)} | {sum(trial.survived for trial in own)} | {how} |")
    total = [trial for own in rows.values() for trial in own]
    lines.append(f"| all | {len(total)} | {sum(trial.survived for trial in total)} | |")
    return "\n".join(lines) + "\n"


def failures(trials: Iterable[Trial]) -> list[str]:
    """What did not end well, one line each."""
    return [f"{trial.kind}: {trial.case}: {trial.how}" for trial in trials if not trial.survived]
