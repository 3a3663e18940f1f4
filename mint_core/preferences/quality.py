"""What preferences are worth before anybody is trained on them: how right and how sure their teacher was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mint_core.interfaces import PreferenceStrategy
from mint_core.types import PreferenceGroup, Ranking

FLOOR = float(np.log(1e-9))
"""Log-probabilities below this count as this, so that a margin is finite."""
MEASURES = {
    "top_1": "the teacher's first label is the truth",
    "top_k": "the truth is among the k labels that the teacher prefers",
    "promoted": "the strategy moved the truth to the front: the teacher had another label there",
    "brought_in": "the strategy put the truth among the chosen labels: it was not among the teacher's k",
    "margin": "log-probability of the worst chosen label minus that of the best rejected one, in nats",
    "reversed": "that margin is below 0: the teacher holds a rejected label for likelier than a chosen one",
    "entropy": "entropy of the teacher's distribution over its largest possible value: 0 = sure, 1 = knows nothing",
}
"""What the values of a training sample are, by name; but for margin and entropy they are 1 or 0."""


def sample_values(
    strategy: PreferenceStrategy,
    rankings: Sequence[Ranking],
    truths: Sequence[str | None],
    groups: Mapping[str, Sequence[PreferenceGroup]],
) -> dict[str, list[float | None]]:
    """The values of `MEASURES` for every training sample; None where a sample has no known truth, or no preferences.

    Args:
        strategy: What made the groups.
        rankings: The teacher's, one per training sample; the truth is not placed in them.
        truths: The true label of each, or None.
        groups: The preference groups by sample id.
    """
    values: dict[str, list[float | None]] = {name: [] for name in MEASURES}
    for ranking, truth in zip(rankings, truths, strict=True):
        one = _values(ranking, truth, strategy.top(ranking, None), groups.get(ranking.sample_id, ()))
        for name, found in values.items():
            found.append(one.get(name))
    return values


def _values(
    ranking: Ranking, truth: str | None, top: Sequence[str], groups: Sequence[PreferenceGroup]
) -> dict[str, float]:
    p = np.exp(ranking.log_probs.astype(np.float64))
    found = {"entropy": float(-np.sum(p * np.log(np.where(p > 0, p, 1.0))) / np.log(len(p)))} if len(p) > 1 else {}
    if truth is not None:
        found |= {"top_1": float(ranking.labels[0] == truth), "top_k": float(truth in top)}
    if not groups:
        return found
    log_probs = dict(zip(ranking.labels, np.maximum(ranking.log_probs, FLOOR).tolist(), strict=True))
    margins = [
        min(log_probs[label] for response in group.chosen for label in response)
        - max(log_probs[label] for response in group.rejected for label in response)
        for group in groups
    ]
    found |= {"margin": float(np.mean(margins)), "reversed": float(np.mean([margin < 0 for margin in margins]))}
    if truth is not None:
        chosen = {label for group in groups for response in group.chosen for label in response}
        found["promoted"] = float(ranking.labels[0] != truth and all(group.answer == truth for group in groups))
        found["brought_in"] = float(truth not in top and truth in chosen)
    return found
