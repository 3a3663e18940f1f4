"""Scores predictions with metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mint_core.errors import ContractError
from mint_core.evaluation.statistics import Estimate, estimate
from mint_core.evaluation.subsets import Member, subsets
from mint_core.interfaces import EvaluationSample, Metric

Record = dict[str, Any]
"""One sample of one variant: sample, group, cohort, seen, variant, truth, and a value per metric title."""


@dataclass(frozen=True, slots=True)
class Row:
    """All metrics of one variant on one subset."""

    variant: str
    subset: str
    n: int
    """Samples of the subset, unscored ones included."""
    estimates: Mapping[str, Estimate]
    """By metric title."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The result of an evaluation."""

    rows: tuple[Row, ...]
    """Subset by subset, and within a subset in the order of the variants."""
    differences: Mapping[str, Mapping[str, Estimate]]
    """Aligned minus base, paired per sample, by subset and metric title; empty where one of them is missing."""
    per_sample: tuple[Record, ...]

    def plain(self) -> dict[str, Any]:
        """Rows and differences as plain data."""
        return {
            "rows": [
                {"variant": row.variant, "subset": row.subset, "n": row.n}
                | {title: asdict(value) for title, value in row.estimates.items()}
                for row in self.rows
            ],
            "aligned_minus_base": {
                subset: {title: asdict(value) for title, value in by_title.items()}
                for subset, by_title in self.differences.items()
            },
        }


def evaluate(
    samples: Sequence[EvaluationSample],
    members: Mapping[str, Member],
    metrics: Sequence[Metric],
    *,
    draws: int,
    confidence: float,
    seed: int,
) -> Scores:
    """Scores every sample of every variant, and every variant on every subset.

    Args:
        samples: Predictions with what metrics need beside them.
        members: Group, cohort and whether the label was seen, of each sample id.
        metrics: The metrics.
        draws: Bootstrap draws.
        confidence: Level of the intervals.
        seed: Seed of the draws.

    Raises:
        ContractError: A metric returned something outside [0, 1].
    """
    records = score_samples(samples, members, metrics)
    names = titles(metrics, samples[0].n) if samples else []
    how: dict[str, Any] = {"draws": draws, "confidence": confidence, "seed": seed}
    by_variant: dict[str, dict[str, Record]] = {}
    for record in records:
        by_variant.setdefault(record["variant"], {})[record["sample"]] = record
    rows, differences = [], {}
    for subset, ids in subsets(members).items():
        for variant, found in by_variant.items():
            own = [found[i] for i in ids if i in found]
            if own:
                rows.append(Row(variant, subset, len(own), _estimates(own, names, how)))
        paired = _paired(by_variant.get("aligned", {}), by_variant.get("base", {}), ids, names)
        if paired:
            differences[subset] = _estimates(paired, names, how)
    return Scores(tuple(rows), differences, tuple(records))


def titles(metrics: Sequence[Metric], n: int) -> list[str]:
    """Column headings without repetition: Top-N with N = 1 is Top-1, and one column is enough."""
    return list(dict.fromkeys(metric.title(n) for metric in metrics))


def score_samples(
    samples: Sequence[EvaluationSample], members: Mapping[str, Member], metrics: Sequence[Metric]
) -> list[Record]:
    """One record per sample and variant.

    Raises:
        ContractError: A metric returned something outside [0, 1].
    """
    records = []
    for sample in samples:
        prediction = sample.prediction
        member = members[prediction.sample_id]
        record: Record = {
            "sample": prediction.sample_id,
            "group": member.group,
            "cohort": member.cohort,
            "seen": member.seen,
            "variant": prediction.variant,
            "truth": sample.truth,
        }
        for metric in metrics:
            record[metric.title(sample.n)] = _checked(metric, metric.score(sample), prediction.sample_id)
        records.append(record)
    return records


def _estimates(records: Sequence[Record], names: Sequence[str], how: dict[str, Any]) -> dict[str, Estimate]:
    groups = [record["group"] for record in records]
    return {title: estimate([record[title] for record in records], groups, **how) for title in names}


def _paired(
    first: Mapping[str, Record], second: Mapping[str, Record], ids: Sequence[str], names: Sequence[str]
) -> list[Record]:
    """First minus second on the samples that both answered; None where one of them is unscored."""
    return [
        {"group": first[i]["group"]}
        | {
            title: None if first[i][title] is None or second[i][title] is None else first[i][title] - second[i][title]
            for title in names
        }
        for i in ids
        if i in first and i in second
    ]


def _checked(metric: Metric, value: float | None, sample_id: str) -> float | None:
    if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
        raise ContractError(
            f"Metric '{metric.name}' returned {value} for sample {sample_id}; it must lie in [0, 1] or be None."
        )
    return value
