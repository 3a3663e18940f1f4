"""One variant's predictions: a student's answers to prompts, in the way that the config says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mint_core.inference.generate import generate
from mint_core.inference.score import score
from mint_core.students.prompts import parse_response, write_response
from mint_core.types import LabelSpace, Prediction, Prompt

if TYPE_CHECKING:
    from mint_core.config import PredictConfig
    from mint_core.students.student import Student


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
        variant: Name of the variant, written into every prediction.
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
    if config.decode == "score":
        for sample_id, scores in score(student, prompts, labels, header, batch_size=config.batch_size, model=model):
            best = np.argsort(-scores, kind="stable")[:n]
            names = tuple(labels.names[column] for column in best)
            scored = tuple(round(float(scores[column]), 5) for column in best)
            yield Prediction(sample_id, variant, write_response(header, names), names, len(names), True, scored)
        return
    for sample_id, text in generate(student, prompts, max_new_tokens=budget, batch_size=config.batch_size, model=model):
        parsed = parse_response(text, header)
        yield Prediction(sample_id, variant, text, parsed.labels, parsed.n_listed, parsed.well_formed)
