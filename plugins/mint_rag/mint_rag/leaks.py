"""Patients that stand in the knowledge base: they would find themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mint_core.plugin import DataError, Sample, normalise_name
from mint_rag.reading import Document

SHORTEST = 8
"""Words; a shorter text may stand in a textbook by chance."""
_NAMED = 5


class LeakCheck:
    """Looks for samples of val and test among the documents: the same id, or the whole text of the sample.

    Texts are compared without case, punctuation and line breaks.

    Args:
        documents: The knowledge base.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self._checked: set[str] = set()

    def refuse(self, samples: Sequence[Sample]) -> None:
        """Looks for samples that were not looked for yet.

        Raises:
            DataError: Some were found; the message names ids of samples and passages.
        """
        new = [sample for sample in samples if sample.split != "train" and sample.id not in self._checked]
        if not new:
            return
        found = {**self._by_text(new), **self._by_id(new)}
        if found:
            named = [f"'{sample}' in {where}" for sample, where in list(found.items())[:_NAMED]]
            more = f", and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            raise DataError(
                f"{len(found)} samples to be predicted stand in the documents: {', '.join(named)}{more}; take these "
                "passages out, or their patients would find themselves."
            )
        self._checked |= {sample.id for sample in new}

    def _by_id(self, samples: Sequence[Sample]) -> dict[str, str]:
        ids = {document.id: document.where for document in self._documents}
        return {sample.id: ids[sample.id] for sample in samples if sample.id in ids}

    def _by_text(self, samples: Sequence[Sample]) -> dict[str, str]:
        """Samples by the first words of their text, which are looked for at every word of every document."""
        begun: dict[str, list[tuple[str, str]]] = {}
        for sample in samples:
            words = normalise_name(sample.text or "").split()
            if len(words) >= SHORTEST:
                begun.setdefault(" ".join(words[:SHORTEST]), []).append((sample.id, " ".join(words)))
        first = {start.split(" ", 1)[0] for start in begun}
        found: dict[str, str] = {}
        for document in self._documents if begun else ():
            found |= _contained(normalise_name(document.text), first, begun, document.where)
        return found


def _contained(
    text: str, first: set[str], begun: Mapping[str, Sequence[tuple[str, str]]], where: str
) -> dict[str, str]:
    words = text.split()
    starts = [row for row in range(len(words) - SHORTEST + 1) if words[row] in first]
    candidates = {one for row in starts for one in begun.get(" ".join(words[row : row + SHORTEST]), ())}
    return {sample: where for sample, whole in sorted(candidates) if f" {whole} " in f" {text} "}
