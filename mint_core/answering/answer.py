"""One variant's predictions: a student's answers to prompts, in the way that the config says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mint_core.answering.constrained import generate_constrained
from mint_core.answering.generate import generate
from mint_core.answering.score import label_tokens, score
from mint_core.students.prompts import parse_response, write_response
from mint_core.types import LabelSpace, Prediction, Prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mint_core.config import PredictConfig
    from mint_core.interfaces import Student

FREE = "-free"
"""Behind the name of a variant: the same prompts, answered without constraints, whatever the config says."""


def answers(
    student: Student,
    variant: str,
    prompts: Mapping[str, Prompt],
    labels: LabelSpace,
    header: str,
    *,
    n: int,
    config: PredictConfig,
    budget: int,
    model: Any = None,
) -> Iterator[Prediction]:
    """One variant's predictions, as they come.

    Args:
        student: Processor and device; its model answers unless `model` is given.
        variant: Name of the variant, written into every prediction; one that ends with `-free` is answered freely.
        prompts: Prompt per sample id.
        labels: The label space.
        header: First line of a response.
        n: Labels per response (N).
        config: How the student answers.
        budget: Length limit of a generated response in tokens.
        model: The student with an adapter.

    Yields:
        Predictions, in the order of `prompts`.

    Raises:
        DataError: A prompt and its response do not fit the student's context.
    """
    how: Any = {"batch_size": config.batch_size, "model": model}
    decode = "free" if variant.endswith(FREE) else config.decode
    if decode == "score":
        lengths = _lengths(student, prompts, labels, header, config.normalise)
        for sample_id, scores in score(student, prompts, labels, header, **how):
            best = np.argsort(-scores / lengths, kind="stable")[:n]
            names = tuple(labels.names[column] for column in best)
            logs = tuple(round(float(scores[column]), 5) for column in best)
            yield Prediction(sample_id, variant, write_response(header, names), names, len(names), True, logs)
    elif decode == "constrained":
        for sample_id, names in generate_constrained(student, prompts, labels, header, n=n, **how):
            yield Prediction(sample_id, variant, write_response(header, names), names, n, well_formed=True)
    else:
        for sample_id, text in generate(student, prompts, max_new_tokens=budget, **how):
            parsed = parse_response(text, header)
            yield Prediction(sample_id, variant, text, parsed.labels, parsed.n_listed, parsed.well_formed)


def _lengths(
    student: Student, prompts: Mapping[str, Prompt], labels: LabelSpace, header: str, normalise: str
) -> NDArray[np.float64]:
    """(n_labels,): what a label's log-probability is divided by before labels are compared."""
    if normalise == "none" or not prompts:
        return np.ones(len(labels))
    return np.array(label_tokens(student, labels, header, next(iter(prompts.values()))), float)
