"""Predictions as a page for a browser: self-contained, no script, no network, one line per sample."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any

from mint_core.answering.formats import Format, Written
from mint_core.answering.outcome import Outcome
from mint_core.characters import visible
from mint_core.templates import template

_ARTICLE = re.compile(r'<article data-sample="([^"]*)" data-failed="(true|false)">.*</article>\n')

_TEXTS = {"response": "what the student wrote", "input": "what the student read"}


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands above the samples."""

    title: str
    how: str
    """How the student answered, in one sentence."""
    cautions: Sequence[str]
    """What must be known of the adapter, see `mint_core.cautions.of_adapter`."""


class HtmlPage(Format):
    """A heading, and one `article` per sample: HTML needs no further end, so that a page can be continued.

    All text is escaped, and what does not show is written out (`visible`).

    Args:
        heading: What stands above.
        extra: See `Format`.
    """

    def __init__(self, heading: Heading, **extra: bool) -> None:
        super().__init__(**extra)
        self.heading = heading

    @cached_property
    def _parts(self) -> Any:
        return template("answering", "answers.html.jinja").module

    @property
    def head(self) -> str:
        """The heading, on one line."""
        texts = " and ".join(words for name, words in _TEXTS.items() if name in self.extra)
        one = self.heading
        page = {"title": visible(one.title), "how": visible(one.how), "cautions": one.cautions, "texts": texts}
        return " ".join(str(self._parts.head(page)).split()) + "\n"

    def line(self, outcome: Outcome) -> str:
        """See `Format.line`."""
        names = zip_longest(outcome.labels, outcome.known)
        shares = zip_longest(outcome.normalised_probabilities or (), outcome.probabilities or ())
        entries: list[dict[str, Any]] = [
            {"label": visible(label or ""), "known": known and visible(known), "share": None} for label, known in names
        ]
        for entry, (share, probability) in zip(entries, shares, strict=False):
            entry |= {"share": share, "probability": probability}
        texts = {"response": outcome.response, "input": outcome.input}
        one = {
            "id": self.key(outcome.id),
            "error": outcome.error and visible(outcome.error),
            "abstained": outcome.abstained,
            "entries": entries,
            "notes": self._notes(outcome),
            "texts": {_TEXTS[name]: visible(text, keep="\n") for name, text in texts.items() if name in self.extra},
        }
        text = str(self._parts.sample(one)).strip()
        return re.sub(r">\n+<", "><", text).replace("\n", "&#10;") + "\n"

    def _notes(self, outcome: Outcome) -> list[str]:
        notes = []
        if outcome.missing_mass is not None:
            notes.append(f"{100 * outcome.missing_mass:.1f} % of the student's probability lies on no label.")
        if not outcome.well_formed:
            notes.append("The answer does not keep to the format.")
        if outcome.truncated:
            notes.append("The answer reached the limit on its length and was cut there.")
        if "passages" in self.extra and outcome.passages:
            notes.append(f"Passages in the prompt: {', '.join(map(visible, outcome.passages))}")
        return notes

    def key(self, sample_id: str) -> str:
        """The id as it is shown."""
        return visible(sample_id)

    def read(self, line: str) -> Written:
        """See `Format.read`."""
        found = _ARTICLE.fullmatch(line)
        if found is None:
            raise ValueError("no article of a sample")
        return Written(html.unescape(found[1]), found[2] == "true")
