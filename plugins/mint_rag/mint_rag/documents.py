"""Retriever `documents`: the user's own passages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from mint_core.plugin import ComponentConfig, Passage, Sample
from mint_core.plugin import fingerprint as weights_of
from mint_rag.asked import TextRetriever
from mint_rag.hpo import DEFAULT_MODEL
from mint_rag.leaks import LeakCheck
from mint_rag.naming import DiseaseNames
from mint_rag.ranking import Method
from mint_rag.reading import Document, read

if TYPE_CHECKING:
    from numpy.typing import NDArray


_NAMED = 20
"""Broken entries that the run record names."""


class DocumentsConfig(ComponentConfig):
    """Options of the retriever `documents`."""

    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    path: Path = Field(description="A folder or file of passages: .txt, .md, .jsonl, .json, or a LlamaIndex folder.")
    method: Literal["bm25", "embeddings", "fusion"] = Field(
        "bm25", description="How passages are ranked: `bm25` (words), `embeddings`, or `fusion` of the ranks of both."
    )
    top: int = Field(5, ge=1, le=100_000, description="Passages per sample.")
    max_characters: int | None = Field(
        1000,
        ge=100,
        le=100_000_000,
        description=".txt and .md are split at blank lines into passages no longer than this; null = whole.",
    )
    on_error: Literal["fail", "skip"] = Field(
        "fail", description="A broken file, line or entry: `fail` names it and stops, `skip` leaves it out."
    )
    model: str = Field(
        DEFAULT_MODEL, description="embeddings: a sentence-transformers folder, or an id of the hub, which is fetched."
    )
    batch_size: int = Field(32, ge=1, le=65_536, description="embeddings: texts that are embedded together.")


class Documents(TextRetriever):
    """Passages of the user's own files, by the sample's text.

    A passage tells of a label where its label, title or name (or its file's name or heading) is a name of the label;
    `label_scores` ranks the labels of which passages tell, and is None where none does. A sample of val or test that
    stands in the documents itself, by its id or its whole text, is refused.

    Raises:
        ConfigError: An extra is missing.
        DataError: There is no passage, one is broken, or samples stand in the documents.
        ModelError: The embedding model cannot be loaded.
        StorageError: The index cannot be written.
    """

    name = "documents"
    Config: ClassVar[type[Any]] = DocumentsConfig
    config: DocumentsConfig

    @classmethod
    def fingerprint(cls, config: DocumentsConfig) -> str:
        """The weights of the embedding model where it is used; the documents count by their content anyway."""
        return "" if config.method == "bm25" else weights_of(config.model)

    def build(self) -> None:
        """Prepares the index; see `Retriever.build`."""
        reading = read(self.config.path, self.config.max_characters, self.config.on_error)
        self._labels, self._last = self.labels, None
        self._documents, self.skipped = reading.documents, reading.skipped
        names = DiseaseNames(self.labels, (name for document in reading.documents for name in document.names))
        found = [next(filter(None, map(names.find, document.names)), None) for document in reading.documents]
        self._label_of = np.array([-1 if one is None else self.labels.index(one) for one in found], np.int64)
        self._leaks = LeakCheck(reading.documents)
        wanted = ("bm25", "embeddings") if self.config.method == "fusion" else (self.config.method,)
        self._methods = [self._method(one) for one in wanted]

    def retrieve(self, samples: Sequence[Sample]) -> list[tuple[Passage, ...]]:
        """The best passages of every sample; see `Retriever.retrieve`.

        Raises:
            DataError: A sample has no text, or stands in the documents.
        """
        self._leaks.refuse(samples)
        return super().retrieve(samples)

    def label_scores(self, samples: Sequence[Sample]) -> NDArray[np.float32] | None:
        """The best score of a passage that tells of the label; see `Retriever.label_scores`.

        Raises:
            DataError: A sample has no text, or stands in the documents.
        """
        self._leaks.refuse(samples)
        return super().label_scores(samples)

    def describe(self) -> dict[str, Any]:
        """Beside what is searched, what `on_error=skip` left out, file and line; see `Retriever.describe`."""
        left_out = {"broken, left out": len(self.skipped), "the first of them": ", ".join(self.skipped[:_NAMED])}
        return {**super().describe(), **(left_out if self.skipped else {})}

    def _method(self, name: str) -> Method:
        texts = [_searched(document) for document in self._documents]
        if name == "bm25":
            from mint_rag.lexical import Bm25

            return Bm25(lambda: texts, texts, self.context.cache)
        from mint_rag.embeddings import Embeddings

        return Embeddings(texts, self.context.cache, self.config.model, self.config.batch_size, self.context.advance)

    def _passage(self, position: int, score: float) -> Passage:
        document = self._documents[position]
        return Passage(source=document.id, text=_searched(document), label=self._label(position), score=score)


def _searched(document: Document) -> str:
    """The text, with the passage's title in front where the text does not say it."""
    if document.title is None or document.title.lower() in document.text.lower():
        return document.text
    return f"{document.title}. {document.text}"
