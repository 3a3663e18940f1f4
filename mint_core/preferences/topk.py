"""Strategies with the teacher's k best labels, the truth placed among them, and its q worst.

`listwise` makes one list of each, `pairwise` k x q pairs of single labels.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

from pydantic import Field

from mint_core.errors import ConfigError
from mint_core.interfaces import ComponentConfig, Context, PreferenceStrategy
from mint_core.types import PreferenceGroup, Ranking

Truth = Literal["promote", "swap", "replace-first"]
Rule = Literal["uniform", "teacher"]


class TopKConfig(ComponentConfig):
    """Options of every strategy with k chosen and q rejected labels."""

    k: int | None = Field(
        None, ge=1, le=100_000, description="Configured labels; null = N, at most half of the label space."
    )
    q: int | None = Field(None, ge=1, le=100_000, description="Rejected labels; null = k. AoR = k / q.")
    truth: Truth = Field(
        "promote",
        description="Where a known true label goes: promote = to rank 1, the others keep their order; "
        "swap = it and the first change places; replace-first = it replaces the first.",
    )
    unlabelled: Literal["rank", "skip"] = Field(
        "rank",
        description="Training samples without a known true label: rank = the teacher's order makes their preferences; "
        "skip = they have none.",
    )


class TopK(PreferenceStrategy):
    """A strategy with k chosen and q rejected labels, whatever it makes of them.

    Args:
        config: A validated `Config` of TopKConfig's kind.
        context: The label space, and how many labels the student lists.

    Raises:
        ConfigError: k + q is larger than the label space.
    """

    Config: ClassVar[type[Any]] = TopKConfig
    config: TopKConfig

    def __init__(self, config: Any = None, context: Context | None = None) -> None:
        super().__init__(config, context)
        labels, n = self.labels, self.n
        self.k: int = self.config.k or max(1, min(n, len(labels) // 2))
        self.q: int = self.config.q or min(self.k, max(1, len(labels) - self.k))
        if self.k + self.q > len(labels):
            half = len(labels) // 2
            raise ConfigError(
                f"strategy '{self.name}': k + q = {self.k} + {self.q} is larger than the label space "
                f"({len(labels)} labels); lower one, for example --set strategy.k={half} --set strategy.q={half}."
            )

    def groups(self, ranking: Ranking, truth: str | None) -> list[PreferenceGroup]:
        """One group, or none where the truth is unknown and such samples are skipped."""
        return [] if truth is None and self.config.unlabelled == "skip" else [self.group(ranking, truth)]

    @abstractmethod
    def group(self, ranking: Ranking, truth: str | None) -> PreferenceGroup:
        """The preference group of one training sample.

        Args:
            ranking: The teacher's order of all labels.
            truth: The true label, or None where it is unknown.
        """

    def top(self, ranking: Ranking, truth: str | None) -> tuple[str, ...]:
        """The k best labels, the truth placed as the option `truth` says."""
        return place_truth(ranking.labels, truth, self.k, self.config.truth)

    def bottom(self, ranking: Ranking, truth: str | None) -> tuple[str, ...]:
        """The q worst labels that are not in the top list."""
        return others(ranking.labels, self.top(ranking, truth))[-self.q :]


def others(ranked: tuple[str, ...], without: tuple[str, ...]) -> tuple[str, ...]:
    """The labels that are not in `without`, in order."""
    taken = set(without)
    return tuple(label for label in ranked if label not in taken)


def place_truth(ranked: tuple[str, ...], truth: str | None, k: int, how: Truth) -> tuple[str, ...]:
    """The k best of all labels, which come best first; a known truth stands in front of them."""
    if truth is None:
        return ranked[:k]
    if how == "swap":
        swapped = {ranked[0]: truth, truth: ranked[0]}
        return tuple(swapped.get(label, label) for label in ranked)[:k]
    rest = ranked if how == "promote" else ranked[1:]
    return (truth, *others(rest, (truth,)))[:k]


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
