"""Scores predictions with metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mint_core.errors import ContractError
from mint_core.evaluation.statistics import Estimate, estimate
from mint_core.interfaces import EvaluationSample, Metric


@dataclass(frozen=True, slots=True)
class Row:
    """All metrics of one variant of the student."""

    variant: str
    estimates: Mapping[str, Estimate]
    """By metric title."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The result of an evaluation."""

    rows: tuple[Row, ...]
    differences: Mapping[str, Estimate]
    """Aligned minus base, paired per sample, by metric title; empty where one of them is missing."""
    per_sample: tuple[dict[str, Any], ...]
    """One record per sample and variant: sample, group, variant, truth, and a value per metric title."""

    def plain(self) -> dict[str, Any]:
        """Rows and differences as plain data."""
        return {
            "rows": [{"variant": row.variant, **{k: asdict(v) for k, v in row.estimates.items()}} for row in self.rows],
            "aligned_minus_base": {title: asdict(value) for title, value in self.differences.items()},
        }


def evaluate(
    samples: Sequence[EvaluationSample],
    groups: Mapping[str, str | None],
    metrics: Sequence[Metric],
    *,
    draws: int,
    confidence: float,
    seed: int,
) -> Scores:
    """Scores every sample of every variant.

    Args:
        samples: Predictions with what metrics need beside them.
        groups: Group of each sample id.
        metrics: The metrics.
        draws: Bootstrap draws.
        confidence: Level of the intervals.
        seed: Seed of the draws.

    Raises:
        ContractError: A metric returned something outside [0, 1].
    """
    records: list[dict[str, Any]] = []
    for sample in samples:
        prediction = sample.prediction
        record: dict[str, Any] = {
            "sample": prediction.sample_id,
            "group": groups[prediction.sample_id],
            "variant": prediction.variant,
            "truth": sample.truth,
        }
        for metric in metrics:
            record[metric.title(sample.n)] = _checked(metric, metric.score(sample), prediction.sample_id)
        records.append(record)
    titles = [metric.title(samples[0].n) for metric in metrics] if samples else []
    if len(set(titles)) < len(titles):
        titles = list(dict.fromkeys(titles))  # top-n with N = 1 is top-1: one column is enough
    how: dict[str, Any] = {"draws": draws, "confidence": confidence, "seed": seed}
    variants = list(dict.fromkeys(record["variant"] for record in records))
    rows = []
    for variant in variants:
        own = [record for record in records if record["variant"] == variant]
        own_groups = [record["group"] for record in own]
        rows.append(Row(variant, {t: estimate([r[t] for r in own], own_groups, **how) for t in titles}))
    return Scores(tuple(rows), _differences(records, titles, how), tuple(records))


def _differences(records: Sequence[dict[str, Any]], titles: Sequence[str], how: dict[str, Any]) -> dict[str, Estimate]:
    by_variant = {v: {r["sample"]: r for r in records if r["variant"] == v} for v in ("base", "aligned")}
    base, aligned = by_variant["base"], by_variant["aligned"]
    shared = [sample for sample in aligned if sample in base]
    if not shared:
        return {}
    groups = [aligned[sample]["group"] for sample in shared]
    differences = {}
    for title in titles:
        values = [
            None if aligned[s][title] is None or base[s][title] is None else aligned[s][title] - base[s][title]
            for s in shared
        ]
        differences[title] = estimate(values, groups, **how)
    return differences


def _checked(metric: Metric, value: float | None, sample_id: str) -> float | None:
    if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
        raise ContractError(
            f"Metric '{metric.name}' returned {value} for sample {sample_id}; it must lie in [0, 1] or be None."
        )
    return value
