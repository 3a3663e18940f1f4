"""The conformance kit: a check for every clause of the six interfaces, for the tests of plugin authors.

Parametrise a test with the checks of a seam; the name of each says which clause it is of:

    import pytest
    from mint_core.testing import TASK_CHECKS

    @pytest.mark.parametrize("check", TASK_CHECKS)
    def test_contract(check):
        check(MyTask())

A check raises AssertionError where its clause is broken. It returns None where the clause holds, or a few words on why
it does not apply. `mint plugin check` runs them over what is installed.
"""

from mint_core.testing.aligner import ALIGNER_CHECKS
from mint_core.testing.clauses import Check, clauses_of, number_of
from mint_core.testing.material import LABELS, metric_sample, ranking, samples, teacher_context
from mint_core.testing.metric import METRIC_CHECKS
from mint_core.testing.retriever import RETRIEVER_CHECKS
from mint_core.testing.strategy import STRATEGY_CHECKS
from mint_core.testing.student import tiny_student
from mint_core.testing.task import TASK_CHECKS
from mint_core.testing.teacher import TEACHER_CHECKS

CHECKS: dict[str, tuple[Check, ...]] = {
    "task": TASK_CHECKS,
    "teacher": TEACHER_CHECKS,
    "strategy": STRATEGY_CHECKS,
    "aligner": ALIGNER_CHECKS,
    "retriever": RETRIEVER_CHECKS,
    "metric": METRIC_CHECKS,
}
"""The checks of every seam, by its name."""

__all__ = [
    "ALIGNER_CHECKS",
    "CHECKS",
    "LABELS",
    "METRIC_CHECKS",
    "RETRIEVER_CHECKS",
    "STRATEGY_CHECKS",
    "TASK_CHECKS",
    "TEACHER_CHECKS",
    "Check",
    "clauses_of",
    "metric_sample",
    "number_of",
    "ranking",
    "samples",
    "teacher_context",
    "tiny_student",
]
