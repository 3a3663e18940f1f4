"""How well diseases explain a set of phenotypes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mint_rag.knowledge import Knowledge

PIVOT = 0.2
"""How much a disease that has everything loses. Configured on training patients of the phenopacket store."""


def phenotype_scores(knowledge: Knowledge, phenotypes: Sequence[int], pivot: float = PIVOT) -> NDArray[np.float32]:
    """How well every disease explains the phenotypes of one patient, shape (n_diseases,); 0 = not at all.

    Patient and disease are taken with everything above their phenotypes, so that a coarse word still counts for what it
    says. The score is the information content of what both have, weighed by how often patients with the disease have
    it, over a power of the information content of the whole disease:

        s(q, d) = sum_{t in A(q) and A(d)} IC(t) f(t, d) / (sum_{t in A(d)} IC(t) f(t, d)) ** pivot

    With the power 0 and without frequencies it is the score of Phrank without its correction for parents (Jagadeesh et
    al., Genetics in Medicine 2019); with the union below the line it would be simGIC (Pesquita et al., BMC
    Bioinformatics 2008), which asks the patient to have the whole disease. docs/how-to/retrieval.md compares them.

    Args:
        knowledge: The diseases.
        phenotypes: Numbers of phenotypes, none twice.
        pivot: The power.
    """
    scores = np.zeros(len(knowledge.content), np.float64)
    if not phenotypes:
        return scores.astype(np.float32)
    rows = [knowledge.above[knowledge.above_start[one] : knowledge.above_start[one + 1]] for one in phenotypes]
    for one in np.unique(np.concatenate(rows)).tolist():
        begin, end = knowledge.holder_start[one], knowledge.holder_start[one + 1]
        scores[knowledge.holder[begin:end]] += knowledge.information[one] * knowledge.holder_share[begin:end]
    return (scores / np.maximum(knowledge.content, 1e-6) ** pivot).astype(np.float32)
