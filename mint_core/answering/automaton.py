"""Which tokens may follow where only N distinct known labels can be written, in the task's format.

A response is cut into what stands before the first number, and one piece per entry: `1. Colon` and what ends its line,
or its turn after the last one. The pieces are taken from tokenised whole texts, so that they hold the tokens that the
student was trained on, also where its tokenizer joins the end of a name and the end of the line. All pieces that may
stand in one place form a trie. No piece can begin with another, since each includes its end: a label whose name begins
with another's is no special case.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mint_core.answering.trie import common
from mint_core.errors import ModelError
from mint_core.students.encoding import encode_response

if TYPE_CHECKING:
    from mint_core.interfaces import Student
    from mint_core.types import LabelSpace

Ints = NDArray[np.int64]
_SOME = 256
"""About as many labels are tokenised in every place of the list, to see whether the place makes a difference."""


@dataclass(frozen=True, slots=True)
class Automaton:
    """Tries of all places in flat arrays. The children of node i are the entries `starts[i]` to `starts[i + 1]`."""

    head: list[int]
    """Tokens in front of the first entry; the same in every response."""
    roots: Ints
    """(N,): node in which each entry begins."""
    starts: Ints
    """(nodes + 1,)"""
    tokens: Ints
    """(edges,)"""
    children: Ints
    """(edges,): the node that each edge leads to."""
    label: Ints
    """(nodes,): the label whose entry is complete there; -1 within an entry."""
    open: Ints
    """(nodes,): labels that can still be reached from there, as long as none is used."""
    paths: Ints
    """(labels, longest): the nodes that count a label, padded with the last node, which is reached from nowhere."""
    longest: int
    """Tokens of the longest response, `head` not counted."""


def automaton(
    student: Student, labels: LabelSpace, header: str, n: int, *, end_of_turn: str, stops: Collection[int]
) -> Automaton:
    """Builds the automaton of all responses with n labels; `stops` are the tokens that end a response.

    Raises:
        ModelError: The tokenizer writes two labels alike, or a response has no end.
    """
    places = [*_in_context(student, labels, header, n), _last(student, labels, f"{header}\n{n}. ", end_of_turn)]
    head = _shared([piece for pieces in places for piece in pieces])
    found = _flatten(head, [[piece[len(head) :] for piece in pieces] for pieces in places], stops)
    if found is None:  # the tokenizer joins the end of a line and the next number
        head = _encode(student, [f"{header}\n"])[0]
        inner = [_encode(student, [f"{place}. {name}\n" for name in labels.names]) for place in range(1, n)]
        found = _flatten(head, [*inner, _last(student, labels, f"{n}. ", end_of_turn)], stops)
    if found is None:
        raise ModelError(
            f"The tokenizer of {student.source} cannot tell the labels or the ends of their lines apart, so that "
            "decode=constrained cannot write them; use --set predict.decode=score."
        )
    return found


def _in_context(student: Student, labels: LabelSpace, header: str, n: int) -> list[list[list[int]]]:
    """Per place but the last and per label: header and entry, up to where the next number makes a difference."""
    if n == 1:
        return []
    first = _entries(student, labels.names, header, 1)
    lead = len(_shared(first))
    tails = [piece[lead:] for piece in first]
    places = [first]
    for place in range(2, n):
        some = range(0, len(labels), max(1, len(labels) // _SOME))
        pieces = _entries(student, [labels.names[label] for label in some], header, place)
        number = pieces[0][: len(pieces[0]) - len(tails[0])]
        if pieces == [number + tails[label] for label in some]:
            places.append([number + tail for tail in tails])
        else:
            places.append(_entries(student, labels.names, header, place))
    return places


def _entries(student: Student, names: Sequence[str], header: str, place: int) -> list[list[int]]:
    one, two = (_encode(student, [f"{header}\n{place}. {name}\n{number}. x" for name in names]) for number in (1, 2))
    return [common(*both) for both in zip(one, two, strict=True)]


def _shared(pieces: list[list[int]]) -> list[int]:
    """What all pieces begin with, one token at least being left of each."""
    return reduce(common, pieces)[: min(map(len, pieces)) - 1]


def _last(student: Student, labels: LabelSpace, lead: str, end_of_turn: str) -> list[list[int]]:
    return [encode_response(student, lead + name, end_of_turn) for name in labels.names]


def _encode(student: Student, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = student.tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


def _ended(piece: list[int], stops: Collection[int]) -> list[int] | None:
    """Up to the first token that ends a response; None where there is none."""
    stop = next((at for at, token in enumerate(piece) if token in stops), None)
    return None if stop is None else piece[: stop + 1]


class _Nodes:
    """Tries under construction."""

    def __init__(self) -> None:
        self.edges: list[dict[int, int]] = []
        self.label: list[int] = []
        self.open: list[int] = []

    def add(self) -> int:
        self.edges.append({})
        self.label.append(-1)
        self.open.append(0)
        return len(self.edges) - 1

    def insert(self, root: int, piece: Sequence[int], label: int) -> list[int] | None:
        """The nodes on the way, the root included; None where another label's way ends on it."""
        way = [root]
        for token in piece:
            node = way[-1]
            if self.label[node] >= 0:
                return None
            if token not in self.edges[node]:
                self.edges[node][token] = self.add()
            way.append(self.edges[node][token])
        if self.label[way[-1]] >= 0 or self.edges[way[-1]]:
            return None
        self.label[way[-1]] = label
        for node in way:
            self.open[node] += 1
        return way


def _flatten(head: list[int], places: Sequence[list[list[int]]], stops: Collection[int]) -> Automaton | None:
    """The automaton of these pieces; None where they do not decide what was written."""
    last = [_ended(piece, stops) for piece in places[-1]]
    if any(piece is None for piece in last) or any(_ended(p, stops) for pieces in places[:-1] for p in pieces):
        return None
    places = [*places[:-1], [piece for piece in last if piece is not None]]
    nodes, known, roots = _Nodes(), dict[tuple[tuple[int, ...], ...], int](), list[int]()
    ways: list[list[int]] = [[] for _ in places[-1]]
    for pieces in places:
        lead = reduce(common, pieces) if len(pieces) > 1 else []  # the number; the names behind it are one trie for all
        own = [piece[len(lead) :] for piece in pieces]
        key = tuple(map(tuple, own))
        root = known.get(key)
        if root is None:
            root = known[key] = nodes.add()
            for label, piece in enumerate(own):
                way = nodes.insert(root, piece, label)
                if way is None:
                    return None
                ways[label] += way
        roots.append(_lead(nodes, lead, root, len(pieces)))
    nowhere = nodes.add()
    width = max(map(len, ways))
    return Automaton(
        head=head,
        roots=np.array(roots),
        starts=np.cumsum([0, *map(len, nodes.edges)]),
        tokens=np.array([token for edges in nodes.edges for token in edges], dtype=np.int64),
        children=np.array([child for edges in nodes.edges for child in edges.values()], dtype=np.int64),
        label=np.array(nodes.label),
        open=np.array(nodes.open),
        paths=np.array([way + [nowhere] * (width - len(way)) for way in ways]),
        longest=sum(max(map(len, pieces)) for pieces in places),
    )


def _lead(nodes: _Nodes, lead: Sequence[int], target: int, count: int) -> int:
    """A chain of nodes that leads to `target`, and never runs out of labels."""
    for token in reversed(lead):
        node = nodes.add()
        nodes.edges[node][token] = target
        nodes.open[node] = count + 1
        target = node
    return target
