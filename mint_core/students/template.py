"""A student's chat template, made to write the same on every day, with the values that the user sets in it.

Templates get at the clock through `strftime_now`, the one thing in transformers' renderer that changes from day to day.
Here it is defined in front of the template itself, and so is what the user sets: whoever renders the template
(training, engines, plugins) gets the same text, and what is keyed by the template is keyed by them.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any

from mint_core.errors import ConfigError

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_CLOCK = "strftime_now"
_RESERVED = frozenset({"messages", "tools", "documents", "add_generation_prompt", "continue_final_message", _CLOCK})


def pin(owner: Any, date: datetime.date, values: Mapping[str, Any], source: str) -> None:
    """Fixes the date of a chat template, and what the user sets in it.

    Args:
        owner: A processor or tokenizer; one without a template is left as it is.
        date: What the template takes for today, at midnight.
        values: Variables of the template, for example `enable_thinking`.
        source: The student, for messages.

    Raises:
        ConfigError: The template reads no such variable, or it is one that mint sets.
    """
    template = getattr(owner, "chat_template", None)
    if isinstance(template, str):
        owner.chat_template = _pinned(template, date, values, source)
    elif isinstance(template, dict):
        owner.chat_template = {name: _pinned(one, date, values, source) for name, one in template.items()}
    elif values:
        raise ConfigError(f"student.chat_template_kwargs is for a chat template, and the student {source} has none.")


def _pinned(template: str, date: datetime.date, values: Mapping[str, Any], source: str) -> str:
    for name in values:
        if name in _RESERVED or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ConfigError(f"student.chat_template_kwargs takes no `{name}`: mint sets it itself, or it is no name.")
        if not re.search(rf"\b{name}\b", template):
            raise ConfigError(
                f"The chat template of {source} reads no `{name}`; take it out of student.chat_template_kwargs."
            )
    # The template's first line must stay one: a line break behind each of these is taken away by the renderer.
    given = "".join(f"{{% set {name} = {_literal(value)} %}}\n" for name, value in values.items())
    return (_clock(date) if _CLOCK in template else "") + given + template


def _clock(date: datetime.date) -> str:
    """A macro in the place of the clock."""
    replaced = "".join(f"|replace({_literal(key)}, {_literal(value)})" for key, value in _parts(date).items())
    return f"{{% macro {_CLOCK}(format) %}}{{{{ format{replaced} }}}}{{% endmacro %}}\n"


def _parts(date: datetime.date) -> dict[str, str]:
    """What the directives of `strftime` stand for at midnight of a date, in English whatever the locale."""
    day, month = _DAYS[date.weekday()], _MONTHS[date.month - 1]
    numbers = {
        "d": date.day, "m": date.month, "y": date.year % 100, "j": date.timetuple().tm_yday, "H": 0, "I": 12, "M": 0,
        "S": 0, "U": int(date.strftime("%U")), "W": int(date.strftime("%W")), "V": date.isocalendar().week,
    }  # fmt: skip
    found = {f"%{key}": f"{value:03}" if key == "j" else f"{value:02}" for key, value in numbers.items()}
    found |= {f"%-{key}": str(value) for key, value in numbers.items()}
    found |= {f"%{key}": f"{numbers[other]:2}" for key, other in (("e", "d"), ("k", "H"), ("l", "I"))}
    short = f"{date.month:02}/{date.day:02}/{date.year % 100:02}"
    iso = date.isocalendar()
    return found | {
        "%Y": f"{date.year:04}", "%C": f"{date.year // 100:02}", "%G": f"{iso.year:04}", "%g": f"{iso.year % 100:02}",
        "%A": day, "%a": day[:3], "%B": month, "%b": month[:3], "%h": month[:3], "%p": "AM", "%P": "am",
        "%f": "000000", "%z": "+0000", "%Z": "UTC", "%u": str(iso.weekday), "%w": str(iso.weekday % 7),
        "%F": date.isoformat(), "%T": "00:00:00", "%R": "00:00", "%X": "00:00:00", "%r": "12:00:00 AM",
        "%D": short, "%x": short, "%c": f"{day[:3]} {month[:3]} {date.day:2} 00:00:00 {date.year:04}",
        "%s": str(int(datetime.datetime(date.year, date.month, date.day, tzinfo=datetime.UTC).timestamp())),
        "%n": "\n", "%t": "\t", "%%": "%",
    }  # fmt: skip


def _literal(value: Any) -> str:
    """Plain data as a template writes it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(str(key))}: {_literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value)
