"""The teacher `regression`: logistic regression on a patient's phrases, the sanity row of every comparison."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from mint_core.plugin import ComponentConfig, DataError, Sample, Teacher, classifier_log_probs, group_folds

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RegressionConfig(ComponentConfig):
    """Options of the teacher `regression`."""

    privileged: bool = Field(True, description="Read the privileged fields beside the text, for example the gene.")
    unit: Literal["phrase", "word"] = Field(
        "phrase",
        description="What counts as one feature: `phrase` = what stands between commas and full stops, so that a "
        "phenotype is one feature; `word` = single words, for free-text notes.",
    )
    c: float = Field(10.0, gt=0, le=1e12, description="Inverse strength of the L2 penalty.")
    cross_fit: int = Field(
        5,
        ge=0,
        le=1_000,
        description="Folds, so that a training patient is ranked by a model that did not see its group; 0 = off.",
    )


class Regression(Teacher):
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

    def fit(self, samples: Sequence[Sample]) -> None:
        """Fits on the labelled patients of the training split."""
        known = [sample for sample in samples if sample.label is not None]
        if len({sample.label for sample in known}) < 2:
            raise DataError("Fewer than two diseases occur in the training split; give it labelled patients.")
        if not any(self._phrases(sample) for sample in known):
            raise DataError(
                "No training patient has a word or a privileged value that the teacher 'regression' could learn from; "
                "give it more in task.student_fields or task.privileged."
            )
        self._model = self._fitted(known)
        self._held_out = self._out_of_fold(known) if self.config.cross_fit > 1 else {}
        self._n_fitted = len(known)

    def log_probs(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """See `mint_core.interfaces.teacher.Teacher.log_probs`."""
        rows = self._rows(self._model, samples)
        for position, sample in enumerate(samples):
            if sample.id in self._held_out:
                rows[position] = self._held_out[sample.id]
        self.context.advance(len(samples))
        return rows

    def describe(self) -> dict[str, Any]:
        """What it read, and on how many patients it was fitted."""
        return {
            "privileged": self.config.privileged,
            "fitted_on": self._n_fitted,
            "features": len(self._model[0].vocabulary_),
        }

    def _phrases(self, sample: Sample) -> list[str]:
        if sample.text is None:
            raise DataError(f"Patient {sample.id} has no text; the teacher 'regression' reads text.")
        split = r"[,.;:\n]+" if self.config.unit == "phrase" else r"\W+"
        found = [phrase.strip().lower() for phrase in re.split(split, sample.text)]
        if self.config.privileged:
            found += [f"{field}={value}" for field, value in sample.privileged.items()]
        return [phrase for phrase in found if phrase]

    def _fitted(self, samples: Sequence[Sample]) -> Any:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        model = make_pipeline(
            CountVectorizer(analyzer=self._phrases, binary=True), LogisticRegression(C=self.config.c, max_iter=1000)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits of a penalised fit change no ranking
            return model.fit(samples, [self.labels.index(str(sample.label)) for sample in samples])

    def _rows(self, model: Any, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Natural logarithms, shape (n_samples, n_labels)."""
        return classifier_log_probs(model.decision_function(samples), model[-1].classes_, len(self.labels))

    def _out_of_fold(self, samples: Sequence[Sample]) -> dict[str, NDArray[np.float32]]:
        """Rows by sample id, each from a model that saw no patient of its group."""
        folds = group_folds([sample.group or sample.id for sample in samples], self.config.cross_fit)
        uniform = np.full(len(self.labels), -math.log(len(self.labels)), np.float32)
        held_out = {}
        for train, rest in folds:
            fitted_on, others = [samples[i] for i in train], [samples[i] for i in rest]
            enough = len({sample.label for sample in fitted_on}) > 1 and any(map(self._phrases, fitted_on))
            rows = self._rows(self._fitted(fitted_on), others) if enough else np.tile(uniform, (len(others), 1))
            held_out.update({sample.id: row for sample, row in zip(others, rows, strict=True)})
        return held_out
