"""The fields by which results are reported: which of them, what is refused, and the cell of every sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mint_core.errors import ConfigError, did_you_mean
from mint_core.evaluation.ages import age_band, holds_ages
from mint_core.types import Sample, squeezed

FREQUENCY = "label frequency"
"""The field that every run has, see `mint_core.evaluation.strata`."""
MOST_VALUES, LONGEST = 50, 60
"""Different values of a field, and characters of a value, beyond which it holds no groups but texts or names."""


class Fields(NamedTuple):
    """What is reported beside label frequency."""

    names: tuple[str, ...]
    left_out: tuple[str, ...]
    """Sentences on the source's own fields that cannot be reported, for the person who waits."""


def choose_fields(
    wanted: Sequence[str] | None, known: Sequence[str], samples: Sequence[Sample], judged: Sequence[Sample]
) -> Fields:
    """The fields that are reported.

    Args:
        wanted: As the user names them; None = those that the source knows.
        known: Those that the source knows.
        samples: All samples.
        judged: Those that are evaluated.

    Raises:
        ConfigError: No sample has a field that the user names, or it holds texts or too many different values.
    """
    there = {name for sample in samples for name in sample.subgroups}
    left_out = []
    names = []
    for name in dict.fromkeys(known if wanted is None else wanted):
        if name == FREQUENCY or (wanted is None and name not in there):
            continue
        if name not in there:
            hint = did_you_mean(name, {*there, FREQUENCY})
            raise ConfigError(f"evaluate.subgroups: no sample has a field '{name}'{hint}.")
        if problem := _no_groups(cells_of(name, judged)):
            if wanted is not None:
                raise ConfigError(
                    f"evaluate.subgroups: '{name}' {problem}; name a column of at most {MOST_VALUES} short values, "
                    "or write such a column."
                )
            left_out.append(f"Results are not reported by '{name}', which {problem}.")
            continue
        names.append(name)
    return Fields(tuple(names), tuple(left_out))


def _no_groups(cells: Sequence[str | None]) -> str:
    """Why a field cannot be reported; empty where it can. Values are never quoted."""
    found = {cell for cell in cells if cell is not None}
    longest = max(map(len, found), default=0)
    if longest > LONGEST:
        return f"is free text ({len(found):,} different values, the longest of {longest:,} characters)"
    return f"has {len(found):,} different values" if len(found) > MOST_VALUES else ""


def cells_of(field: str, samples: Sequence[Sample]) -> list[str | None]:
    """The cell of every sample in one field; None = not known.

    In a field of ages (see `holds_ages`) most of whose values are ages these are told in bands, and what is none is
    not known. Other values stay as they are, but for white space.
    """
    values = [squeezed(str(sample.subgroups.get(field, ""))) or None for sample in samples]
    if not holds_ages(field):
        return values
    bands = [age_band(value, field) if value else None for value in values]
    ages = sum(band is not None for band in bands)
    return bands if 2 * ages > sum(value is not None for value in values) else values
