"""Reads the synonyms of HPO from the `hp.obo` or `hp.json` that the user names; hpo3 has names only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mint_core.plugin import DataError, parse_json, read_utf8

_SYNONYM = re.compile(r'synonym:\s*"((?:[^"\\]|\\.)*)"\s+(EXACT|NARROW)\b')
_URI = re.compile(r"HP_(\d{7})$")
KINDS = ("hasExactSynonym", "hasNarrowSynonym")
"""Broad and related synonyms would say more than the text does."""


def read_synonyms(path: Path) -> list[tuple[str, int]]:
    """Exact and narrow synonyms with the number of their term: `("Fits", 1250)`.

    Args:
        path: `hp.obo` or `hp.json` (OBO Graphs) as HPO releases them.

    Raises:
        DataError: It cannot be read, or holds no synonym.
    """
    try:
        text = read_utf8(path)
        found = list(_from_json(text) if path.suffix.lower() == ".json" else _from_obo(text))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text; check retriever.synonyms.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path.name} is no OBO Graphs JSON; fetch hp.json of HPO again.") from error
    if not found:
        raise DataError(f"{path.name} holds no synonym of an HPO term; name hp.obo or hp.json of HPO.")
    return found


def _from_obo(text: str) -> Iterator[tuple[str, int]]:
    term: int | None = None
    for line in text.splitlines():
        if line.startswith("["):
            term = None
        elif match := re.fullmatch(r"id:\s*HP:(\d{7})\s*", line):
            term = int(match[1])
        elif term is not None and (match := _SYNONYM.match(line)):
            yield re.sub(r"\\(.)", r"\1", match[1]), term


def _from_json(text: str) -> Iterator[tuple[str, int]]:
    for node in parse_json(text)["graphs"][0]["nodes"]:
        match = _URI.search(node["id"])
        for synonym in node.get("meta", {}).get("synonyms", ()) if match else ():
            if match and synonym.get("pred") in KINDS:
                yield str(synonym["val"]), int(match[1])
