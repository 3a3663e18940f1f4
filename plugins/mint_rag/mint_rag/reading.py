"""Reads passages: text, Markdown, JSON lines, JSON, and LlamaIndex folders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mint_core.plugin import ConfigError, DataError, parse_json, present, read_utf8, squeezed

DOCSTORE = "docstore.json"
"""What LlamaIndex calls the file of its passages."""
SUFFIXES = (".txt", ".md", ".jsonl", ".json")
_NAMED = ("label", "title", "name")
_PARAGRAPH = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True)
class Document:
    """One passage as a file holds it."""

    id: str
    where: str
    """File, and line or entry, for messages."""
    text: str = field(repr=False)
    names: tuple[str, ...] = ()
    """What it is called: perhaps names of a label."""
    title: str | None = None
    """The first of the names that somebody gave it; the name of a file is none."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All passages of a place."""

    documents: tuple[Document, ...]
    skipped: tuple[str, ...]
    """Files, lines or entries that were left out as broken."""


@dataclass(frozen=True, slots=True)
class _Broken:
    where: str
    what: str


def read(place: Path, max_characters: int | None, on_error: Literal["fail", "skip"]) -> Reading:
    """Reads every passage of a file, of a folder and the folders below, or of a LlamaIndex folder.

    Args:
        place: A file that ends in .txt, .md, .jsonl or .json, or a folder. Hidden and other files are not read.
        max_characters: .txt and .md are split at blank lines into passages no longer than this; None = not at all.
        on_error: Whether a broken file, line or entry ends the reading or is left out.

    Raises:
        DataError: There is no passage, or one is broken and `on_error` is `fail`.
        ConfigError: A LlamaIndex folder has a layout for which LlamaIndex itself is needed.
    """
    documents: dict[str, Document] = {}
    skipped: list[str] = []
    for found in _all(place, max_characters):
        broken = found if isinstance(found, _Broken) else None
        if isinstance(found, Document) and found.id in documents:
            earlier = documents[found.id].where
            broken = _Broken(found.where, f"its id is that of {earlier} too; give every passage an id of its own")
        if broken is not None:
            if on_error == "fail":
                raise DataError(f"{broken.where}: {broken.what}, or leave such passages out: retriever.on_error=skip.")
            skipped.append(broken.where)
        elif isinstance(found, Document):
            documents[found.id] = found
    if skipped and not documents:
        raise DataError(f"Every passage of {place} is broken, the first at {skipped[0]}; mend the file.")
    if not documents:
        raise DataError(f"{place} holds no passage; put files that end in {', '.join(SUFFIXES)} there, with text.")
    return Reading(tuple(documents.values()), tuple(skipped))


def _all(place: Path, max_characters: int | None) -> Iterator[Document | _Broken]:
    if place.is_dir():
        if (place / DOCSTORE).is_file():
            yield from _from_docstore(place)
            return
        files = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        shown = [(path, path.relative_to(place).as_posix()) for path in files]
        shown = [(path, name) for path, name in shown if not any(part.startswith(".") for part in name.split("/"))]
    elif place.is_file() and place.suffix.lower() in SUFFIXES:
        shown = [(place, place.name)]
    else:
        raise DataError(f"{place} is no folder and no file that ends in {', '.join(SUFFIXES)}; check retriever.path.")
    for path, name in shown:
        yield from _of_file(path, name, max_characters)


def _of_file(path: Path, name: str, max_characters: int | None) -> Iterator[Document | _Broken]:
    try:
        text = read_utf8(path)
    except (OSError, UnicodeDecodeError):
        yield _Broken(name, "the file cannot be read as UTF-8 text; convert it")
        return
    if path.suffix.lower() == ".jsonl":
        yield from _of_lines(name, text)
    elif path.suffix.lower() == ".json":
        yield from _of_json(name, text)
    else:
        yield from _of_text(name, text, max_characters)


# --- text


def _of_text(name: str, text: str, max_characters: int | None) -> Iterator[Document]:
    """The passages of a text; it is called what its Markdown heading or its file is called."""
    heading = re.search(r"^#\s+(.+?)\s*#*$", text, re.MULTILINE) if name.lower().endswith(".md") else None
    title = heading[1] if heading else None
    names = (*((title,) if title else ()), Path(name).stem.replace("_", " "))
    pieces = [text.strip()] if max_characters is None else list(_pieces(text, max_characters))
    pieces = [piece for piece in pieces if piece]
    for number, piece in enumerate(pieces, 1):
        mark = name if len(pieces) == 1 else f"{name}#{number}"
        yield Document(mark, mark, piece, names, title)


def _pieces(text: str, limit: int) -> Iterator[str]:
    """Paragraphs joined as long as they fit; a paragraph that does not is cut at the last space that does."""
    held = ""
    for paragraph in _PARAGRAPH.split(text.strip()):
        rest = paragraph.strip()
        if held and len(held) + 2 + len(rest) > limit:
            yield held
            held = ""
        while len(rest) > limit:
            space = rest.rfind(" ", 1, limit + 1)
            cut = space if space > 0 else limit
            yield rest[:cut].strip()
            rest = rest[cut:].strip()
        held = f"{held}\n\n{rest}" if held and rest else held or rest
    if held:
        yield held


