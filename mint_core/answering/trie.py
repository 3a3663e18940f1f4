"""The labels as token tries: what several labels begin with is one path."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial, reduce
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from mint_core.students.encoding import encode_response, end_token
from mint_core.students.prompts import write_response

if TYPE_CHECKING:
    from mint_core.interfaces import Student
    from mint_core.types import LabelSpace

T = TypeVar("T")
_KNOWN: WeakKeyDictionary[Any, dict[Hashable, Any]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Branches:
    """Every way to write every label, cut in front of the last token: that one is looked up, never computed with."""

    paths: list[list[int]]
    """Per branch: tokens behind what all responses begin with."""
    closers: list[list[int]]
    """Per branch: the tokens of which one must follow."""
    of_label: list[list[int]]
    """Per label: its branches, filled up with the number of all branches to the same length."""


@dataclass(frozen=True)
class Candidates:
    """The labels as tokens behind what all responses begin with."""

    shared: list[int]
    """Header and number of the first entry."""
    tails: list[list[int]]
    """Per label: its own tokens, as far as they do not depend on what follows the name."""
    ends: list[list[list[int]]]
    """Per label: the token sequences of which one must follow, up to the end of the turn or of the line.

    One token each, unless the tokenizer joins the last mark of a name and the line break: `)` and the end of the turn,
    or `)` and the line break in one. None begins with another, so that their probabilities add up.
    """

    @property
    def longest(self) -> int:
        """Tokens of the longest label with what stands in front of it and its end."""
        ends = (max(map(len, ends)) for ends in self.ends)
        return len(self.shared) + max(len(tail) + end for tail, end in zip(self.tails, ends, strict=True))

    @property
    def tokens(self) -> list[int]:
        """Per label: its own tokens with its shortest end."""
        return [len(tail) + min(map(len, ends)) for tail, ends in zip(self.tails, self.ends, strict=True)]

    @cached_property
    def branches(self) -> Branches:
        """The labels with their ends as branches of a trie."""
        paths, closers, of_label = list[list[int]](), list[list[int]](), list[list[int]]()
        for tail, ends in zip(self.tails, self.ends, strict=True):
            own: dict[tuple[int, ...], list[int]] = {}
            for *inner, last in ends:
                own.setdefault(tuple(inner), []).append(last)
            of_label.append(list(range(len(paths), len(paths) + len(own))))
            paths += [[*tail, *inner] for inner in own]
            closers += own.values()
        width = max(map(len, of_label))
        return Branches(paths, closers, [own + [len(paths)] * (width - len(own)) for own in of_label])

    def some(self, columns: Sequence[int]) -> Candidates:
        """Those of a few labels."""
        return Candidates(self.shared, [self.tails[c] for c in columns], [self.ends[c] for c in columns])


def once(model: Any, key: Hashable, make: Callable[[], T]) -> T:
    """What `make` returned when it was first asked for, kept as long as the model lives: callers come batch by batch.

    Args:
        model: The model that it belongs to.
        key: What it depends on beside the model.
        make: Works it out; what it returns must not refer to the model, which would then live for ever.
    """
    found = _KNOWN.setdefault(model, {})
    if key not in found:
        found[key] = make()
    known: T = found[key]
    return known


def candidates(student: Student, labels: LabelSpace, header: str, end_of_turn: str) -> Candidates:
    """The labels as the first entry of a response, in the student's tokens."""
    make = partial(_candidates, student, labels, header, end_of_turn)
    return once(student.model, ("candidates", student.tokenizer, labels, header, end_of_turn), make)


def _candidates(student: Student, labels: LabelSpace, header: str, end_of_turn: str) -> Candidates:
    alone = [encode_response(student, write_response(header, (name,)), end_of_turn) for name in labels.names]
    longer = [encode_response(student, write_response(header, (name, "x")), "") for name in labels.names]
    # Where the list goes on, the tokens are the same up to the end of the name, unless the tokenizer merges across it.
    stems = [common(one, two) for one, two in zip(alone, longer, strict=True)]
    stop = end_token(student, end_of_turn)
    stop = student.tokenizer.eos_token_id if stop is None else stop
    breaks = cache(lambda token: "\n" in student.tokenizer.decode([token]))
    ends = []
    for one, two, stem in zip(alone, longer, stems, strict=True):
        rest, further = one[len(stem) :], two[len(stem) :]
        turn = rest[: rest.index(stop) + 1] if stop in rest else rest
        # Without a line break behind the stem, the stem holds it (or the tokenizer drops it): the next token decides.
        line = further[: next((at for at, token in enumerate(further) if breaks(token)), 0) + 1]
        ends.append(_prefix_free([turn, line]))
    shared = reduce(common, stems)
    return Candidates(shared, [stem[len(shared) :] for stem in stems], ends)


def _prefix_free(sequences: Sequence[list[int]]) -> list[list[int]]:
    """Those that begin with no other one; empty and repeated ones are left out."""
    kept: list[list[int]] = []
    for one in sorted(filter(None, sequences), key=len):
        if not any(one[: len(other)] == other for other in kept):
            kept.append(one)
    return kept


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
    """Some paths as a trie. Nodes are numbered so that a parent comes before its children; the root has no number."""

    columns: list[int]
    """Places in the list of all paths."""
    tokens: list[int]
    """Per node."""
    parents: list[int]
    """Per node; -1 is the root: the last token in front of the paths."""
    depths: list[int]
    """Per node; 0 for the children of the root."""
    last: list[int]
    """Per path: the node of its last token."""


def tries(paths: Sequence[Sequence[int]], budget: int) -> Iterator[Trie]:
    """Paths of tokens in tries of at most `budget` nodes each; a path that is longer has one of its own.

    What several tries begin with is in each of them.
    """
    order = sorted(range(len(paths)), key=lambda column: list(paths[column]))
    trie, nodes = Trie([], [], [], [], []), list[int]()
    previous: Sequence[int] = ()
    for column in order:
        path = paths[column]
        known = len(common(list(previous), list(path)))
        if trie.columns and len(trie.tokens) + len(path) - known > budget:
            yield trie
            trie, nodes, known = Trie([], [], [], [], []), [], 0
        del nodes[known:]
        for depth in range(known, len(path)):
            trie.tokens.append(path[depth])
            trie.parents.append(nodes[-1] if nodes else -1)
            trie.depths.append(depth)
            nodes.append(len(trie.tokens) - 1)
        trie.columns.append(column)
        trie.last.append(nodes[-1] if nodes else -1)
        previous = path
    yield trie
