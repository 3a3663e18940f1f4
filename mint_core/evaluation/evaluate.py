"""Scores predictions with metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mint_core.errors import ContractError
from mint_core.evaluation.failures import failures, is_students, many_fail
from mint_core.evaluation.statistics import Estimate, estimate
from mint_core.evaluation.subsets import Member, subsets
from mint_core.files import digest_of
from mint_core.interfaces import EvaluationSample, Metric
from mint_core.names import recognise

Record = dict[str, Any]
"""One sample of one variant: sample, group, cohort, seen, variant, truth, and under `metrics` a value per key.

`answer` holds the names of the response as labels of the label space, None for a name that is not recognised. `why`
says by key why a response is not credited, and `ungated` its value without another metric's rule; None where there is
nothing to say. `content` and `lists` are digests of what was judged and of the teacher's lists: values of two runs can
be paired where they are equal. `subgroups` holds the sample's cell by field; `rank` and `confusers` are added later, by
`mint_core.evaluation.ranks.add_ranks`.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """All metrics of one variant on one subset."""

    variant: str
    subset: str
    n: int
    """Samples of the subset, unscored ones included."""
    metrics: Mapping[str, Estimate]
    """By key of the metric."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The result of an evaluation."""

    rows: tuple[Result, ...]
    """Subset by subset, and within a subset in the order of the variants."""
    differences: Mapping[str, Mapping[str, Estimate]]
    """Aligned minus base, paired per sample, by subset and key; empty where one of them is missing."""
    per_sample: tuple[Record, ...]
    failures: Mapping[str, Mapping[str, Any]]
    """Why answers are not credited, by variant of a student; see `failures`."""
    ungated: Mapping[str, Mapping[str, Estimate]]
    """Where more than one answer in ten is not: metrics without the rule of another one, by variant and key."""

    def plain(self) -> dict[str, Any]:
        """Rows and differences as plain data."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "aligned_minus_base": {
                subset: {key: asdict(one) for key, one in by_key.items()} for subset, by_key in self.differences.items()
            },
            "failures": self.failures,
            "ungated": {
                variant: {key: asdict(one) for key, one in by_key.items()} for variant, by_key in self.ungated.items()
            },
        }


def evaluate(
    samples: Sequence[EvaluationSample],
    members: Mapping[str, Member],
    metrics: Mapping[str, Metric],
    *,
    draws: int,
    confidence: float,
    seed: int,
) -> Scores:
    """Scores every sample of every variant, and every variant on every subset, with intervals as in `estimate`.

    Raises:
        ContractError: A metric returned something outside [0, 1].
    """
    records = score_samples(samples, members, metrics)
    how: dict[str, Any] = {"draws": draws, "confidence": confidence, "seed": seed}
    by_variant: dict[str, dict[str, Record]] = {}
    for record in records:
        by_variant.setdefault(record["variant"], {})[record["sample"]] = record
    rows, differences = [], {}
    for subset, ids in subsets(members).items():
        for variant, found in by_variant.items():
            own = [found[i] for i in ids if i in found]
            if own:
                rows.append(Result(variant, subset, len(own), _estimates(own, metrics, how)))
        paired = _paired(by_variant.get("aligned", {}), by_variant.get("base", {}), ids)
        if paired:
            differences[subset] = _estimates(paired, metrics, how)
    failed = {variant: failures(found.values()) for variant, found in by_variant.items() if is_students(variant)}
    free = [key for key, metric in metrics.items() if metric.ungated() is not None]
    ungated = {
        variant: _estimates(
            [record | {"metrics": record["ungated"]} for record in by_variant[variant].values()], free, how
        )
        for variant, by_key in failed.items()
        if many_fail(by_key)
    }
    return Scores(tuple(rows), differences, tuple(records), failed, ungated)


def ceilings(metrics: Mapping[str, Metric], samples: Sequence[EvaluationSample]) -> dict[str, str]:
    """One sentence per metric that a list of N labels cannot bring to 1, by key.

    Args:
        metrics: By key.
        samples: Those of one variant or more.
    """
    told = {}
    for key, metric in metrics.items():
        most = sum(metric.ceiling(sample) for sample in samples) / len(samples) if samples else 1.0
        if most < 1 - 1e-9:
            one = samples[0]
            told[key] = (
                f"At most {100 * most:.1f} % for lists of N = {one.n} labels, as k = {len(one.top)} and "
                f"q = {len(one.bottom)}."
            )
    return told


def score_samples(
    samples: Sequence[EvaluationSample], members: Mapping[str, Member], metrics: Mapping[str, Metric]
) -> list[Record]:
    """One record per sample and variant.

    Raises:
        ContractError: A metric returned something outside [0, 1].
    """
    records = []
    ungated = {key: free for key, metric in metrics.items() if (free := metric.ungated()) is not None}
    for sample in samples:
        prediction = sample.prediction
        member = members[prediction.sample_id]
        values = {key: metric.score(sample) for key, metric in metrics.items()}
        without = {key: metric.score(sample) for key, metric in ungated.items()}
        for key, value in (*values.items(), *without.items()):
            if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
                raise ContractError(
                    f"Metric '{key}' returned {value} for sample {prediction.sample_id}; it must lie in [0, 1] or be "
                    "None."
                )
        records.append(
            {
                "sample": prediction.sample_id,
                "group": member.group,
                "cohort": member.cohort,
                "seen": member.seen,
                "subgroups": dict(member.subgroups),
                "variant": prediction.variant,
                "truth": sample.truth,
                "content": member.content,
                "lists": digest_of([sample.top, sample.bottom]),
                "answer": recognise(prediction.labels, sample.labels),
                "metrics": values,
                "why": {key: metric.why(sample) for key, metric in metrics.items()},
                "ungated": {key: without.get(key) for key in metrics},
            }
        )
    return records


def _estimates(records: Sequence[Record], keys: Iterable[str], how: dict[str, Any]) -> dict[str, Estimate]:
    groups = [record["group"] for record in records]
    return {key: estimate([record["metrics"][key] for record in records], groups, **how) for key in keys}


def _paired(first: Mapping[str, Record], second: Mapping[str, Record], ids: Sequence[str]) -> list[Record]:
    """First minus second on the samples that both answered; None where one of them is unscored."""
    return [
        {
            "group": first[i]["group"],
            "metrics": {
                key: None if (other := second[i]["metrics"][key]) is None or value is None else value - other
                for key, value in first[i]["metrics"].items()
            },
        }
        for i in ids
        if i in first and i in second
    ]
