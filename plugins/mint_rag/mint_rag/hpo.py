"""Retriever `hpo`: one passage per disease of OMIM, with its phenotypes from HPO."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mint_core.plugin import ComponentConfig, ConfigError, DataError, Passage, digest_of_path
from mint_core.plugin import fingerprint as weights_of
from mint_rag import knowledge
from mint_rag.asked import TextRetriever
from mint_rag.finder import TermFinder
from mint_rag.knowledge import Knowledge
from mint_rag.naming import DiseaseNames
from mint_rag.ranking import Method
from mint_rag.similarity import phenotype_scores
from mint_rag.store import cached

DEFAULT_MODEL = "NeuML/pubmedbert-base-embeddings"
FORMAT = 2
"""Raise it when the knowledge, or the text of a passage, is made in another way: indexes are built again."""
SingleMethod = Literal["phenotype", "bm25", "embeddings"]


class HpoConfig(ComponentConfig):
    """Options of the retriever `hpo`."""

    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    method: Literal["phenotype", "bm25", "embeddings", "fusion"] = Field(
        "fusion",
        description="How passages are ranked: `phenotype` (similarity in the ontology), `bm25` (words), `embeddings`, "
        "or `fusion` of the ranks of several.",
    )
    fused: tuple[SingleMethod, ...] = Field(
        ("phenotype", "bm25"),
        min_length=2,
        description="The methods that `fusion` fuses; with `embeddings`, all diseases of OMIM are embedded first.",
    )
    top: int = Field(5, ge=1, le=100_000, description="Passages per sample.")
    scope: Literal["labels", "all"] = Field(
        "labels", description="`labels`: only diseases of the label space are retrieved; `all`: every disease of OMIM."
    )
    max_phenotypes: int = Field(
        30, ge=1, le=100_000, description="Phenotypes that a passage tells, the most informative first."
    )
    phenotype_hpoa: Path | None = Field(
        None,
        description="A phenotype.hpoa of HPO, whose diseases and frequencies count in place of hpo3's; null = hpo3.",
    )
    synonyms: Path | None = Field(
        None, description="An hp.obo or hp.json of HPO: its synonyms are found in texts too; null = names only."
    )
    release: str | None = Field(
        None, description="The release of HPO that must be installed, such as 2025-11-24; null = any."
    )
    model: str = Field(
        DEFAULT_MODEL, description="embeddings: a sentence-transformers folder, or an id of the hub, which is fetched."
    )
    batch_size: int = Field(32, ge=1, le=65_536, description="embeddings: texts that are embedded together.")


class _ByPhenotype:
    """Scores the diseases by the phenotypes that a text names."""

    def __init__(self, known: Knowledge, finder: TermFinder) -> None:
        self._known, self._finder = known, finder

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `mint_rag.ranking.Method`."""
        return np.stack([phenotype_scores(self._known, self._finder.find(text)) for text in texts])


