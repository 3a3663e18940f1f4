"""The strategy `pairwise`: k x q pairs of single labels per sample, with a weight per chosen label."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mint_core.preferences.topk import TopK, TopKConfig
from mint_core.types import PreferenceGroup, Ranking

Rule = Literal["uniform", "teacher"]


class WeightedConfig(TopKConfig):
    """Options of strategies whose responses are single labels."""

    weights: Rule = Field(
        "uniform",
        description="Share of each chosen label in the loss: uniform = all alike; teacher = the teacher's probability "
        "of the label, renormalised over the chosen ones.",
    )
    truth_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of a known true label; the other chosen labels divide the rest by `weights`. "
        "Null = `weights` alone decides.",
    )


class Pairwise(TopK):
    """One preference group per sample with k' = k and q' = q responses of one label each: k x q pairs.

    Source: MINT, workshop paper, algorithm 1, which pairs every preferred with every rejected label and weighs all
    pairs alike (`weights: uniform`). Uniform weights tell the student that k labels are equally right; `teacher` and
    `truth_share` do not. A chosen label whose weight is 0 is left out, unless it is the truth.
    """

    name = "pairwise"
    Config = WeightedConfig
    config: WeightedConfig

    def group(self, ranking: Ranking, truth: str | None) -> PreferenceGroup:
        """One group: each of the top-k labels against each of the bottom-q."""
        top, bottom = self.top(ranking, truth), self.bottom(ranking, truth)
        return single_labels(ranking, truth, top, bottom, self.config)


def single_labels(
    ranking: Ranking, truth: str | None, chosen: tuple[str, ...], rejected: tuple[str, ...], config: WeightedConfig
) -> PreferenceGroup:
    """A group whose responses are single labels, best first; a known truth is the first of `chosen`."""
    share = None if truth is None else config.truth_share
    if config.weights == "uniform" and share is None:
        return PreferenceGroup(ranking.sample_id, _alone(chosen), _alone(rejected))
    if share is None or len(chosen) == 1:
        shares = _by_rule(ranking, chosen, config.weights)
    else:
        shares = [share, *((1 - share) * rest for rest in _by_rule(ranking, chosen[1:], config.weights))]
    kept = {label: share for label, share in zip(chosen, shares, strict=True) if share > 0 or label == truth}
    return PreferenceGroup(ranking.sample_id, _alone(tuple(kept)), _alone(rejected), tuple(kept.values()))


def _by_rule(ranking: Ranking, labels: tuple[str, ...], rule: Rule) -> list[float]:
    """Equal shares, or the teacher's probabilities renormalised; labels that it rules out altogether share alike."""
    import numpy as np

    if rule == "teacher":
        log_probs = dict(zip(ranking.labels, ranking.log_probs, strict=True))
        values = np.array([log_probs[label] for label in labels], np.float64)
        if np.isfinite(values).any():
            raised = np.exp(values - values.max())
            return [float(share) for share in raised / raised.sum()]
    return [1 / len(labels)] * len(labels)


def _alone(labels: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple((label,) for label in labels)
