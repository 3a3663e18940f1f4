"""What both retrievers do with samples: their texts, the answers, and the passages made of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mint_core.plugin import DataError, LabelSpace, Passage, Retriever, Sample
from mint_rag.ranking import Answers, Method, answer


class TextRetriever(Retriever):
    """Ranks passages by the sample's text. `build` sets what is searched.

    The answers to the last samples are kept, because passages and scores are asked for one after the other.
    """

    reads = ("text",)
    config: Any
    _labels: LabelSpace
    _methods: Sequence[Method]
    _label_of: NDArray[np.int64]
    """Position of the label that each passage tells of, -1 for none."""
    _retrieved: NDArray[np.bool_] | None = None
    """Which passages may be retrieved; None = all."""
    _last: tuple[tuple[str, ...], Answers] | None = None

    def retrieve(self, samples: Sequence[Sample]) -> list[tuple[Passage, ...]]:
        """The best passages of every sample; see `Retriever.retrieve`.

        Raises:
            DataError: A sample has no text.
        """
        answers = self._answers(samples)
        return [
            tuple(self._passage(position, score) for position, score in zip(found, scores, strict=True))
            for found, scores in zip(answers.passages, answers.scores, strict=True)
        ]

    def label_scores(self, samples: Sequence[Sample]) -> NDArray[np.float32] | None:
        """The best score of a passage that tells of the label; see `Retriever.label_scores`.

        Raises:
            DataError: A sample has no text.
        """
        if (self._label_of < 0).all():
            return None
        return self._answers(samples).labels.copy()

    def describe(self) -> dict[str, Any]:
        """How many passages are searched, and of how many labels they tell; see `Retriever.describe`."""
        told = len(np.unique(self._label_of[self._label_of >= 0]))
        return {"passages searched": len(self._label_of), "labels known": told, "labels": len(self._labels)}

    def _answers(self, samples: Sequence[Sample]) -> Answers:
        texts = tuple(self._text(sample) for sample in samples)
        if self._last is None or self._last[0] != texts:
            kept = {"top": self.config.top, "retrieved": self._retrieved}
            found = answer(texts, self._methods, self._label_of, len(self._labels), **kept)
            self._last = (texts, found)
        return self._last[1]

    def _text(self, sample: Sample) -> str:
        if sample.text is None:
            raise DataError(
                f"Sample '{sample.id}' has no text that the student reads, and the retriever '{self.name}' searches by "
                "text; choose a task with text, or run without --retriever."
            )
        return sample.text

    def _label(self, position: int) -> str | None:
        label = int(self._label_of[position])
        return None if label < 0 else self._labels.names[label]

    @abstractmethod
    def _passage(self, position: int, score: float) -> Passage:
        """The passage at a position of what is searched."""
