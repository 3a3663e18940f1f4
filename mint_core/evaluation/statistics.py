"""Means with clustered bootstrap intervals, and paired differences on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its percentile interval."""

    mean: float | None
    """None where no sample could be scored."""
    low: float | None
    high: float | None
    n: int
    """Samples that were scored."""
    unscored: int
    """Samples that could not be scored; they are not counted as zero."""
    clusters: int
    """Groups that the bootstrap draws; n where every sample stands alone."""


def estimate(
    values: Sequence[float | None], groups: Sequence[str | None], *, draws: int, confidence: float, seed: int
) -> Estimate:
    """Mean and percentile bootstrap interval over whole groups: patches of one slide are no independent facts.

    Args:
        values: One per sample; None = unscored.
        groups: The group of each sample; None = a group of its own.
        draws: Bootstrap draws.
        confidence: Level of the interval, for example 0.95.
        seed: Seed of the draws; the same seed draws the same groups, so that intervals of two rows are comparable.

    Returns:
        The estimate; without a scored sample mean and interval are None.
    """
    scored = [(value, group) for value, group in zip(values, groups, strict=True) if value is not None]
    unscored = len(values) - len(scored)
    if not scored:
        return Estimate(None, None, None, 0, unscored, 0)
    sums, sizes = _per_cluster(scored)
    means = _bootstrap(sums, sizes, draws, seed)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(float(sums.sum() / sizes.sum()), float(low), float(high), len(scored), unscored, len(sums))


def _per_cluster(scored: Sequence[tuple[float, str | None]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum of the values and number of samples of each group."""
    totals: dict[str, list[float]] = {}
    for position, (value, group) in enumerate(scored):
        totals.setdefault(f"\0{position}" if group is None else group, []).append(value)
    return np.array([sum(v) for v in totals.values()], float), np.array([len(v) for v in totals.values()], float)


def _bootstrap(sums: NDArray[np.float64], sizes: NDArray[np.float64], draws: int, seed: int) -> NDArray[np.float64]:
    """The mean of each draw; groups are drawn with replacement."""
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for draw in range(draws):
        rows = rng.integers(0, len(sums), len(sums))
        means[draw] = sums[rows].sum() / sizes[rows].sum()
    return means
