"""The teacher `regression`: logistic regression on a patient's phrases, the sanity row of every comparison."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from mint_core.plugin import FittedConfig, FittedTeacher, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RegressionConfig(FittedConfig):
    """Options of the teacher `regression`."""

    privileged: bool = Field(True, description="Read the privileged fields beside the text, for example the gene.")
    unit: Literal["phrase", "word"] = Field(
        "phrase",
        description="What counts as one feature: `phrase` = what stands between commas and full stops, so that a "
        "phenotype is one feature; `word` = single words, for free-text notes.",
    )
    c: float | None = Field(
        10.0,
        gt=0,
        le=1e12,
        description="Inverse strength of the L2 penalty; null = chosen on held-out patients.",
    )


class Regression(FittedTeacher):
    """Multinomial logistic regression (scikit-learn) on binary phrase features.

    It reads what the student reads and, unless `privileged` is off, the privileged fields. Training patients are ranked
    out of fold. A label without a training patient gets the lowest probability of the row.

    Raises:
        DataError: Fewer than two labels occur in the training split, a patient has no text, or none has anything in it.
    """

    name = "regression"
    reads = ("text",)
    Config = RegressionConfig
    config: RegressionConfig
    nothing = "give it a word or a privileged value in task.student_fields or task.privileged"

    @property
    def dtype(self) -> None:
        """Phrases are no numbers."""

    def features(self, samples: Sequence[Sample]) -> NDArray[Any]:
        """The phrases of each patient: an array of lists, shape (n,)."""
        return np.fromiter((self._phrases(sample) for sample in samples), object, len(samples))

    def classifier(self, rows: NDArray[Any], c: float) -> Any:
        """Counts phrases of the patients that it is fitted on; None where no patient has one."""
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        if not any(rows):
            return None
        return make_pipeline(CountVectorizer(analyzer=list, binary=True), LogisticRegression(C=c, max_iter=1000))

    def describe(self) -> dict[str, Any]:
        """What it read, and on how many patients it was fitted."""
        return {
            "privileged": self.config.privileged, "features": len(self._model[0].vocabulary_), **super().describe(),
        }  # fmt: skip

    def _phrases(self, sample: Sample) -> list[str]:
        split = r"[,.;:\n]+" if self.config.unit == "phrase" else r"\W+"
        found = [phrase.strip().lower() for phrase in re.split(split, self.text_of(sample))]
        if self.config.privileged:
            found += [f"{field}={value}" for field, value in sample.privileged.items()]
        return [phrase for phrase in found if phrase]
