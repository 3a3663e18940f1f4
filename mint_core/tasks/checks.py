"""Columns that hold no labels: numbers, ids, texts."""

from __future__ import annotations

from collections import Counter

from mint_core.errors import DataError
from mint_core.tasks.options import ManifestOptions

_LONGEST_NAME = 150
"""Letters of a label's name; more may be a text about a patient."""
_MANY = 100
"""So many labels are looked at twice."""
_TOO_MANY = 20_000
"""More are named in a file, not found in the data."""
_EACH = 2
"""Samples that a label has on average, where there are many."""
_SHOWN = 3


def check_label_column(counts: Counter[str], column: str, options: ManifestOptions) -> None:
    """Refuses a label column that holds numbers, ids or texts, unless the user says what they mean.

    Args:
        counts: How often each label occurs, by the name that the user gives it.
        column: Its name, for messages.
        options: `labels` and `numbers_are_names` count.

    Raises:
        DataError: It holds no names of labels.
    """
    if options.labels is not None or not counts:
        return
    longest = max(map(len, counts))
    if longest > _LONGEST_NAME:
        raise DataError(
            f"Column '{column}' holds labels of up to {longest:,} characters, which look like texts; name the right "
            "one with --set task.columns.label=NAME."
        )
    if len(counts) > _TOO_MANY or (len(counts) > _MANY and counts.total() < _EACH * len(counts)):
        raise DataError(
            f"Column '{column}' holds {len(counts):,} different labels in {counts.total():,} rows, which looks like a "
            "column of ids; name the right one with --set task.columns.label=NAME, or the label space with --set "
            "task.labels=FILE."
        )
    if not options.numbers_are_names and all(map(_is_number, counts)):
        shown = ", ".join(sorted(counts, key=lambda name: (len(name), name))[:_SHOWN])
        raise DataError(
            f"Column '{column}' holds numbers ({shown}{' …' if len(counts) > _SHOWN else ''}), and mint ranks names; "
            "say what they mean with --set task.label_map='{0: NAME, 1: NAME}', or take them for names with --set "
            "task.numbers_are_names=true."
        )


def _is_number(name: str) -> bool:
    try:
        float(name.replace(",", "."))
    except ValueError:
        return False
    return True
