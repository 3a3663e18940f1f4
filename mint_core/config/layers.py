"""Layers of a config: a file, `a.b=c` overrides and flags, merged so that later ones win."""

from __future__ import annotations

from collections.abc import Mapping
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from mint_core.config.schema import StudentConfig
from mint_core.documents import DocumentError, parse_json, parse_yaml
from mint_core.errors import ConfigError
from mint_core.files import read_utf8
from mint_core.plugins import canonical, registry

NO_ALIGNER = "none"
MAX_CONFIG_BYTES = 2**20
MAX_RECORD_BYTES = 64 * 2**20
"""Of a run.json, which holds more than a config."""
_SHORT_FORMS = {
    **dict.fromkeys(("task", "teacher", "strategy", "aligner", "retriever"), "name"),
    "student": "model",
}
"""Top-level keys that may be given by one word, and the option that the word stands for."""


def read_config(path: Path) -> dict[str, Any]:
    """Reads a YAML config, or the `config` of a run.json.

    Raises:
        ConfigError: The file cannot be read or holds no mapping.
    """
    try:
        is_json = path.suffix == ".json"
        text = read_utf8(path, MAX_RECORD_BYTES if is_json else MAX_CONFIG_BYTES)
        content = parse_json(text, strict=True) if is_json else parse_yaml(text)
    except OSError as error:
        raise ConfigError(f"The config {path} cannot be read ({error.strerror}); check the path.") from None
    except DocumentError as error:
        where = f" at line {error.line}" if error.line else ""
        raise ConfigError(f"The config {path} cannot be used{where}: {error}.") from None
    except ValueError as error:
        where = f" at line {error.lineno}" if isinstance(error, JSONDecodeError) else ""
        raise ConfigError(f"The config {path} is not valid {path.suffix.lstrip('.') or 'YAML'}{where}.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"The config {path} must be a mapping of keys to values.")
    if path.suffix == ".json" and "config" in content:
        content = content["config"]
    return dict(content)


def parse_override(text: str) -> dict[str, Any]:
    """`teacher.head=probe` -> `{"teacher": {"head": "probe"}}`; the value is read as YAML.

    Raises:
        ConfigError: There is no `=` or a key is empty.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set takes a.b=c, not '{text}'; for example --set aligner.learning_rate=1e-4.")
    try:
        nested: Any = parse_yaml(value)
    except DocumentError as error:
        raise ConfigError(f"The value of --set {path}=… cannot be read: {error}; put a text in quotes.") from None
    for key in reversed(keys):
        nested = {key: nested}
    return dict(nested)


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge: later layers win; a component given by name alone keeps the options of earlier layers.

    Where a later layer names another component, the earlier one's options go; where it names another `model`, those
    go that say nothing about another one (`ComponentConfig.of_one_model`).
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, given in layer.items():
            value, old = _long_form(key, given), merged.get(key)
            if key in _SHORT_FORMS and isinstance(old, Mapping) and isinstance(value, Mapping):
                old = _still_meant(key, old, value)
            merged[key] = _together(old, value)
    return merged


def _long_form(key: str, value: Any) -> Any:
    """`teacher: PLIP` -> `{"name": "plip"}`, `student: folder` -> `{"model": "folder"}`, `aligner: none` -> null."""
    if key not in _SHORT_FORMS:
        return value
    value = {_SHORT_FORMS[key]: value} if isinstance(value, str) else value
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str) or _SHORT_FORMS[key] != "name":
        return value
    if key == "aligner" and canonical(value["name"]) == NO_ALIGNER and len(value) == 1:
        return None
    return {**value, "name": registry().spelled(key, value["name"])}


def _still_meant(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an earlier layer says that still holds below a later one."""
    if "name" in old and new.get("name", old["name"]) != old["name"]:
        return {}
    if "model" not in old or new.get("model", old["model"]) == old["model"]:
        return old
    dropped = StudentConfig.of_one_model if key == "student" else registry().of_one_model(key)
    return {option: value for option, value in old.items() if option not in dropped}


def _together(old: Any, new: Any) -> Any:
    if not isinstance(new, Mapping):
        return new
    below = old if isinstance(old, Mapping) else {}
    return {**below, **{key: _together(below.get(key), value) for key, value in new.items()}}
