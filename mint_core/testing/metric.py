"""The clauses of a metric. Each check takes a metric."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

from mint_core.interfaces import EvaluationSample, Metric
from mint_core.testing.clauses import Check, require
from mint_core.testing.material import LABELS, metric_sample

_N = 2
_KINDS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("Colon", "Liver"), ("Lung", "Skin")),
    (("Liver", "Colon"), ("Skin", "Lung")),
    (("Colon",), ("Lung",)),
    (("Qrxvzw", "Wvzqkj"), ("Jzkwqx", "Xqzvkw")),
)
"""Pairs of answers of one kind to samples whose truths are Colon and Lung."""
_TRUTHS = ("Colon", "Lung")


def _pairs() -> Iterator[list[EvaluationSample]]:
    for kind in _KINDS:
        for well_formed in (True, False):
            yield [
                metric_sample(LABELS, response, truth, _N, well_formed=well_formed)
                for response, truth in zip(kind, _TRUTHS, strict=True)
            ]


def metric_1_range(metric: Metric) -> None:
    """Values lie between 0 and 1."""
    for sample in (sample for pair in _pairs() for sample in pair):
        value = metric.score(sample)
        require(value is None or 0 <= value <= 1, "metric 1", f"the value {value}, which is not in [0, 1]")


def metric_2_deterministic(metric: Metric) -> None:
    """The same sample scores the same, and stays as it is."""
    for sample in (sample for pair in _pairs() for sample in pair):
        before = deepcopy(sample)
        require(metric.score(sample) == metric.score(sample), "metric 2", "two calls of score differ")
        require(sample == before, "metric 2", "score changed the sample")


def metric_3_empty(metric: Metric) -> None:
    """An empty response has a value too."""
    for well_formed in (True, False):
        try:
            value = metric.score(metric_sample(LABELS, (), "Colon", _N, well_formed=well_formed))
        except Exception as error:
            raise AssertionError(f"metric 3: an empty response raised {type(error).__name__}") from error
        require(value is None or 0 <= value <= 1, "metric 3", f"an empty response has the value {value}")


def metric_4_why(metric: Metric) -> None:
    """Reasons are phrases that fit all samples of a kind."""
    for pair in _pairs():
        reasons = [metric.why(sample) for sample in pair]
        require(all(one is None or isinstance(one, str) for one in reasons), "metric 4", "why is no text")
        require(len(set(reasons)) == 1, "metric 4", "why differs between two samples of one kind: it quotes them")


def metric_5_words(metric: Metric) -> None:
    """Title and rule stand in the report, each on one line."""
    for name, words in (("title", metric.title(5)), ("rule", metric.rule())):
        require(words.strip() and "\n" not in words, "metric 5", f"{name} is empty, or not one line")


def metric_6_claim(metric: Metric) -> str | None:
    """What has a claim is true or not."""
    if not metric.claim(_N):
        return "it makes no claim"
    for sample in (sample for pair in _pairs() for sample in pair):
        value = metric.score(sample)
        require(value in (None, 0, 1), "metric 6", f"there is a claim, and the value {value} is neither 0 nor 1")
    return None


def metric_7_ceiling(metric: Metric) -> None:
    """The most that can be reached is not surpassed."""
    for sample in (sample for pair in _pairs() for sample in pair):
        value, most = metric.score(sample), metric.ceiling(sample)
        require(value is None or value <= most + 1e-9, "metric 7", f"the value {value} is above the ceiling {most}")


METRIC_CHECKS: tuple[Check, ...] = (
    metric_1_range,
    metric_2_deterministic,
    metric_3_empty,
    metric_4_why,
    metric_5_words,
    metric_6_claim,
    metric_7_ceiling,
)
