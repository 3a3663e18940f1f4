"""Means with clustered bootstrap intervals, and paired differences on the same samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    """Mean and percentile bootstrap interval over whole groups: patches of one slide are not independent.

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
    drawn = (rng.integers(0, len(sums), len(sums)) for _ in range(draws))
    return np.array([sums[rows].sum() / sizes[rows].sum() for rows in drawn])


def times_drawn(groups: Sequence[str | None], draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each sample stands in a draw of whole groups, for figures that are no mean of values.

    Args:
        groups: The group of each sample; None = a group of its own.
        draws: Bootstrap draws.
        seed: Seed of the draws: those that `estimate` makes for the same groups.

    Yields:
        (n,), whole numbers.
    """
    owner = cluster_of(groups)
    count = int(owner.max()) + 1
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield _times_drawn(count, rng)[owner]


def resampled_means(
    columns: NDArray[np.float64], groups: Sequence[str | None], *, draws: int, seed: int
) -> NDArray[np.float64]:
    """The means of several columns in the same bootstrap draws of whole groups, so that they can be subtracted.

    Args:
        columns: (n_samples, n_columns); NaN = the sample is not in the column.
        groups: The group of each sample; None = a group of its own.
        draws: Bootstrap draws.
        seed: As for `estimate`.

    Returns:
        (draws, n_columns); NaN where a draw holds no sample of the column.
    """
    clusters = cluster_of(groups)
    count = int(clusters.max()) + 1
    there = ~np.isnan(columns)
    both = np.concatenate([np.where(there, columns, 0.0), there], axis=1)
    totals = np.zeros((count, both.shape[1]))
    np.add.at(totals, clusters, both)
    rng = np.random.default_rng(seed)
    block = max(1, _ENTRIES // count)
    parts = []
    for start in range(0, draws, block):
        times = [_times_drawn(count, rng) for _ in range(min(block, draws - start))]
        values, sizes = np.split(np.stack(times) @ totals, 2, axis=1)
        parts.append(np.divide(values, sizes, out=np.full(values.shape, np.nan), where=sizes > 0))
    return np.concatenate(parts)


def _times_drawn(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each of the clusters is in one draw."""
    return np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64)


def cluster_of(groups: Sequence[str | None]) -> NDArray[np.int64]:
    """The number of each sample's cluster, from 0; a sample without a group is one of its own."""
    place: dict[str | int, int] = {}
    return np.array([place.setdefault(i if group is None else group, len(place)) for i, group in enumerate(groups)])


def spread(point: float, drawn: Sequence[float], groups: Sequence[str | None], confidence: float) -> Estimate:
    """A figure of all samples with the percentile interval of what it was in each draw.

    Args:
        point: Of the samples as they are.
        drawn: Of each draw; a draw in which it has no value (NaN) does not count.
        groups: The group of each sample.
        confidence: Level of the interval.
    """
    tail = (1 - confidence) / 2
    known = np.array([value for value in drawn if np.isfinite(value)])
    low, high = map(float, np.quantile(known, [tail, 1 - tail])) if len(known) else (None, None)
    return Estimate(float(point), low, high, len(groups), 0, int(cluster_of(groups).max()) + 1)


_ENTRIES = 2**22
"""Entries of the draws that are held at a time; bounds the memory."""
PERMUTATIONS = 10_000
"""Sign flips behind a p-value; where all of them are fewer, each is taken once and the p-value is exact."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Two rows on the same samples: first minus second."""

    difference: Estimate
    p_value: float | None
    """Two-sided; None where no sample was scored in both."""
    wins: int
    """Samples on which the first is better."""
    ties: int
    losses: int


def paired(
    first: Sequence[float | None],
    second: Sequence[float | None],
    groups: Sequence[str | None],
    *,
    draws: int,
    confidence: float,
    seed: int,
) -> Paired:
    """Compares two rows sample by sample; the arguments are those of `estimate`, and `seed` flips the signs too."""
    both = zip(first, second, strict=True)
    differences = [None if a is None or b is None else a - b for a, b in both]
    scored = [(value, group) for value, group in zip(differences, groups, strict=True) if value is not None]
    wins, losses = (sum(sign * value > _EQUAL for value, _ in scored) for sign in (1, -1))
    return Paired(
        difference=estimate(differences, groups, draws=draws, confidence=confidence, seed=seed),
        p_value=sign_flip_p(_per_cluster(scored)[0], seed) if scored else None,
        wins=wins,
        ties=len(scored) - wins - losses,
        losses=losses,
    )


