"""Small inputs for contract tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mint_core.interfaces import Context, EvaluationSample
from mint_core.types import LabelSpace, Prediction, Ranking


def teacher_context(labels: LabelSpace, cache: Path, seed: int = 0) -> Context:
    """A context on the CPU that ignores progress."""
    return Context(labels=labels, seed=seed, cache=cache)


def ranking(labels: LabelSpace, seed: int = 0, sample_id: str = "sample") -> Ranking:
    """A ranking drawn at random."""
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.normal(0, 2, len(labels)))[::-1]
    log_probs = (scores - np.log(np.exp(scores).sum())).astype(np.float32)
    return Ranking(sample_id, tuple(str(name) for name in rng.permutation(labels.names)), log_probs)


def metric_sample(
    labels: LabelSpace, response: tuple[str, ...], truth: str, n: int, *, well_formed: bool = True
) -> EvaluationSample:
    """One answered sample whose teacher ranked the labels in their own order, the truth promoted."""
    order = (truth, *(name for name in labels.names if name != truth))
    half = max(1, min(n, len(labels) // 2))
    prediction = Prediction("sample", "aligned", "", tuple(dict.fromkeys(response)), len(response), well_formed)
    return EvaluationSample(prediction, truth, order[:half], order[-half:], n, labels)
