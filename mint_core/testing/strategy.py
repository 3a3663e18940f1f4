"""The clauses of a preference strategy. Each check takes its class, which it makes with options of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from mint_core.errors import ConfigError
from mint_core.interfaces import Context, PreferenceStrategy
from mint_core.testing.clauses import Check, require
from mint_core.testing.material import LABELS, ranking
from mint_core.types import PreferenceGroup, Ranking

_N = 2


class Case(NamedTuple):
    """A ranking, the truth where it is known, and what was made of them."""

    strategy: PreferenceStrategy
    ranking: Ranking
    truth: str | None
    groups: list[PreferenceGroup]


def _made(component: type[PreferenceStrategy], **options: Any) -> PreferenceStrategy:
    return component(component.Config(**options), Context(labels=LABELS, n=_N))


def _cases(component: type[PreferenceStrategy]) -> Iterator[Case]:
    """20 rankings, each with every truth and with none."""
    for seed in range(20):
        for truth in (None, *LABELS.names):
            strategy, ranked = _made(component), ranking(LABELS, seed)
            yield Case(strategy, ranked, truth, strategy.groups(ranked, truth))


def strategy_1_responses(component: type[PreferenceStrategy]) -> None:
    """Both sides of a group hold responses, and a response labels."""
    for case in _cases(component):
        require(case.groups, "strategy 1", "no group was made")
        for group in case.groups:
            require(group.chosen and group.rejected, "strategy 1", "a side of a group is empty")
            require(all((*group.chosen, *group.rejected)), "strategy 1", "a response is empty")


def strategy_2_one_side(component: type[PreferenceStrategy]) -> None:
    """A label stands on one side."""
    for group in (group for case in _cases(component) for group in case.groups):
        chosen = {label for response in group.chosen for label in response}
        both = chosen & {label for response in group.rejected for label in response}
        require(not both, "strategy 2", f"{', '.join(sorted(both))}: chosen and rejected in one group")


def strategy_3_truth(component: type[PreferenceStrategy]) -> None:
    """A known truth is preferred, and never rejected."""
    for case in _cases(component):
        if case.truth is None:
            continue
        first = any(case.truth in response for group in case.groups for response in group.chosen[:1])
        require(first, "strategy 3", "the truth is in no first chosen response")
        rejected = any(case.truth in response for group in case.groups for response in group.rejected)
        require(not rejected, "strategy 3", "the truth is rejected")


def strategy_4_top_and_bottom(component: type[PreferenceStrategy]) -> None:
    """The two lists that CAR reads are apart, and the truth is in the first."""
    for strategy, ranked, truth, _ in _cases(component):
        top, bottom = strategy.top(ranked, truth), strategy.bottom(ranked, truth)
        require(truth is None or truth in top, "strategy 4", "the truth is not in top")
        require(not set(top) & set(bottom), "strategy 4", "top and bottom overlap")


def strategy_5_sizes(component: type[PreferenceStrategy]) -> str | None:
    """Sizes that the label space cannot hold are refused."""
    if not {"k", "q"} <= set(component.Config.model_fields):
        return "it has no options k and q"
    try:
        _made(component, k=len(LABELS), q=1)
    except ConfigError:
        return None
    raise AssertionError("strategy 5: k + q larger than the label space was accepted")


def strategy_6_weights(component: type[PreferenceStrategy]) -> None:
    """Weights fit the responses and sum to 1."""
    for group in (group for case in _cases(component) for group in case.groups):
        for responses, weights in ((group.chosen, group.chosen_weights), (group.rejected, group.rejected_weights)):
            require(len(weights) in (0, len(responses)), "strategy 6", "not one weight per response")
            require(all(weight >= 0 for weight in weights), "strategy 6", "a weight is below 0")
            require(not weights or abs(sum(weights) - 1) < 1e-4, "strategy 6", "weights do not sum to 1")


def strategy_7_one_length(component: type[PreferenceStrategy]) -> None:
    """The groups of one sample ask for lists of one length."""
    for case in _cases(component):
        lengths = {len(response) for group in case.groups for response in group.chosen[:1]}
        require(len(lengths) < 2, "strategy 7", f"first chosen responses of {sorted(lengths)} labels")


STRATEGY_CHECKS: tuple[Check, ...] = (
    strategy_1_responses,
    strategy_2_one_side,
    strategy_3_truth,
    strategy_4_top_and_bottom,
    strategy_5_sizes,
    strategy_6_weights,
    strategy_7_one_length,
)
