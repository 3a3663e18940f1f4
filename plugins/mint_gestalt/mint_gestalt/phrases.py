"""Phrases of a clinical text: a phenotype whose name holds a comma is one."""

from __future__ import annotations

from collections.abc import Sequence

from mint_core.plugin import Span
from mint_gestalt import ontology

_MOST = 4
"""Pieces that one name of HPO is put together from."""


def whole_names(text: str, pieces: Sequence[Span]) -> list[Span]:
    """Pieces of a text, those put together again that are one name of HPO: `Intellectual disability, mild`.

    Args:
        text: The text.
        pieces: What stands between its commas, semicolons and ends of sentences, in order.
    """
    found, at = [], 0
    while at < len(pieces):
        longest = next(
            (
                count
                for count in range(min(_MOST, len(pieces) - at), 1, -1)
                if ontology.by_name(text[pieces[at].start : pieces[at + count - 1].stop]) is not None
            ),
            1,
        )
        found.append(Span(pieces[at].start, pieces[at + longest - 1].stop))
        at += longest
    return found
