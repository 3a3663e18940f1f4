"""Bands of ages, from what tables and sources write: years, durations of ISO 8601, words."""

from __future__ import annotations

import re

BANDS = (
    "before birth",
    "below 1 year",
    "1 to 5 years",
    "6 to 11 years",
    "12 to 17 years",
    "18 to 39 years",
    "40 to 64 years",
    "65 years and older",
)
"""In order. A band ends with the day before the birthday: 5 years and 11 months are `1 to 5 years`."""
_FROM = (0, 1, 6, 12, 18, 40, 65)
"""First year of each band after birth."""
_OLDEST = 130
_YEARS_OF = {"year": 1.0, "month": 1 / 12, "week": 7 / 365.25, "day": 1 / 365.25}
_NUMBER = r"(\d{1,6}(?:[.,]\d{1,6})?)"
_DURATION = re.compile(rf"P(?:{_NUMBER}Y)?(?:{_NUMBER}M)?(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T[\d.,HMS]+)?")
_WORDS = re.compile(
    rf"(?:{_NUMBER} ?(?:years?|yrs?|y)\b[ ,]*)?(?:{_NUMBER} ?(?:months?|mos?|m)\b[ ,]*)?"
    rf"(?:{_NUMBER} ?(?:weeks?|w)\b[ ,]*)?(?:{_NUMBER} ?(?:days?|d)\b)?(?: old)?"
)
_NEWBORN, _GESTATION = ("newborn", "neonate"), "of gestation"


def holds_ages(field: str) -> bool:
    """Whether the name of a field has the word age in it: `age`, `Age (years)`, `age_at_onset`, but not `stage`."""
    return "age" in _words_of(field)


def _words_of(field: str) -> list[str]:
    return re.findall(r"[a-z]+", field.lower())


def age_band(text: str, field: str = "age") -> str | None:
    """The band of an age; None where the text is no age.

    Args:
        text: `34`, `34.5`, `P4Y6M`, `3 years 6 months`, `newborn`, `22 weeks of gestation`.
        field: Name of the field; a plain number is one of months, weeks or days where the name says so, else of years.
    """
    said = text.strip().lower()
    if said.endswith(_GESTATION):
        return BANDS[0]
    years = 0.0 if said in _NEWBORN else _years(said, field)
    if years is None or not 0 <= years <= _OLDEST:
        return None
    return BANDS[sum(round(years, 6) >= first for first in _FROM)]


def _years(said: str, field: str) -> float | None:
    if re.fullmatch(_NUMBER, said):
        units = [word.removesuffix("s") for word in _words_of(field)]
        return _number(said) * next((_YEARS_OF[unit] for unit in units if unit in _YEARS_OF), 1.0)
    match = _DURATION.fullmatch(said.upper()) or _WORDS.fullmatch(said)
    if match is None or not any(match.groups()):
        return 0.0 if re.fullmatch(r"PT[\d.,HMS]+", said.upper()) else None
    parts = zip(match.groups(), _YEARS_OF.values(), strict=True)
    return sum(_number(number) * unit for number, unit in parts if number)


def _number(said: str) -> float:
    return float(said.replace(",", "."))
