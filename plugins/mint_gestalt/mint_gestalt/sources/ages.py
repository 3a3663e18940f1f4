"""Ages as a person says them."""

from __future__ import annotations

import re

from mint_core.plugin import DataError

_NUMBER = r"(\d{1,6}(?:[.,]\d{1,6})?)"
_LONGEST = 100_000
"""In any unit."""
_DURATION = re.compile(rf"P(?:{_NUMBER}Y)?(?:{_NUMBER}M)?(?:{_NUMBER}W)?(?:{_NUMBER}D)?(T[\d.,HMS]+)?")


def from_duration(duration: str) -> str:
    """An ISO-8601 duration in words.

    `P4Y6M` -> `4 years 6 months`, `P18M` -> `1 year 6 months`, `P3W` -> `3 weeks`, `P0D` and `PT12H` -> `newborn`.
    The two largest units count.

    Args:
        duration: As phenopackets write it.

    Raises:
        DataError: It is not an ISO-8601 duration.
    """
    match = _DURATION.fullmatch(duration.strip())
    if match is None or not any(match.groups()):
        raise DataError("an age is not an ISO-8601 duration such as P4Y6M")
    years, months, weeks, days = (float(number.replace(",", ".")) if number else 0.0 for number in match.groups()[:4])
    return in_words(years, months, weeks, days)


def in_words(years: float, months: float = 0, weeks: float = 0, days: float = 0) -> str:
    """The two largest units that are not zero; `newborn` where all are.

    Args:
        years: A fraction becomes months.
        months: Twelve become a year.
        weeks: Weeks.
        days: Days.

    Raises:
        DataError: One of them is longer than a person lives.
    """
    if not all(0 <= number < _LONGEST for number in (years, months, weeks, days)):
        raise DataError("an age is longer than a person lives")
    total = round(years * 12 + months, 2)
    parts = [(int(total // 12), "year"), (total % 12, "month"), (weeks, "week"), (days, "day")]
    said = [f"{number:g} {unit}{'' if number == 1 else 's'}" for number, unit in parts if number]
    return " ".join(said[:2]) or "newborn"


def of_gestation(weeks: int, days: int = 0) -> str:
    """The age of a fetus: `22 weeks 2 days of gestation`."""
    return f"{in_words(0, 0, weeks, days)} of gestation"


def from_stage(name: str) -> str:
    """A stage of life: `Childhood onset` -> `childhood`, `Newborn` -> `newborn`."""
    return name.strip().lower().removesuffix(" onset")
