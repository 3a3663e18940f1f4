"""The conformance kit: numbered checks for every seam, for the tests of plugin authors.

Parametrise a test with the checks of a seam; each is named after the clause of the interface that it checks:

    import pytest
    from mint_core.testing import TASK_CHECKS

    @pytest.mark.parametrize("check", TASK_CHECKS)
    def test_contract(check):
        check(MyTask())
"""

from mint_core.testing.checks import (
    METRIC_CHECKS,
    RETRIEVER_CHECKS,
    STRATEGY_CHECKS,
    TASK_CHECKS,
    TEACHER_CHECKS,
    metric_sample,
    ranking,
    teacher_context,
)

__all__ = [
    "METRIC_CHECKS",
    "RETRIEVER_CHECKS",
    "STRATEGY_CHECKS",
    "TASK_CHECKS",
    "TEACHER_CHECKS",
    "metric_sample",
    "ranking",
    "teacher_context",
]
