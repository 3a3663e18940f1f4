"""Plain data to typed configs, with sentences that a person can act on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mint_core.errors import ConfigError, did_you_mean

M = TypeVar("M", bound=BaseModel)


def refuse_unknown(known: Collection[str], data: Mapping[str, Any], where: str, otherwise: str = "") -> None:
    """Refuses keys that are not known; `where` and `otherwise` as for `validated`.

    Raises:
        ConfigError: There is one.
    """
    for key in data:
        if key not in known:
            raise ConfigError(f"Unknown key '{key}' in {where}{did_you_mean(str(key), known)}{otherwise}.")


def validated(model: type[M], data: Any, where: str, otherwise: str = "") -> M:
    """A config from plain data, with sentences that a person can act on.

    Args:
        model: Its class.
        data: As the user gives it.
        where: What it belongs to, for messages.
        otherwise: What else the user may do; ends the message.

    Raises:
        ConfigError: A key is unknown or a value is wrong.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} must be a mapping of keys to values.")
    refuse_unknown(model.model_fields, data, where, otherwise)
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        path = [str(part) for part in first["loc"]]
        if first["type"] == "extra_forbidden":
            known = _fields_at(model, path[:-1])
            hint = f"{did_you_mean(path[-1], known)}{otherwise}"
            raise ConfigError(f"Unknown key '{path[-1]}' in {'.'.join(path[:-1])}{hint}.") from None
        field = _fields_at(model, path[:-1]).get(path[-1]) if path else None
        about = f" ({field.description})" if field is not None and field.description else ""
        told = _IN_WORDS.get(first["type"], first["msg"].removeprefix("Value error, "))
        sentence = f"{where}: {'.'.join(path)}: {told}{about}{otherwise}."
        raise ConfigError(sentence.replace("..", ".")) from None


_IN_WORDS = {"string_pattern_mismatch": "It holds a character that it may not hold, or is empty"}
"""What pydantic says in a way that helps nobody."""


def _fields_at(model: type[BaseModel], path: Sequence[str]) -> dict[str, FieldInfo]:
    """The fields of a nested config; none where the path leads to no config."""
    fields = dict(model.model_fields)
    for part in path:
        inner = fields[part].annotation if part in fields else None
        fields = dict(inner.model_fields) if isinstance(inner, type) and issubclass(inner, BaseModel) else {}
    return fields