class Hpo(TextRetriever):
    """Passages about the diseases of OMIM, by the phenotypes that the sample's text names.

    The knowledge comes from hpo3, offline, or from the phenotype.hpoa that the user names. A passage holds the name of
    a disease and its phenotypes, the most informative first. `label_scores` ranks the labels that OMIM knows by one of
    their names; the others have -inf.

    Source of the data: Human Phenotype Ontology (Gargano et al., Nucleic Acids Research 2024). Scores: see
    `mint_rag.similarity`, `mint_rag.lexical`, `mint_rag.embeddings`, `mint_rag.ranking.fuse`.

    Raises:
        ConfigError: Another release of HPO is installed than the config names, or an extra is missing.
        DataError: No label is a disease of OMIM, or a file that the config names cannot be read.
        ModelError: The embedding model cannot be loaded.
        StorageError: The index cannot be written.
    """

    name = "hpo"
    Config: ClassVar[type[Any]] = HpoConfig
    config: HpoConfig

    @classmethod
    def fingerprint(cls, config: HpoConfig) -> str:
        """The version of hpo3, and the weights of the embedding model where it is used."""
        embeds = "embeddings" in (config.fused if config.method == "fusion" else (config.method,))
        model = [weights_of(config.model)] if embeds else []
        return " ".join([*(f"{name} {number}" for name, number in knowledge.identity().items()), *model])

    def build(self) -> None:
        """Prepares the index; see `Retriever.build`."""
        self._labels, self._last = self.labels, None
        self._known = known = self._knowledge()
        names = DiseaseNames(self.labels, known.diseases)
        found = [names.find(disease) for disease in known.diseases]
        label_of = np.array([-1 if label is None else self.labels.index(label) for label in found], np.int64)
        if (label_of < 0).all():
            raise DataError(
                f"None of the {len(self.labels)} labels, such as '{self.labels.names[0]}', is a disease of OMIM, "
                "so the retriever 'hpo' has nothing to tell; check the labels, or use the retriever 'documents'."
            )
        # Ranks among all diseases tell more than ranks among a few, so all are ranked; but to embed all takes minutes.
        few = self.config.method == "embeddings" and self.config.scope == "labels"
        self._diseases = np.flatnonzero(label_of >= 0) if few else np.arange(len(label_of))
        self._label_of = label_of[self._diseases]
        self._retrieved = self._label_of >= 0 if self.config.scope == "labels" else None
        wanted = self.config.fused if self.config.method == "fusion" else (self.config.method,)
        self._methods = [self._method(one) for one in wanted]

    def describe(self) -> dict[str, Any]:
        """Beside what is searched, the release of HPO; see `Retriever.describe`."""
        return {**super().describe(), "HPO": self._known.release}

    def _knowledge(self) -> Knowledge:
        hpoa = self.config.phenotype_hpoa
        if hpoa is not None and not hpoa.is_file():
            raise ConfigError(f"retriever.phenotype_hpoa: there is no file {hpoa}; check the path.")
        self._content = {"format": FORMAT, **knowledge.identity(), "hpoa": digest_of_path(hpoa) if hpoa else None}
        build = partial(knowledge.build, hpoa=hpoa, advance=self.context.advance)
        known = cached(self.context.cache, "hpo", self._content, build, knowledge.load)
        if self.config.release not in (None, known.release):
            raise ConfigError(
                f"retriever.release asks for HPO {self.config.release}, but the installed hpo3 holds {known.release}; "
                "install the hpo3 that holds it, or take the option out."
            )
        return known

    def _method(self, name: SingleMethod | str) -> Method:
        if name == "phenotype":
            return _ByPhenotype(self._known, TermFinder(self._names()))
        if name == "bm25":
            from mint_rag.lexical import Bm25

            return Bm25(self._everything, self._content, self.context.cache)
        from mint_rag.embeddings import Embeddings

        passages = [self._told(int(disease), self.config.max_phenotypes) for disease in self._diseases]
        return Embeddings(passages, self.context.cache, self.config.model, self.config.batch_size, self.context.advance)

    def _names(self) -> list[tuple[str, int]]:
        """Names in force first, so that no synonym takes one away."""
        names = [(name, phenotype) for name, phenotype in self._known.names]
        if self.config.synonyms is not None:
            from mint_rag.synonyms import read_synonyms

            names += knowledge.numbered(self._known, read_synonyms(self.config.synonyms))
        return names

    def _everything(self) -> list[str]:
        """The passages of all diseases, whole."""
        return [self._told(disease, None) for disease in range(len(self._known.diseases))]

    def _told(self, disease: int, limit: int | None) -> str:
        """The text of a passage."""
        phenotypes = self._known.phenotypes(disease)[:limit]
        shares = self._known.shares(disease)[:limit]
        told = [
            self._known.name(int(one)) + ("" if math.isnan(share) else f" ({share:.0%})")
            for one, share in zip(phenotypes, shares, strict=True)
        ]
        return f"{self._known.diseases[disease]}. Phenotypes: {', '.join(told)}."

    def _passage(self, position: int, score: float) -> Passage:
        disease = int(self._diseases[position])
        return Passage(
            source=f"OMIM:{self._known.disease_ids[disease]}",
            text=self._told(disease, self.config.max_phenotypes),
            label=self._label(position),
            score=score,
        )
