"""The labels as token tries: what several labels begin with is one path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING

from mint_core.inference.known import once
from mint_core.students.encoding import encode_response
from mint_core.students.prompts import write_response

if TYPE_CHECKING:
    from mint_core.students.student import Student
    from mint_core.types import LabelSpace


@dataclass(frozen=True, slots=True)
class Candidates:
    """The labels as tokens behind what all responses begin with."""

    shared: list[int]
    """Header and number of the first entry."""
    tails: list[list[int]]
    """Per label: its own tokens."""
    ends: list[list[int]]
    """Per label: the tokens of which one may follow, because the response or the entry ends there."""

    @property
    def longest(self) -> int:
        """Tokens of the longest label with what stands in front of it and its end."""
        return len(self.shared) + max(map(len, self.tails)) + 1

    def some(self, columns: Sequence[int]) -> Candidates:
        """Those of a few labels."""
        return Candidates(self.shared, [self.tails[c] for c in columns], [self.ends[c] for c in columns])


def candidates(student: Student, labels: LabelSpace, header: str, end_of_turn: str) -> Candidates:
    """The labels as the first entry of a response, in the student's tokens.

    Args:
        student: Its tokenizer counts.
        labels: The label space.
        header: First line of a response.
        end_of_turn: What the chat format writes after a response.
    """
    make = partial(_candidates, student, labels, header, end_of_turn)
    return once(student.model, ("candidates", student.tokenizer, labels, header, end_of_turn), make)


def _candidates(student: Student, labels: LabelSpace, header: str, end_of_turn: str) -> Candidates:
    alone = [encode_response(student, write_response(header, (name,)), end_of_turn) for name in labels.names]
    longer = [encode_response(student, write_response(header, (name, "x")), "") for name in labels.names]
    # Where the list goes on, the tokens are the same up to the end of the name, unless the tokenizer merges across it.
    stems = [common(one, two) for one, two in zip(alone, longer, strict=True)]
    ends = [sorted({one[len(s)], two[len(s)]}) for one, two, s in zip(alone, longer, stems, strict=True)]
    shared = reduce(common, stems)
    return Candidates(shared, [stem[len(shared) :] for stem in stems], ends)


def common(one: list[int], two: list[int]) -> list[int]:
    """What both begin with, found by halving: slices are compared faster than single tokens."""
    low, high = 0, min(len(one), len(two))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == two[low:middle]:
            low = middle
        else:
            high = middle - 1
    return one[:low]


@dataclass(frozen=True, slots=True)
class Trie:
    """Some labels as a trie. Nodes are numbered so that a parent comes before its children; the root has no number."""

    columns: list[int]
    """Places in the label space."""
    tokens: list[int]
    """Per node."""
    parents: list[int]
    """Per node; -1 is the root: the last token in front of the labels."""
    depths: list[int]
    """Per node; 0 for the children of the root."""
    last: list[int]
    """Per label: the node of its last token."""


def tries(tails: Sequence[Sequence[int]], budget: int) -> Iterator[Trie]:
    """The labels in tries of at most `budget` nodes each; a label that is longer has one of its own.

    Args:
        tails: Per label: its own tokens.
        budget: Nodes per trie; what several tries begin with is in each of them.
    """
    order = sorted(range(len(tails)), key=lambda column: list(tails[column]))
    trie, path = Trie([], [], [], [], []), list[int]()
    previous: Sequence[int] = ()
    for column in order:
        tail = tails[column]
        known = len(common(list(previous), list(tail)))
        if trie.columns and len(trie.tokens) + len(tail) - known > budget:
            yield trie
            trie, path, known = Trie([], [], [], [], []), [], 0
        del path[known:]
        for depth in range(known, len(tail)):
            trie.tokens.append(tail[depth])
            trie.parents.append(path[-1] if path else -1)
            trie.depths.append(depth)
            path.append(len(trie.tokens) - 1)
        trie.columns.append(column)
        trie.last.append(path[-1] if path else -1)
        previous = tail
    yield trie
