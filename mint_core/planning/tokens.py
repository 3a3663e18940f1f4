"""What a group, a step and an epoch cost in tokens, by the way in which its rows are laid out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mint_core.interfaces import Layout
from mint_core.planning.lengths import GroupLengths


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of the same groups in each layout, padding left out.

    With k chosen and q rejected responses of L tokens behind P prompt tokens these are P + (k + q)L, (k + q)(P + L)
    and 2kq(P + L) per group; the sums here take every prompt and every response at its own length.
    """

    shared: float
    """One row per prompt that holds it once."""
    distinct: float
    """One row per response."""
    expanded: float
    """Two rows per chosen x rejected pair; where nothing is rejected, one per chosen response."""

    def of(self, layout: Layout) -> float:
        """Tokens of one layout."""
        return float(getattr(self, layout))

    def times(self, factor: float) -> Tokens:
        """The same for another number of groups."""
        return Tokens(self.shared * factor, self.distinct * factor, self.expanded * factor)


def pairs_of(group: GroupLengths, *, rejected: bool) -> int:
    """Chosen x rejected pairs; chosen responses where nothing is rejected."""
    return len(group.chosen) * (len(group.rejected) if rejected else 1)


def count(groups: Iterable[GroupLengths], *, rejected: bool) -> Tokens:
    """Sums over groups.

    Args:
        groups: Token lengths.
        rejected: Whether the loss reads the rejected responses.
    """
    shared = distinct = expanded = 0
    for group in groups:
        prompt, k, q = group.prompt.after, len(group.chosen), len(group.rejected) if rejected else 0
        liked, disliked = sum(group.chosen), sum(group.rejected) if rejected else 0
        shared += prompt + liked + disliked
        distinct += (k + q) * prompt + liked + disliked
        expanded += 2 * k * q * prompt + q * liked + k * disliked if rejected else k * prompt + liked
    return Tokens(shared, distinct, expanded)
