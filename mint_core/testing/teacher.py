"""The clauses of a teacher. Each check takes a teacher that is fitted, and samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mint_core.interfaces import Teacher
from mint_core.testing.clauses import Check, require
from mint_core.types import Sample


def teacher_1_shape(teacher: Teacher, samples: Sequence[Sample]) -> None:
    """One row per sample, one column per label, float32."""
    rows, shape = teacher.log_probs(samples), (len(samples), len(teacher.labels))
    found = getattr(rows, "shape", None)
    require(found == shape, "teacher 1", f"log_probs returned shape {found}, expected {shape}")
    require(rows.dtype == np.float32, "teacher 1", f"log_probs returned {rows.dtype}, expected float32")


def teacher_2_distributions(teacher: Teacher, samples: Sequence[Sample]) -> None:
    """Every row is the logarithm of a distribution."""
    rows = teacher.log_probs(samples)
    require(not (np.isnan(rows).any() or np.isposinf(rows).any()), "teacher 2", "a value is NaN or +inf")
    sums = np.exp(rows.astype(np.float64)).sum(1)
    worst = float(sums[np.abs(sums - 1).argmax()])
    told = f"the exponentials of a row add up to {worst:.4g}, not to 1; return natural logarithms of probabilities"
    require(abs(worst - 1) < 1e-3, "teacher 2", told)


def teacher_3_independent_rows(teacher: Teacher, samples: Sequence[Sample]) -> None:
    """It is deterministic, and a row does not depend on its neighbours."""
    whole = teacher.log_probs(samples)
    again = teacher.log_probs(samples)
    require(np.array_equal(whole, again, equal_nan=True), "teacher 3", "two calls of log_probs differ")
    backwards = teacher.log_probs(samples[::-1])[::-1]
    close = np.allclose(np.exp(whole), np.exp(backwards), atol=1e-2, equal_nan=True)
    require(close, "teacher 3", "a row depends on the samples beside it, or the rows are not in the samples' order")


def teacher_4_labels_through_fit_alone(teacher: Teacher, samples: Sequence[Sample]) -> None:
    """What a sample's label is changes nothing of its row."""
    blind = [replace(sample, label=None) for sample in samples]
    same = np.allclose(np.exp(teacher.log_probs(samples)), np.exp(teacher.log_probs(blind)), atol=1e-6, equal_nan=True)
    require(same, "teacher 4", "log_probs reads the labels: rows change when they are taken away")


TEACHER_CHECKS: tuple[Check, ...] = (
    teacher_1_shape,
    teacher_2_distributions,
    teacher_3_independent_rows,
    teacher_4_labels_through_fit_alone,
)
