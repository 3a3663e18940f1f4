"""What the built-in strategies share: the teacher's k best labels with the truth placed, and its q worst."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

from pydantic import Field

from mint_core.errors import ConfigError
from mint_core.interfaces import ComponentConfig, Context, PreferenceStrategy
from mint_core.types import PreferenceGroup, Ranking

Truth = Literal["promote", "swap", "replace-first"]


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