def least_share(hits: int, n: int, confidence: float = 0.95) -> float:
    """The one-sided lower bound of a share, exact for independent samples: Clopper and Pearson 1934.

    It is the p at which `hits` or more of n have the probability 1 - confidence.

    Args:
        hits: Samples that have it.
        n: Samples, at least one.
        confidence: How sure one may be that the share is not lower.
    """
    if hits == 0:
        return 0.0
    counts = np.arange(hits, n + 1)
    ways = np.array([math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in counts.tolist()])
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        reached = np.exp(ways + counts * math.log(p) + (n - counts) * math.log1p(-p)).sum()
        low, high = (low, p) if reached > 1 - confidence else (p, high)
    return low


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of one family of tests, adjusted so that any false finding has the level of a single test.

    Sorted p(1) <= ... <= p(m), the adjusted p(i) is the largest (m - j + 1) p(j) of all j <= i, at most 1.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    adjusted = [0.0] * len(p_values)
    least = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def correct(tests: Iterable[dict[str, Any]]) -> None:
    """Adds `p_holm` to the tests of one table; None where it has only one, or a test could not be made.

    Args:
        tests: Plain data of `Paired`, with `p_value`.
    """
    listed = list(tests)
    made = [test for test in listed if test["p_value"] is not None]
    for test in listed:
        test["p_holm"] = None
    if len(made) > 1:
        for test, adjusted in zip(made, holm([test["p_value"] for test in made]), strict=True):
            test["p_holm"] = adjusted


def told(one: Mapping[str, Any], *, signed: bool = False) -> str:
    """A mean with its interval in percent, for a table; from plain data of `Estimate`."""
    if one["mean"] is None:
        return "-"
    sign = "+" if signed else ""
    mean, low, high = (f"{100 * one[key]:{sign}.1f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def told_plain(one: Mapping[str, Any], digits: int) -> str:
    """A mean that is no percentage with its interval; from plain data of `Estimate`."""
    if one["mean"] is None:
        return "-"
    mean, low, high = (f"{one[key]:.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def told_p(test: Mapping[str, Any]) -> str:
    """A p-value for a table, with the one that is adjusted for the table's tests; from plain data of `Paired`."""
    raw = _told("p", test["p_value"])
    return raw if test.get("p_holm") is None else f"{raw} ({_told('Holm', test['p_holm'])})"


def _told(name: str, p: float) -> str:
    return f"{name} < 0.001" if p < 0.001 else f"{name} = {p:.3f}"


_EQUAL = 1e-9
"""Means over seeds that differ by less are equal."""


def sign_flip_p(sums: NDArray[np.float64], seed: int, permutations: int = PERMUTATIONS) -> float:
    """Two-sided p-value of a paired permutation test that flips the signs of whole clusters.

    Under the null hypothesis the two rows are exchangeable within a cluster, so that each cluster's difference may as
    well have the other sign. The statistic is the sum of all differences. A draw counts the observed signs too, so
    that p is never 0 (Phipson and Smyth 2010).

    Args:
        sums: (n_clusters,), the sum of the differences of each cluster.
        seed: Seed of the sign flips.
        permutations: Sign flips; all 2^n where that is no more.
    """
    sums = sums[np.abs(sums) > _EQUAL]  # a cluster without a difference is the same under both signs
    observed = abs(sums.sum()) - _EQUAL
    if 2 ** min(len(sums), 64) <= permutations:
        bits = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        return float(np.mean(np.abs((2 * bits - 1) @ sums) >= observed))
    rng = np.random.default_rng(seed)
    reached = 0
    for start in range(0, permutations, _BLOCK):
        signs = 2 * rng.integers(0, 2, (min(_BLOCK, permutations - start), len(sums)), dtype=np.int8) - 1
        reached += int((np.abs(signs @ sums) >= observed).sum())
    return (reached + 1) / (permutations + 1)


_BLOCK = 500
"""Sign flips at a time; bounds the memory."""
