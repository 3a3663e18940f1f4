"""Seam 3: from a ranking to preference groups."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from mint_core.interfaces.component import Component, ComponentConfig
from mint_core.types import PreferenceGroup, Ranking


class PreferenceStrategy(Component[ComponentConfig]):
    """Turns one ranking into preference groups.

    Clauses:
        1. Every group has at least one chosen and one rejected response, none of them empty.
        2. No label stands both in a chosen and in a rejected response of one group.
        3. A known true label is in the first chosen response and in no rejected one.
        4. `top` and `bottom` are disjoint, and `top` contains a known true label.
        5. The constructor refuses sizes that the label space cannot hold.
        6. Weights, where there are any, are one per response, none below 0, and sum to 1 (1e-4).
        7. All groups of one sample have first chosen responses of one length: a prompt asks for one number of labels.

    Raises:
        ConfigError: The options do not fit the label space, for example k + q is larger.
    """

    kind = "strategy"

    @property
    def n(self) -> int:
        """How many labels the student lists at inference (N)."""
        return self.context.n

    def fit(self, rankings: Sequence[Ranking], truths: Sequence[str | None]) -> None:
        """Looks at the whole training split before the first group. Strategies that need no overview leave it out.

        Args:
            rankings: The teacher's, one per training sample.
            truths: The true label of each, or None.
        """

    @abstractmethod
    def groups(self, ranking: Ranking, truth: str | None) -> list[PreferenceGroup]:
        """The preference groups of one training sample; without `fit`, what its ranking alone tells."""

    @abstractmethod
    def top(self, ranking: Ranking, truth: str | None) -> tuple[str, ...]:
        """T_i of CAR: the k preferred labels, with the truth placed as in training."""

    @abstractmethod
    def bottom(self, ranking: Ranking, truth: str | None) -> tuple[str, ...]:
        """B_i of CAR: the q labels to avoid."""
