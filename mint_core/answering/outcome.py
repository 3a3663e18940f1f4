"""What is written about one sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mint_core.answering.scores import rank
from mint_core.names import recognise
from mint_core.types import LabelSpace, Prediction


@dataclass(frozen=True, slots=True)
class Outcome:
    """A prediction for a new sample, or why there is none."""

    id: str
    decode: str
    labels: tuple[str, ...] = field(default=(), repr=False)
    """Best first; after free generation as the student wrote them."""
    known: tuple[str | None, ...] = ()
    """Per label the one that it is recognised as, as Top-N does; None where it is none."""
    probabilities: tuple[float, ...] | None = None
    """Per label; None where the labels were not scored."""
    log_probs: tuple[float | None, ...] | None = None
    """Their natural logarithms; None for that of a probability of zero."""
    normalised_probabilities: tuple[float, ...] | None = None
    """Per label, divided by the sum over the label space: over all labels they sum to 1."""
    missing_mass: float | None = None
    """Probability that the student would rather write something that is no label, in [0, 1]; 1 minus that sum."""
    abstained: bool = False
    """The answer is "not sure": the best label's probability, or confidence, lies below the threshold."""
    well_formed: bool = False
    n_listed: int = 0
    """Entries of the student's list before duplicates were merged."""
    truncated: bool = False
    """The answer reached the limit on its length and was cut there."""
    error: str | None = None
    """Why the sample could not be predicted."""
    response: str = field(default="", repr=False)
    """What the student wrote."""
    input: str = field(default="", repr=False)
    """What it read."""
    passages: tuple[str, ...] = ()
    """Where the retrieved passages in its prompt come from, best first."""


def outcome(
    prediction: Prediction,
    labels: LabelSpace,
    decode: str,
    threshold: float | None,
    read: str,
    *,
    sure: float | None = None,
) -> Outcome:
    """A prediction as it is written.

    Args:
        prediction: What was answered. One without scores cannot be judged, and does not abstain.
        labels: The label space.
        decode: How it was answered.
        threshold: It abstains where the first label's probability lies below; None = never.
        read: The text that the student read.
        sure: The same of its normalised probability, its confidence.
    """
    logs = prediction.log_probs or None
    probabilities = None if logs is None else tuple(_rounded(math.exp(log_prob)) for log_prob in logs)
    whole = None if prediction.scores is None else rank(prediction.sample_id, prediction.scores, labels)
    shares = None if whole is None else tuple(_rounded(whole.probability(label)) for label in prediction.labels)
    return Outcome(
        id=prediction.sample_id,
        decode=decode,
        labels=prediction.labels,
        known=tuple(recognise(prediction.labels, labels)),
        probabilities=probabilities,
        log_probs=None if logs is None else tuple(log_prob if math.isfinite(log_prob) else None for log_prob in logs),
        normalised_probabilities=shares,
        missing_mass=None if whole is None else _rounded(whole.missing),
        abstained=bool(threshold is not None and logs and not (math.exp(logs[0]) >= threshold))
        or bool(sure is not None and shares and not (shares[0] >= sure)),
        well_formed=prediction.well_formed,
        n_listed=prediction.n_listed,
        truncated=prediction.truncated,
        response=prediction.text,
        input=read,
        passages=prediction.passages,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
