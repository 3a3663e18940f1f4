"""Characters that do not show or that command a terminal: written so that a person sees them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

_JOINERS = "\u200c\u200d"
"""Words of several scripts are spelled with them, and they reorder nothing."""


def visible(text: str, keep: str = "") -> str:
    r"""The text with everything that does not show written out: `\x1b`, `\n`, `\u202e`.

    That is every control character (C0, DEL, C1), line and paragraph separators, what changes the direction of
    writing or has no width, and bytes of a file's name that are no text. What comes from outside can then neither
    command a terminal nor look like a line of mint's.

    Args:
        text: Any text: a file's name, an id, a label, what a server or a library said.
        keep: Characters that stay as they are, for example the line breaks of a text of ours.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(mark if mark in keep else _shown(mark) for mark in text)


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]], *, numbers: bool = False) -> Iterator[str]:
    """The lines of a table in Markdown; whatever stands in a cell stays in it.

    Args:
        header: Headings of the columns.
        lines: Cells.
        numbers: Columns behind the first are set to the right.
    """
    rule = ["---", *["---:" if numbers else "---"] * (len(header) - 1)]
    for line in (header, rule, *lines):
        yield "| " + " | ".join(visible(cell.replace("\n", ", ")).replace("|", "\\|") for cell in line) + " |"


def _shown(mark: str) -> str:
    category = unicodedata.category(mark)
    if category not in ("Cc", "Cf", "Cs", "Zl", "Zp") or mark in _JOINERS:
        return mark
    code = ord(mark)
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    if mark in short:
        return short[mark]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
