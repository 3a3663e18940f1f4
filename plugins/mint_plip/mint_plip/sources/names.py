"""Label names of the user's own data: which spellings are one label, and which only look like it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from mint_core.plugin import DataError, LabelSpace, identity_of, normalise_name, read_utf8, squeezed


def labels_given(labels: Sequence[str] | Path) -> LabelSpace:
    """The label space that the user names.

    Args:
        labels: Names, or a UTF-8 file with one name per line (empty lines do not count).

    Raises:
        DataError: The file cannot be read, or two names are one after normalisation.
    """
    if not isinstance(labels, Path):
        return LabelSpace(tuple(map(squeezed, labels)))
    try:
        lines = read_utf8(labels).split("\n")  # other breaks may stand inside a name
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise DataError(f"The label file {labels} cannot be read as UTF-8 text ({why}); check the path.") from error
    return LabelSpace(tuple(filter(None, map(squeezed, lines))))


def labels_found(counts: Mapping[str, int]) -> LabelSpace:
    """The label space of the names that occur, in alphabetical order.

    Spellings that differ in case, spaces, hyphens or underscores are one label, written as it is written most often.

    Args:
        counts: How often each spelling occurs.

    Raises:
        DataError: Two names differ only in other signs (HER2+ and HER2-).
    """
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        spellings[normalise_name(name)].append(name)
    for same in spellings.values():
        for other in same[1:]:
            _refuse_lookalike(other, (same[0],))
    return LabelSpace(tuple(sorted((same[0] for same in spellings.values()), key=str.casefold)))


def find_label(name: str, labels: LabelSpace) -> str | None:
    """The label that a spelling stands for, or None.

    Raises:
        DataError: It differs from the label only in signs that may carry meaning.
    """
    found = labels.find(name)
    if found is not None:
        _refuse_lookalike(name, labels.all_names(found))
    return found


def _refuse_lookalike(name: str, known: Sequence[str]) -> None:
    if identity_of(name) not in map(identity_of, known):
        raise DataError(
            f"The labels '{name}' and '{known[0]}' differ only in punctuation, which mint does not compare; if they "
            "are one label write it one way, if they are two put the difference into words."
        )
