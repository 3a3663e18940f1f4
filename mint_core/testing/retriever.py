"""The clauses of a retriever. Each check takes a retriever after `build`, samples and the label space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mint_core.interfaces import Retriever
from mint_core.testing.clauses import Check, require
from mint_core.types import LabelSpace, Sample


def retriever_1_in_order(retriever: Retriever, samples: Sequence[Sample], _: LabelSpace) -> None:
    """One sequence of passages per sample, in their order."""
    found, backwards = retriever.retrieve(samples), retriever.retrieve(samples[::-1])
    require(len(found) == len(samples), "retriever 1", "retrieve returned not one answer per sample")
    sources = [[[passage.source for passage in one] for one in answers] for answers in (found, backwards[::-1])]
    require(sources[0] == sources[1], "retriever 1", "an answer depends on the place of its sample")


def retriever_2_blind(retriever: Retriever, samples: Sequence[Sample], _: LabelSpace) -> None:
    """Neither the label nor a privileged field is read."""
    told = [replace(sample, privileged={"gene": "ELN"}) for sample in samples]
    blind = [replace(sample, label=None, privileged={}) for sample in samples]
    require(retriever.retrieve(told) == retriever.retrieve(blind), "retriever 2", "passages depend on the label")
    scores, others = retriever.label_scores(told), retriever.label_scores(blind)
    same = scores is None or (others is not None and np.array_equal(scores, others, equal_nan=True))
    require(same, "retriever 2", "scores depend on the label")


def retriever_3_scores(retriever: Retriever, samples: Sequence[Sample], labels: LabelSpace) -> str | None:
    """Scores have the right shape, and no NaN."""
    scores = retriever.label_scores(samples)
    if scores is None:
        return "it ranks no labels"
    shape = (len(samples), len(labels))
    require(scores.shape == shape, "retriever 3", f"label_scores returned shape {scores.shape}, expected {shape}")
    require(not np.isnan(scores).any(), "retriever 3", "a score is NaN; a label that is not known has -inf")
    return None


def retriever_4_labels(retriever: Retriever, samples: Sequence[Sample], labels: LabelSpace) -> None:
    """Passages tell of labels that are known."""
    known = {None, *labels.names}
    for passage in (passage for found in retriever.retrieve(samples) for passage in found):
        require(passage.label in known, "retriever 4", "a passage tells of a label that is not in the label space")


RETRIEVER_CHECKS: tuple[Check, ...] = (
    retriever_1_in_order,
    retriever_2_blind,
    retriever_3_scores,
    retriever_4_labels,
)
