"""The strategy `listwise`: one pair per sample, the list of the k best labels against the list of the q worst."""

from __future__ import annotations

from pydantic import Field

from mint_core.preferences.topk import TopK, TopKConfig, others
from mint_core.types import PreferenceGroup, Ranking


class ListwiseConfig(TopKConfig):
    """Options of `listwise`."""

    complete: bool = Field(
        True,
        description="Where N is larger than k, the chosen list goes on down the ranking to N labels, because a student "
        "that was trained on k entries writes k entries.",
    )


class Listwise(TopK):
    """One preference group per sample with k' = q' = 1: the list of the k best labels against that of the q worst.

    Where N is larger than k the chosen list is completed down the ranking, never with a rejected label. The rejected
    list holds the q worst labels in the teacher's order (so the least likely stands last), without the truth. A sample
    without a known truth keeps the teacher's order. Source: MINT, workshop paper, table 3.
    """

    name = "listwise"
    Config = ListwiseConfig
    config: ListwiseConfig

    def group(self, ranking: Ranking, truth: str | None) -> PreferenceGroup:
        """One group: top-k, completed to N, against bottom-q."""
        top, bottom = self.top(ranking, truth), self.bottom(ranking, truth)
        length = self.n if self.config.complete else self.k
        chosen = (*top, *others(ranking.labels, (*top, *bottom))[: max(0, length - self.k)])
        return PreferenceGroup(ranking.sample_id, (chosen,), (bottom,))
