"""BM25 over passages, through bm25s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mint_rag.finder import form
from mint_rag.store import cached

_WORD = r"(?u)\b\w+\b"
"""One letter is a word too: `type B`, `vitamin D`."""


class Bm25:
    """Scores passages by the words that they share with a text (BM25 as Lucene computes it, k1 = 1.5, b = 0.75).

    Source: Robertson and Zaragoza, Foundations and Trends in Information Retrieval 2009; bm25s (arXiv 2407.03618).

    Args:
        passages: Tells what is searched, at least one text; called where the index is not there yet.
        content: Plain data that the passages were made from.
        cache: Where the index is kept by content.
    """

    def __init__(self, passages: Callable[[], Sequence[str]], content: Any, cache: Path) -> None:
        content = {"passages": content, "bm25s": version("bm25s"), "words": 1}

        def build(folder: Path) -> None:
            import bm25s

            index = bm25s.BM25()
            with np.errstate(invalid="ignore"):  # passages of punctuation alone have a mean length of 0
                index.index(_words(passages()), show_progress=False)
            index.save(folder, show_progress=False)

        self._index: Any = cached(cache, "bm25", content, build, _load)

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """How well every passage fits every text, shape (n_texts, n_passages); 0 where they share no word.

        Args:
            texts: What is asked.
        """
        rows = np.zeros((len(texts), self._index.scores["num_docs"]), np.float32)
        for row, words in zip(rows, _words(texts), strict=True):
            known = [word for word in words if word in self._index.vocab_dict]
            if known:
                row[:] = self._index.get_scores(known)
        return rows


def _load(folder: Path) -> Any:
    import bm25s

    return bm25s.BM25.load(folder, mmap=True, show_progress=False)


def _words(texts: Sequence[str]) -> list[list[str]]:
    """Words without English stop words, in the form in which names are compared too."""
    import bm25s

    found = bm25s.tokenize(
        list(texts), token_pattern=_WORD, stopwords="en", stemmer=_stem, return_ids=False, show_progress=False
    )
    return [list(words) for words in found]


def _stem(words: Sequence[str]) -> list[str]:
    return [form(word) for word in words]