# --- JSON


def _of_lines(name: str, text: str) -> Iterator[Document | _Broken]:
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{name}:{number}"
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except ValueError:
            yield _Broken(where, "the line is not JSON; mend it")
            continue
        yield _of_record(record, where, where)


def _of_json(name: str, text: str) -> Iterator[Document | _Broken]:
    """A mapping of names to texts or records, a list of records, or a list of such mappings."""
    try:
        content = parse_json(text)
    except ValueError as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        yield _Broken(f"{name}{line}", "the file is not JSON; mend it")
        return
    if isinstance(content, Mapping):
        yield from _of_mapping(content, name)
    elif isinstance(content, list):
        for number, entry in enumerate(content, 1):
            if isinstance(entry, Mapping) and "text" not in entry:
                yield from _of_mapping(entry, f"{name}[{number}]")
            else:
                yield _of_record(entry, f"{name}[{number}]", f"{name}[{number}]")
    else:
        yield _Broken(name, "the file holds neither a mapping nor a list of passages; mend it")


def _of_mapping(content: Mapping[str, Any], name: str) -> Iterator[Document | _Broken]:
    if isinstance(content.get("text"), str):
        yield _of_record(content, name, name)
        return
    for number, (key, entry) in enumerate(content.items(), 1):
        where = f"{name}, entry {number}"
        record = {"text": entry} if isinstance(entry, str) else entry
        yield _of_record(record, f"{name}#{key}", where, key)


def _of_record(record: Any, default_id: str, where: str, key: str | None = None) -> Document | _Broken:
    """One object with `text`, and perhaps `id`, `label`, `title`, `name`."""
    if not isinstance(record, Mapping):
        return _Broken(where, "the passage is no object with a `text`; mend it")
    record = {key: value for key, value in record.items() if not _not_there(value)}
    text = record.get("text")
    if not isinstance(text, str) or not text.strip():
        return _Broken(where, "the passage has no `text`; fill it")
    given = record.get("id", default_id)
    if not isinstance(given, str | int) or not str(given).strip():
        return _Broken(where, "the `id` is no text and no number; mend it")
    names = [record[field] for field in _NAMED if record.get(field) is not None]
    if not all(isinstance(one, str) for one in names):
        return _Broken(where, "`label`, `title` and `name` must be text; mend them")
    names += [] if key is None else [key]
    names = [squeezed(one) for one in names]
    return Document(str(given), where, text.strip(), tuple(names), names[0] if names else None)


def _not_there(value: Any) -> bool:
    """Whether there is none, or pandas wrote one where there was none."""
    if value is None:
        return True
    return not present(value) if isinstance(value, float) else isinstance(value, str) and _is_filler(value)


def _is_filler(text: str) -> bool:
    return bool(text.strip()) and not present(text)


# --- LlamaIndex


def _from_docstore(folder: Path) -> Iterator[Document | _Broken]:
    """The passages of a folder that LlamaIndex persisted.

    The layout of its default document store is JSON and has been stable: `docstore/data` maps ids to `__data__` with a
    `text` and `metadata` (`extra_info` before 0.6). It is read without LlamaIndex.
    """
    try:
        nodes = parse_json(read_utf8(folder / DOCSTORE))["docstore/data"]
        found = [_of_node(key, node["__data__"]) for key, node in nodes.items()]
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / DOCSTORE} is not JSON; persist the index again.") from error
    except (KeyError, TypeError, AttributeError):
        found = list(_through_llama_index(folder))
    yield from (node for node in found if node is not None)


def _of_node(key: str, data: Mapping[str, Any]) -> Document | None:
    """None for a node without text, such as an image."""
    text = data["text"] if "text" in data else (data["text_resource"] or {}).get("text")
    return _document(key, text, data.get("metadata") or data.get("extra_info") or {})


def _document(key: str, text: str | None, metadata: Mapping[str, Any]) -> Document | None:
    names = tuple(metadata[field] for field in _NAMED if isinstance(metadata.get(field), str))
    if not text or not text.strip():
        return None
    return Document(key, f"{DOCSTORE}, node {key}", text.strip(), names, names[0] if names else None)


def _through_llama_index(folder: Path) -> Iterator[Document | None]:
    try:
        from llama_index.core.storage.docstore import SimpleDocumentStore
    except ImportError as error:
        raise ConfigError(
            f"{folder / DOCSTORE} has a layout that mint does not know; pip install 'mint-rag[llamaindex]' to read it "
            "through LlamaIndex."
        ) from error
    try:
        nodes = SimpleDocumentStore.from_persist_dir(str(folder)).docs
    except Exception as error:  # whatever LlamaIndex or its validation raises
        raise DataError(f"{folder / DOCSTORE} cannot be read by LlamaIndex either; persist the index again.") from error
    for key, node in nodes.items():
        yield _document(key, node.get_content(), node.metadata)
