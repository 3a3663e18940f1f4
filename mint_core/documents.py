"""JSON and YAML from outside, with limits: what is too deep, too large or ambiguous is refused in one sentence."""

from __future__ import annotations

import json
import sys
from collections.abc import Hashable, Sequence
from typing import Any, NoReturn

import yaml

MAX_DEPTH = 50
"""Levels of a config; mint's own has five."""
MAX_NODES = 100_000
"""Values of a YAML document, each alias counted as often as it is used."""


class DocumentError(ValueError):
    """A text that is no usable document. The message says why, without quoting it, and ends without a point.

    Args:
        reason: For example `it is nested more than 50 levels deep`.
        line: Where, counted from 1; None where that is not known.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line


def parse_json(text: str | bytes, *, strict: bool = False) -> Any:
    """Reads JSON.

    Args:
        text: The whole text.
        strict: Refuse keys that occur twice in one object, more than `MAX_DEPTH` levels, NaN and infinity: for configs.

    Raises:
        DocumentError: It goes deeper than Python can read, holds a number with thousands of digits, or breaks a strict
            rule.
        ValueError: It is no JSON (`json.JSONDecodeError`), or no text.
    """
    options: dict[str, Any] = {"object_pairs_hook": _unique, "parse_constant": _no_number} if strict else {}
    try:
        content = json.loads(text, **options)
    except RecursionError:
        raise DocumentError("it is nested too deep") from None
    except (json.JSONDecodeError, UnicodeDecodeError, DocumentError):
        raise
    except ValueError:
        raise DocumentError(_digits()) from None
    if strict:
        _check_depth(content)
    return content


def parse_yaml(text: str) -> Any:
    """Reads one YAML document without tags that make objects.

    Args:
        text: The whole text.

    Raises:
        DocumentError: It is not valid YAML, has a key twice, more than `MAX_DEPTH` levels or `MAX_NODES` values, an
            alias of what it stands in, or a number with thousands of digits.
    """
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise DocumentError("it is not valid YAML", mark.line + 1 if mark else None) from None
    except DocumentError:
        raise
    except RecursionError:
        raise DocumentError("it is nested too deep") from None
    except OverflowError:
        raise DocumentError("a number in it is too large") from None
    except (ValueError, TypeError, AttributeError, LookupError):  # what PyYAML's own types of numbers and dates raise
        raise DocumentError("a number or a date in it is none; put it in quotes if it is a text") from None
    finally:
        if loader is not None:
            loader.dispose()


def _digits() -> str:
    return f"a number in it has more than {sys.get_int_max_str_digits()} digits"


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DocumentError(f"the key '{twice[:80]}' stands twice in one object")
    return found


def _no_number(name: str) -> NoReturn:
    raise DocumentError(f"{name} is no number of JSON")


def _check_depth(content: Any) -> None:
    level = [content]
    for _ in range(MAX_DEPTH + 1):
        level = [
            one
            for outer in level
            if isinstance(outer, dict | list)
            for one in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise DocumentError(f"it is nested more than {MAX_DEPTH} levels deep")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that counts what it reads, and refuses a key that stands twice."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0
        self._sizes: dict[int, int] = {}
        """Values below a node that is complete, by its identity."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """See PyYAML; called once for every value, from the outside in."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            target = self.anchors.get(event.anchor)
            if target is not None and id(target) not in self._sizes:
                raise DocumentError(f"the alias '*{event.anchor}' stands inside of what it names", line)
            self._count(self._sizes.get(id(target), 1), line)
            return super().compose_node(parent, index)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise DocumentError(f"it is nested more than {MAX_DEPTH} levels deep", line)
        before = self._nodes
        self._count(1, line)
        node = super().compose_node(parent, index)
        self._sizes[id(node)] = self._nodes - before
        self._depth -= 1
        return node

    def _count(self, number: int, line: int) -> None:
        self._nodes += number
        if self._nodes > MAX_NODES:
            raise DocumentError(f"it holds more than {MAX_NODES:,} values, counting every use of an alias", line)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """See PyYAML."""
        seen: dict[Any, int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            merges = key.tag == "tag:yaml.org,2002:merge"
            name = "<<" if merges else self.construct_object(key, deep=True)
            line = key.start_mark.line + 1
            if not isinstance(name, Hashable):
                raise DocumentError("a key in it is a list or a mapping", line)
            if name in seen:
                raise DocumentError(f"the key '{str(name)[:80]}' stands in line {seen[name]} and in line {line}", line)
            seen[name] = line
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_int(self, node: Any) -> Any:
        """See PyYAML; a number of a million digits takes minutes to read, and is none that anyone wants."""
        if len(node.value) > sys.get_int_max_str_digits():
            raise DocumentError(_digits(), node.start_mark.line + 1)
        return super().construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
