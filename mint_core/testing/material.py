"""What the checks are tried on: labels, samples, rankings and answered samples, all drawn from seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mint_core.interfaces import Context, EvaluationSample
from mint_core.types import ImageRef, LabelSpace, Prediction, Ranking, Sample, Split

if TYPE_CHECKING:
    from PIL.Image import Image

LABELS = LabelSpace(("Colon", "Liver", "Lung", "Skin", "Testis", "Thyroid"))
_SIGNS = ("cramps", "jaundice", "cough", "itching", "swelling", "tremor")
"""What the texts say of each label."""


class Patch(ImageRef):
    """A grey square whose brightness follows the label, with noise."""

    def __init__(self, number: int, label: int) -> None:
        self._number, self._label = number, label

    @property
    def key(self) -> str:
        """Label and number."""
        return f"patch-{self._label}-{self._number}"

    def open(self) -> Image:
        """32 x 32 pixels."""
        from PIL import Image

        noise = np.random.default_rng(self._number).integers(0, 30, (32, 32, 3))
        return Image.fromarray((noise + 35 * self._label).astype(np.uint8))


def samples(labels: LabelSpace = LABELS, per_label: int = 4) -> list[Sample]:
    """Labelled samples with a text and an image each: three of four for training, the others to be answered.

    Args:
        labels: The label space; with its own the texts name a sign of the label, with another the label itself.
        per_label: How many of each.
    """
    made = []
    for column, label in enumerate(labels.names):
        sign = _SIGNS[column] if labels is LABELS else label
        for number in range(per_label):
            split: Split = "test" if number % 4 == 3 else "train"
            name, text = f"{label.lower().replace(' ', '-')}-{number}", f"Case {number} reports {sign} since a week."
            made.append(Sample(name, split, label, f"patient-{name}", Patch(number, column), text))
    return made


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
