"""Results by subgroup: every cell with its interval, and the worst gap between two cells of a field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mint_core.evaluation.ages import BANDS
from mint_core.evaluation.fields import FREQUENCY
from mint_core.evaluation.statistics import Estimate, cluster_of, resampled_means
from mint_core.evaluation.strata import STRATA, UNSEEN

SMALLEST = 10
"""Samples below which a cell is not shown."""
NOT_KNOWN = "not known"
"""The cell of samples whose value is missing."""
Values = Mapping[str, Mapping[str, Sequence[float | None]]]
"""Per row (a variant, for example) and metric the value of every sample, None = unscored."""
_PLACE = {name: place for place, name in enumerate((*BANDS, *STRATA))}


def by_subgroup(
    field: str,
    cells: Sequence[str | None],
    values: Values,
    groups: Sequence[str | None],
    *,
    draws: int,
    confidence: float,
    seed: int,
) -> dict[str, Any]:
    """Every metric of every row in each cell of a field, and the worst gap.

    Intervals come from bootstrap draws of whole groups, the same ones for all cells. The worst gap is the mean of the
    best cell minus that of the worst one. As a maximum of differences it is biased upwards: cells that do not differ at
    all have one above 0, the more so the smaller and the more they are. Its interval is the percentile interval of the
    difference between these two cells at the level 1 - (1 - confidence) / pairs of cells (Bonferroni): all true
    differences at once lie in such intervals at least as often as `confidence` says, so that one that leaves out 0
    means more than that the two were chosen for it. With two cells it is the plain interval. `not known` and unseen
    labels have cells and take no part in the gap.

    Args:
        field: Its name.
        cells: The cell of every sample; None = not known.
        values: See `Values`.
        groups: The group of every sample; None = a group of its own.
        draws: Bootstrap draws.
        confidence: Level of the intervals.
        seed: Seed of the draws.

    Returns:
        `not_shown`, how many cells have fewer than SMALLEST samples; `cells`, each with `cell`, `n` and `rows`: per row
        and metric the plain data of `Estimate`, with no mean below SMALLEST scored samples; and `gaps`: per row and
        metric `best`, `worst`, `mean`, `low`, `high` and `compared`, the number of cells, which is two or more.
    """
    told = [NOT_KNOWN if cell is None else cell for cell in cells]
    counts = Counter(told)
    names = _in_order(counts)
    keys = [(row, key) for row, metrics in values.items() for key in metrics]
    apart = {NOT_KNOWN, *([UNSEEN] if field == FREQUENCY else [])}
    found: dict[str, Any] = {"not_shown": len(counts) - len(names), "cells": [], "gaps": {}}
    if not names or not keys:
        return found
    given = np.array([values[row][key] for row, key in keys], float).T  # (n_samples, n_keys); None becomes NaN
    inside = np.array([[one == name for name in names] for one in told])
    columns = np.where(inside[:, :, None], given[:, None, :], np.nan)  # (n_samples, n_cells, n_keys)
    flat = resampled_means(columns.reshape(len(told), -1), groups, draws=draws, seed=seed)
    drawn = flat.reshape(draws, len(names), len(keys))
    clusters = cluster_of(groups)
    tail = (1 - confidence) / 2
    found["cells"] = [{"cell": name, "n": counts[name], "rows": {row: {} for row in values}} for name in names]
    for k, (row, key) in enumerate(keys):
        compared = {}
        for at, cell in enumerate(found["cells"]):
            one = _estimate(columns[:, at, k], cell["n"], drawn[:, at, k], clusters, tail)
            cell["rows"][row][key] = asdict(one)
            if one.mean is not None and cell["cell"] not in apart:
                compared[cell["cell"]] = (one.mean, drawn[:, at, k])
        if gap := _gap(compared, tail):
            found["gaps"].setdefault(row, {})[key] = gap
    return found


def _in_order(counts: Mapping[str, int]) -> list[str]:
    """The cells that are large enough: bands and strata as they follow, others by size, `not known` last."""
    large = [name for name, n in counts.items() if n >= SMALLEST]
    return sorted(large, key=lambda name: (name == NOT_KNOWN, _PLACE.get(name, -1), -counts[name], name))


def _estimate(
    values: NDArray[np.float64], n: int, drawn: NDArray[np.float64], clusters: NDArray[np.int64], tail: float
) -> Estimate:
    """One metric in one cell of n samples; NaN = another cell, or unscored."""
    there = ~np.isnan(values)
    scored = int(there.sum())
    if scored < SMALLEST:
        return Estimate(None, None, None, scored, n - scored, 0)
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    own = len(np.unique(clusters[there]))
    return Estimate(float(values[there].mean()), float(low), float(high), scored, n - scored, own)


def _gap(compared: Mapping[str, tuple[float, NDArray[np.float64]]], tail: float) -> dict[str, Any]:
    """The best cell against the worst one; empty where there are no two."""
    if len(compared) < 2:
        return {}
    best = max(compared, key=lambda name: compared[name][0])
    worst = min(reversed([*compared]), key=lambda name: compared[name][0])  # of equal cells not the same one again
    pairs = len(compared) * (len(compared) - 1) / 2
    low, high = np.nanquantile(compared[best][1] - compared[worst][1], [tail / pairs, 1 - tail / pairs])
    mean = compared[best][0] - compared[worst][0]
    ends = {"mean": mean, "low": float(low), "high": float(high)}
    return {"best": best, "worst": worst, **ends, "compared": len(compared)}
