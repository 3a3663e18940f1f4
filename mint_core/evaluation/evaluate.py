"""Scores predictions with metrics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mint_core.errors import ConfigError, ContractError
from mint_core.evaluation.statistics import Estimate, estimate
from mint_core.evaluation.subsets import Member, subsets
from mint_core.interfaces import EvaluationSample, Metric

Values = Mapping[str, float | None]
"""By the metric's key; None where the sample cannot be scored."""
Metrics = Mapping[str, Metric]
"""By key, in the order of the table, see `by_key`."""


@dataclass(frozen=True, slots=True)
class Record:
    """One sample of one variant."""

    sample: str
    group: str | None
    cohort: str | None
    seen: bool
    """Whether the label occurs on a labelled training sample."""
    content: str
    """Digest of the sample: two rows are compared on equal samples only."""
    lists: str
    """Digest of the teacher's top and bottom labels for it."""
    variant: str
    truth: str
    metrics: Values


@dataclass(frozen=True, slots=True)
class Result:
    """All metrics of one variant on one subset."""

    variant: str
    subset: str
    n: int
    """Samples of the subset, unscored ones included."""
    metrics: Mapping[str, Estimate]
    """By key."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The result of an evaluation."""

    results: tuple[Result, ...]
    """Subset by subset, and within a subset in the order of the variants."""
    differences: Mapping[str, Mapping[str, Estimate]]
    """Aligned minus base, paired per sample, by subset and key; empty where one of them is missing."""
    records: tuple[Record, ...]

    def plain(self) -> dict[str, Any]:
        """Rows and differences as plain data."""
        return {
            "rows": [asdict(result) for result in self.results],
            "aligned_minus_base": {
                subset: {key: asdict(value) for key, value in by_key.items()}
                for subset, by_key in self.differences.items()
            },
        }


def by_key(metrics: Sequence[Metric]) -> dict[str, Metric]:
    """Metrics by a key of their own: the name, or name and options where one name occurs several times.

    Args:
        metrics: In the order of the table.

    Raises:
        ConfigError: The same metric with the same options stands there twice.
    """
    names = Counter(metric.name for metric in metrics)
    keyed: dict[str, Metric] = {}
    for metric in metrics:
        own = metric.config.model_dump(mode="json", exclude_defaults=True)
        options = ",".join(f"{option}={value}" for option, value in own.items())
        key = f"{metric.name}:{options}" if names[metric.name] > 1 and options else metric.name
        if key in keyed:
            raise ConfigError(f"The metric '{key}' is named twice with the same options; name it once.")
        keyed[key] = metric
    return keyed


def evaluate(
    samples: Sequence[EvaluationSample],
    members: Mapping[str, Member],
    metrics: Metrics,
    *,
    draws: int,
    confidence: float,
    seed: int,
) -> Scores:
    """Scores every sample of every variant, and every variant on every subset.

    Args:
        samples: Predictions with what metrics need beside them.
        members: What is known of each sample id.
        metrics: By key.
        draws: Bootstrap draws.
        confidence: Level of the intervals.
        seed: Seed of the draws.

    Raises:
        ContractError: A metric returned something outside [0, 1].
    """
    records = score_samples(samples, members, metrics)
    how: dict[str, Any] = {"draws": draws, "confidence": confidence, "seed": seed}
    by_variant: dict[str, dict[str, Record]] = {}
    for record in records:
        by_variant.setdefault(record.variant, {})[record.sample] = record
    results, differences = [], {}
    for subset, ids in subsets(members).items():
        for variant, found in by_variant.items():
            own = [found[i] for i in ids if i in found]
            if own:
                values = [record.metrics for record in own]
                estimates = _estimates(values, [record.group for record in own], metrics, how)
                results.append(Result(variant, subset, len(own), estimates))
        aligned, base = by_variant.get("aligned", {}), by_variant.get("base", {})
        both = [i for i in ids if i in aligned and i in base]
        if both:
            gaps = [difference(aligned[i].metrics, base[i].metrics) for i in both]
            groups = [members[i].group for i in both]
            differences[subset] = _estimates(gaps, groups, metrics, how)
    return Scores(tuple(results), differences, tuple(records))


def score_samples(samples: Sequence[EvaluationSample], members: Mapping[str, Member], metrics: Metrics) -> list[Record]:
    """One record per sample and variant.

    Raises:
        ContractError: A metric returned something outside [0, 1].
    """
    records = []
    for sample in samples:
        prediction = sample.prediction
        member = members[prediction.sample_id]
        values = {key: _checked(metric, metric.score(sample), prediction.sample_id) for key, metric in metrics.items()}
        records.append(
            Record(
                sample=prediction.sample_id,
                group=member.group,
                cohort=member.cohort,
                seen=member.seen,
                content=member.content,
                lists=sample.lists,
                variant=prediction.variant,
                truth=sample.truth,
                metrics=values,
            )
        )
    return records


def difference(first: Values, second: Values) -> dict[str, float | None]:
    """First minus second; None where one of them is unscored."""
    gaps: dict[str, float | None] = {}
    for key in first.keys() & second.keys():
        one, other = first[key], second[key]
        gaps[key] = None if one is None or other is None else one - other
    return gaps


def _estimates(
    values: Sequence[Values], groups: Sequence[str | None], metrics: Metrics, how: dict[str, Any]
) -> dict[str, Estimate]:
    return {key: estimate([one[key] for one in values], groups, **how) for key in metrics}


def _checked(metric: Metric, value: float | None, sample_id: str) -> float | None:
    if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
        raise ContractError(
            f"Metric '{metric.name}' returned {value} for sample {sample_id}; it must lie in [0, 1] or be None."
        )
    return value
