"""What mint-metrics registers."""

from __future__ import annotations

from mint_core.plugin import Metric, hookimpl


@hookimpl
def mint_metrics() -> list[type[Metric]]:
    """Hallucination-free accuracy, Top-N, Top-1 and the coverage-avoidance ratio."""
    from mint_metrics.car import CAR
    from mint_metrics.hfa import HFA
    from mint_metrics.top_n import Top1, TopN

    return [HFA, TopN, Top1, CAR]
