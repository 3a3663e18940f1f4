"""Rankings of new samples, the student's and the retriever's combined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mint_core.answering.scores import retriever_scores, scores_of
from mint_core.errors import ConfigError
from mint_core.interfaces import Retriever
from mint_core.retrieval import fusion
from mint_core.students.prompts import write_response
from mint_core.types import LabelSpace, Prediction, Sample


@dataclass(frozen=True, slots=True)
class Fusion:
    """How they are combined; docs/retrieval.md has the formulas."""

    retriever: Retriever
    """After `build`."""
    labels: LabelSpace
    header: str
    taught: frozenset[str]
    """Labels that the student votes on."""
    weight: float | None
    """The retriever's, in nats per standard deviation; None = reciprocal ranks."""
    listed: int
    """Labels per response."""

    def combined(self, samples: Sequence[Sample], predictions: Sequence[Prediction]) -> list[Prediction]:
        """The best labels of both rankings in place of the student's; of a written list the text stays.

        With a weight the log-probabilities are those of the combined scores, softmax over the label space; reciprocal
        ranks have none.

        Args:
            samples: What the student reads of them.
            predictions: The student's answer for each.

        Raises:
            ConfigError: The retriever ranks no labels.
        """
        theirs = retriever_scores(self.retriever, samples, self.labels)
        if theirs is None:
            raise ConfigError("The retriever ranked no labels, so that nothing can be fused; leave --fuse out.")
        own = scores_of(predictions, self.labels)
        both = fusion.combine(own, theirs, fusion.mask(self.taught, self.labels), self.weight)
        return [self._best(prediction, row) for prediction, row in zip(predictions, both, strict=True)]

    def _best(self, prediction: Prediction, row: fusion.Scores) -> Prediction:
        best = fusion.order(row)[: self.listed]
        names = tuple(self.labels.names[column] for column in best)
        if prediction.scores is None:  # what the student wrote stays what it wrote
            return replace(prediction, labels=names)
        logs = row - np.logaddexp.reduce(row)
        log_probs = () if self.weight is None else tuple(round(float(logs[column]), 5) for column in best)
        text = write_response(self.header, names)
        return replace(prediction, text=text, labels=names, n_listed=len(names), log_probs=log_probs)
