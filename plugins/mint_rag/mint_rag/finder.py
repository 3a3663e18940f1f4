"""Finds phenotypes in text: the longest names first, and none that the text denies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_TOKEN = re.compile(r"\d+\.\d+|[^\W_]+(?:['\u2019](?=s\b))?|\n\s*\n|[.,;:!?]")
_SKIPPED = frozenset({"the", "a", "an"})
_STOP = frozenset({".", ";", ":", "!", "?"})
"""No name and no denial reaches across these. A blank line is one of them."""

_DENY = frozenset({
    "no", "not", "without", "denie", "denied", "deny", "never", "neither", "nor", "lack", "lacked", "lacking",
    "absence", "negative", "exclude", "excluded", "excluding", "non", "free", "cannot",
})  # fmt: skip
_NEEDS = {"absence": "of", "negative": "for", "free": "of", "lack": "of"}
"""Words that deny only before another one: `negative for`, but not `gram negative`."""
_NO_DENIAL = frozenset({
    ("not", "only"), ("no", "increase"), ("no", "change"), ("no", "further"), ("not", "certain"), ("not", "clear"),
    ("no", "improvement"), ("not", "just"), ("no", "response"), ("not", "due"), ("no", "doubt"),
})  # fmt: skip
_CONTRAST = frozenset(
    {"but", "however", "although", "though", "except", "yet", "wherea", "wherein", "despite", "instead"}
)
"""A denial ends here."""
_NEW_CLAUSE = frozenset({
    "with", "while", "who", "which", "that", "he", "she", "they", "it", "patient", "developed", "develop", "showed",
    "show", "ha", "had", "have", "presented", "present", "wa", "were", "is", "are", "became", "began", "because",
    "since", "until", "when", "then", "after",
})  # fmt: skip
"""A denial that has denied something ends here."""
_REACH = 6
"""Words between a denial and what it denies: `no clear evidence of any …`."""
_LONGEST_CLAUSE = 100
"""Words and names; what a text denies further away it does not deny plainly."""
_DENIED_AFTER = re.compile(
    r"^(?:(?:wa|were|is|are|ha been|have been|had been|being)? ?(?:absent|excluded|denied|negative|ruled out|lacking)"
    r"|(?:wa|were|is|are|ha|have|had|could|did) not (?:be |been |been )?"
    r"(?:present|observed|seen|noted|found|reported|detected|identified|evident|recorded|apparent|documented|occur)"
    r"|: (?:no|absent|none|negative|excluded|not present)|not (?:present|observed|seen|noted|found|reported|detected))"
    r"(?: |$)"
)
_WORDS_AFTER = 5


@lru_cache(maxsize=200_000)
def form(word: str) -> str:
    """A word as words are compared: one spelling for British and American, one number."""
    word = word.replace("'", "").replace("\u2019", "")
    if len(word) > 4:
        word = word.replace("ae", "e").replace("oe", "e").replace("our", "or")
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "us")):
        return word[:-1]
    return word


def tokens(text: str) -> list[str]:
    """The words of a text in compared form, with `,` and what ends a clause."""
    found = [match if match.strip() else "." for match in _TOKEN.findall(text.lower())]
    return [form(token) for token in found if token not in _SKIPPED]


@dataclass(frozen=True, slots=True)
class Mention:
    """A phenotype that a text names."""

    term: int
    denied: bool
    """The text says that it is absent."""


@dataclass(slots=True)
class _Item:
    """A word, a mark, or a found name."""

    word: str
    term: int | None = None
    denied: bool = False


class TermFinder:
    """A trie of names.

    Args:
        names: Names with the term that each means; of equal names the first counts.
    """

    def __init__(self, names: Iterable[tuple[str, int]]) -> None:
        self._root: dict[str, Any] = {}
        for name, term in names:
            words = tokens(name)
            if not words:
                continue
            node = self._root
            for word in words:
                node = node.setdefault(word, {})
            node.setdefault("", term)  # no word is empty

    def find(self, text: str) -> list[int]:
        """The terms that the text says are present, each once, in order.

        Args:
            text: Lists of names, or sentences.
        """
        mentions = self.mentions(text)
        return list(dict.fromkeys(mention.term for mention in mentions if not mention.denied))

    def mentions(self, text: str) -> list[Mention]:
        """Every mention in order, with what the text denies marked.

        Args:
            text: Lists of names, or sentences.
        """
        items = self._items(tokens(text))
        for position, item in enumerate(items):
            if item.term is None:
                if item.word in _DENY:
                    _deny_after(items, position)
            elif not item.denied and _is_denied_afterwards(items, position):
                _deny_joined(items, position)
        return [Mention(item.term, item.denied) for item in items if item.term is not None]

    def _items(self, words: Sequence[str]) -> list[_Item]:
        items, start = [], 0
        while start < len(words):
            term, end = self._longest(words, start)
            items.append(_Item(" ".join(words[start:end]), term))
            start = end
        return items

    def _longest(self, words: Sequence[str], start: int) -> tuple[int | None, int]:
        """The term of the longest name that begins at `start`, and the position behind it."""
        node, found, end = self._root, None, start + 1
        for position in range(start, len(words)):
            node = node.get(words[position])  # type: ignore[assignment]
            if node is None:
                break
            if "" in node:
                found, end = node[""], position + 1
        return found, end


def _deny_after(items: list[_Item], start: int) -> None:
    """Marks what a word of denial denies: the next name, and the list that it begins.

    A list goes on over commas where `or` or `nor` closes it, and over `and` where a name follows at once.
    """
    word = items[start].word
    following = items[start + 1].word if start + 1 < len(items) else ""
    if (word, following) in _NO_DENIAL or (word in _NEEDS and following != _NEEDS[word]):
        return
    end = _end_of_clause(items, start + 1)
    last_or = max((i for i in range(start + 1, end) if items[i].word in ("or", "nor")), default=start)
    distance, denied = 0, False
    for position in range(start + 1, end):
        item = items[position]
        if item.term is not None:
            item.denied = denied = True
            distance = 0
            continue
        distance += 1
        at_once = position + 1 < end and items[position + 1].term is not None
        if (
            (item.word == "," and position > last_or)
            or (item.word == "and" and position > last_or and not at_once)
            or (item.word in _NEW_CLAUSE and denied)
            or distance > _REACH
        ):
            return


def _end_of_clause(items: Sequence[_Item], start: int) -> int:
    furthest = min(len(items), start + _LONGEST_CLAUSE)
    for position in range(start, furthest):
        if items[position].term is None and (items[position].word in _STOP or items[position].word in _CONTRAST):
            return position
    return furthest


def _is_denied_afterwards(items: Sequence[_Item], position: int) -> bool:
    """Whether `was absent`, `: no` or the like follows."""
    words: list[str] = []
    for item in items[position + 1 : position + 1 + _WORDS_AFTER]:
        if item.term is not None or item.word == "," or (item.word in _STOP and (item.word != ":" or words)):
            break
        words.append(item.word)
    return bool(_DENIED_AFTER.match(" ".join(words)))


def _deny_joined(items: list[_Item], position: int) -> None:
    """Marks a name, and those in front of it that `and`, `or` and commas join to it where the verb is plural."""
    items[position].denied = True
    plural = position + 1 < len(items) and items[position + 1].word in ("were", "are", "have")
    joined = False
    while plural and position >= 2 and items[position - 2].term is not None:
        mark = items[position - 1].word
        if mark not in ("and", "or", "nor", ","):
            return
        joined = joined or mark != ","
        if not joined:
            return
        position -= 2
        items[position].denied = True
