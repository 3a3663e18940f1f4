"""The strategy `listwise`: one pair per sample, the list of the k best against the list of the q worst."""

from __future__ import annotations

from itertools import islice
from typing import Any, Literal

from pydantic import Field

from mint_core.errors import ConfigError
from mint_core.interfaces import ComponentConfig, PreferenceStrategy
from mint_core.types import LabelSpace, PreferenceGroup, Ranking

Truth = Literal["promote", "swap", "replace-first"]


class ListwiseConfig(ComponentConfig):
    """Options of `listwise`."""

    k: int | None = Field(None, ge=1, description="Chosen labels; null = N, at most half of the label space.")
    q: int | None = Field(None, ge=1, description="Rejected labels; null = k. AoR = k / q.")
    truth: Truth = Field(
        "promote",
        description="Where a known true label goes: promote = to rank 1, the others keep their order; "
        "swap = it and the first change places; replace-first = it replaces the first.",
    )
    complete: bool = Field(
        True,
        description="Where N is larger than k, the chosen list goes on down the ranking to N labels, because a student "
        "that was trained on k entries writes k entries.",
    )


class Listwise(PreferenceStrategy):
    """One preference group per sample with k' = q' = 1: the list of the k best labels against that of the q worst.

    Where N is larger than k the chosen list is completed down the ranking, never with a rejected label. The rejected
    list holds the q worst labels in the teacher's order (so the least likely stands last), without the truth. A sample
    without a known truth keeps the teacher's order. Source: MINT, workshop paper, table 3.
    """

    name = "listwise"
    Config = ListwiseConfig
    config: ListwiseConfig

    def __init__(self, config: Any, labels: LabelSpace, n: int) -> None:
        super().__init__(config, labels, n)
        self.k: int = self.config.k or max(1, min(n, len(labels) // 2))
        self.q: int = self.config.q or min(self.k, max(1, len(labels) - self.k))
        if self.k + self.q > len(labels):
            half = len(labels) // 2
            raise ConfigError(
                f"strategy '{self.name}': k + q = {self.k} + {self.q} is larger than the label space "
                f"({len(labels)} labels); lower one, for example --set strategy.k={half} --set strategy.q={half}."
            )

    def groups(self, ranking: Ranking, truth: str | None) -> list[PreferenceGroup]:
        """One group: top-k, completed to N, against bottom-q."""
        top, bottom = self.top(ranking, truth), self.bottom(ranking, truth)
        length = self.n if self.config.complete else self.k
        between = (label for label in ranking.labels if label not in top and label not in bottom)
        chosen = (*top, *islice(between, max(0, length - self.k)))
        return [PreferenceGroup(ranking.sample_id, (chosen,), (bottom,))]

    def top(self, ranking: Ranking, truth: str | None) -> tuple[str, ...]:
        """The k best labels, the truth placed as the option `truth` says."""
        return place_truth(ranking.labels, truth, self.k, self.config.truth)

    def bottom(self, ranking: Ranking, truth: str | None) -> tuple[str, ...]:
        """The q worst labels that are not in the top list."""
        top = set(self.top(ranking, truth))
        return tuple(label for label in ranking.labels if label not in top)[-self.q :]


def place_truth(ranked: tuple[str, ...], truth: str | None, k: int, how: Truth) -> tuple[str, ...]:
    """The k best labels with the truth in front.

    Args:
        ranked: All labels, best first.
        truth: The true label, or None: then the teacher's order stands.
        k: Length of the result.
        how: `promote`, `swap` or `replace-first`.

    Returns:
        k distinct labels; a known truth stands first.
    """
    if truth is None:
        return ranked[:k]
    if how == "promote":
        return (truth, *(label for label in ranked if label != truth))[:k]
    if how == "swap":
        first = ranked[0]
        swapped = {first: truth, truth: first}
        return tuple(swapped.get(label, label) for label in ranked)[:k]
    return (truth, *(label for label in ranked[1:] if label != truth))[:k]
