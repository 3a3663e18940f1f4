"""Embeddings of passages through sentence-transformers; NumPy searches up to 100,000 of them, faiss more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mint_core.plugin import ConfigError, ModelError, fingerprint, hub_commit
from mint_rag.store import cached

LARGEST_FOR_NUMPY = 100_000
DEPTH = 2_000
"""How many passages faiss returns for a text; those behind count as not found."""


class Embeddings:
    """Scores passages by the cosine of their embedding with that of a text, moved to [0, 1].

    Args:
        passages: What is searched; at least one. The model cuts what is longer than its context.
        cache: Where the embeddings are kept by content.
        model: A sentence-transformers folder, or an id of the hub. Weights are read from safetensors only.
        batch_size: Texts that are embedded together.
        advance: Called with the number of passages just done.

    Raises:
        ConfigError: sentence-transformers is not installed, or faiss is not and there are too many passages.
        ModelError: The model cannot be found or loaded.
    """

    def __init__(
        self, passages: Sequence[str], cache: Path, model: str, batch_size: int, advance: Callable[[int], None]
    ) -> None:
        if find_spec("sentence_transformers") is None:
            raise ConfigError(
                "The method 'embeddings' needs sentence-transformers; pip install 'mint-rag[embeddings]', or choose "
                "--set retriever.method=bm25."
            )
        faiss = _faiss(len(passages))
        # What is asked must be embedded by the weights of the stored passages, whatever the hub publishes in between.
        self._name, self._commit, self._batch_size = model, hub_commit(model, None), batch_size
        self._model: Any = None
        content = {
            "passages": list(passages),
            "model": fingerprint(model, self._commit),
            "library": version("sentence-transformers"),
        }

        def build(folder: Path) -> None:
            parts = []
            for start in range(0, len(passages), batch_size * 8):
                part = passages[start : start + batch_size * 8]
                parts.append(self._embed(part))
                advance(len(part))
            np.save(folder / "embeddings.npy", np.concatenate(parts))

        def load(folder: Path) -> Any:
            return np.load(folder / "embeddings.npy", mmap_mode="r", allow_pickle=False)

        self._passages: NDArray[np.float32] = cached(cache, "embeddings", content, build, load)
        self._search: Any = None
        if faiss is not None:
            self._search = faiss.IndexFlatIP(self._passages.shape[1])
            self._search.add(np.ascontiguousarray(self._passages))

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """How well every passage fits every text, shape (n_texts, n_passages), in [0, 1].

        Args:
            texts: What is asked.
        """
        asked = self._embed(texts)
        if self._search is None:
            return np.asarray((1 + asked @ self._passages.T) / 2, np.float32)
        rows = np.zeros((len(texts), len(self._passages)), np.float32)
        cosines, found = self._search.search(asked, min(DEPTH, len(self._passages)))
        np.put_along_axis(rows, found, (1 + cosines) / 2, axis=1)
        return rows

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of length 1, shape (n_texts, dim)."""
        if self._model is None:
            self._model = _load_model(self._name, self._commit)
        found = self._model.encode(
            list(texts), batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(found, np.float32)


def _faiss(count: int) -> Any:
    """Faiss where NumPy would be too slow; else None."""
    if count <= LARGEST_FOR_NUMPY:
        return None
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(
            f"Embeddings of {count:,} passages are searched with faiss; pip install 'mint-rag[faiss]', or choose "
            "--set retriever.method=bm25."
        ) from error
    return faiss


def _load_model(name: str, commit: str | None) -> Any:
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(name, revision=commit, model_kwargs={"use_safetensors": True})
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise ModelError(
            f"The embedding model '{name}' cannot be loaded; check --set retriever.model=ID_OR_FOLDER, and that its "
            "weights are safetensors and the hub can be reached."
        ) from error
