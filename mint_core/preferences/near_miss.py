"""The strategy `near-miss`: what is rejected is nearly right, because the bottom of a ranking is easy to reject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from mint_core.errors import ConfigError
from mint_core.interfaces import Context
from mint_core.preferences.topk import TopK, WeightedConfig, others, single_labels
from mint_core.types import PreferenceGroup, Ranking

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class NearMissConfig(WeightedConfig):
    """Options of `near-miss`."""

    rejected: Literal["below", "confusions"] = Field(
        "below",
        description="below = the q labels that follow the chosen ones in the ranking; confusions = the q labels that "
        "the teacher confuses with the true one, over the whole training split.",
    )
    responses: Literal["list", "single"] = Field(
        "list", description="list = one list against one list, as `listwise`; single = k x q labels, as `pairwise`."
    )
    complete: bool = Field(
        True, description="Lists: where N is larger than k, the chosen list goes on down the ranking to N labels."
    )


class NearMiss(TopK):
    """As `listwise` or `pairwise`, with near misses in place of the bottom-q.

    `below` rejects the q labels that follow the chosen ones. `confusions` rejects what the teacher takes for the true
    label, or the true label for: with m[t, l] the mean of p(l | sample) over the training samples whose truth is t, the
    q labels outside of the chosen ones with the largest m[t, l] + m[l, t]; ties keep the teacher's order. A sample
    without a known truth takes the mean of these over the teacher's p(t | sample). CAR's top and bottom stay the
    teacher's top-k and bottom-q.
    """

    name = "near-miss"
    Config = NearMissConfig
    config: NearMissConfig

    def __init__(self, config: Any = None, context: Context | None = None) -> None:
        super().__init__(config, context)
        self.confusion: NDArray[np.float64] | None = None
        """(labels, labels): m + its transpose, where the training split was seen."""
        weighted = self.config.weights != "uniform" or self.config.truth_share is not None
        if weighted and self.config.responses == "list":
            raise ConfigError(
                "strategy 'near-miss': a list is one response, so `weights` and `truth_share` mean nothing for it; "
                "leave them out, or --set strategy.responses=single."
            )

    def fit(self, rankings: Sequence[Ranking], truths: Sequence[str | None]) -> None:
        """Counts the teacher's confusions over the training split."""
        import numpy as np

        if self.config.rejected != "confusions":
            return
        size = len(self.labels)
        sums, counts = np.zeros((size, size)), np.zeros((size, 1))
        for ranking, truth in zip(rankings, truths, strict=True):
            if truth is not None:
                sums[self.labels.index(truth)] += self._probabilities(ranking)
                counts[self.labels.index(truth)] += 1
        mean = sums / np.maximum(counts, 1)
        self.confusion = mean + mean.T

    def group(self, ranking: Ranking, truth: str | None) -> PreferenceGroup:
        """One group: the chosen labels against q near misses."""
        top = self.top(ranking, truth)
        if self.config.responses == "single":
            return single_labels(ranking, truth, top, self.near(ranking, truth, top), self.config)
        length = min(self.n, len(self.labels) - self.q) if self.config.complete else self.k
        chosen = (*top, *others(ranking.labels, top)[: max(0, length - self.k)])
        return PreferenceGroup(ranking.sample_id, (chosen,), (self.near(ranking, truth, chosen),))

    def near(self, ranking: Ranking, truth: str | None, chosen: tuple[str, ...]) -> tuple[str, ...]:
        """The q near misses among the labels that are not chosen, nearest first."""
        below = others(ranking.labels, chosen)
        if self.confusion is None:
            return below[: self.q]
        p = self._probabilities(ranking)
        scores = p @ self.confusion if truth is None else self.confusion[self.labels.index(truth)]
        return tuple(sorted(below, key=lambda label: -scores[self.labels.index(label)]))[: self.q]

    def _probabilities(self, ranking: Ranking) -> NDArray[np.float64]:
        """(labels,) in the order of the label space."""
        import numpy as np

        p = np.zeros(len(self.labels))
        p[[self.labels.index(label) for label in ranking.labels]] = np.exp(ranking.log_probs.astype(np.float64))
        return p
