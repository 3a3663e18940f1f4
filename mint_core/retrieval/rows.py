"""The rows that a retriever adds to an evaluation: its own list, and each student's ranking combined with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mint_core.errors import ConfigError
from mint_core.retrieval import fusion
from mint_core.retrieval.scores import RETRIEVER, SCORES, ByVariant, of_list, read_scores
from mint_core.types import Prediction

if TYPE_CHECKING:
    from mint_core.runs.context import Context

FUSED = "-fused"
"""What is written behind the name of a variant whose ranking was combined with the retriever's."""
_STUDENTS = ("base", "aligned")


@dataclass(frozen=True, slots=True)
class RetrievalRows:
    """What stands beside the students' own predictions."""

    predictions: list[Prediction] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For metrics.json: how the rankings were combined; empty where they were not."""


def check_fusion(context: Context) -> None:
    """Refuses a weight that there is nothing to fit on.

    Args:
        context: The run, before its first stage.

    Raises:
        ConfigError: There is no validation split, or it is the one that is reported.
    """
    retrieval = context.resolved.config.retrieval
    if retrieval.fuse != "weighted" or retrieval.weight is not None:
        return
    remedy = "use --fuse rrf, which has nothing to fit, or set the weight with --set retrieval.weight=1"
    if not context.validation:
        raise ConfigError(
            f"The data have no labelled val split to fit the retriever's weight on; make one (docs/data.md), {remedy}."
        )
    if context.split == "val":
        raise ConfigError(f"The retriever's weight is fitted on the val split, so report another split; or {remedy}.")


def retrieval_rows(context: Context, predictions: Sequence[Prediction]) -> RetrievalRows:
    """The retriever's own N best labels, and the fused lists where the config asks for them.

    Args:
        context: The run, complete up to the predictions.
        predictions: The students' answers for the reported split.

    Raises:
        ConfigError: Rankings are to be combined, and the retriever ranked no labels.
    """
    manifest = context.folder.manifest("predict")
    fuse = context.resolved.config.retrieval.fuse
    kept = manifest is not None and SCORES in manifest.outputs
    scores = read_scores(context.folder.path / SCORES) if kept else {}
    if RETRIEVER not in scores:
        if fuse != "none":
            raise ConfigError("The retriever ranked no labels, so that nothing can be fused; leave --fuse out.")
        return RetrievalRows()
    reported = [sample.id for sample in context.data.split(context.split)]
    own = _lists(context, RETRIEVER, reported, _stacked(scores[RETRIEVER], reported))
    if fuse == "none":
        return RetrievalRows(own)
    fused: list[Prediction] = []
    weights: dict[str, float] = {}
    abstains: dict[str, int] = {}
    for variant in _STUDENTS:
        answered = {prediction.sample_id: prediction for prediction in predictions if prediction.variant == variant}
        if not answered:
            continue
        theirs = _stacked(scores[RETRIEVER], answered)
        known = context.taught if variant == "aligned" else context.data.labels.names
        taught = fusion.mask(known, context.data.labels)
        if variant in scores:
            student = _stacked(scores[variant], answered)
        else:
            student = np.stack([of_list(prediction, context.data.labels) for prediction in answered.values()])
        if fuse == "weighted":
            weights[variant] = _weight(context, scores, variant, taught)
        combined = fusion.combine(student, theirs, taught, weights.get(variant))
        abstains[variant] = int((~taught).sum())
        fused += _lists(context, variant + FUSED, answered, combined)
    facts = {"method": fuse, "weights": weights, "fitted_on": len(context.validation), "abstains": abstains}
    return RetrievalRows([*fused, *own], {"fusion": facts})


def _stacked(scores: Mapping[str, NDArray[np.float32]], ids: Iterable[str]) -> NDArray[np.float32]:
    return np.stack([scores[sample] for sample in ids])


def _lists(context: Context, variant: str, ids: Iterable[str], scores: fusion.Scores) -> list[Prediction]:
    """The N best labels of every row of scores."""
    names = context.data.labels.names
    best = fusion.order(scores)[:, : context.n]
    lists = (tuple(names[column] for column in row) for row in best)
    return [Prediction.of_labels(sample, variant, labels) for sample, labels in zip(ids, lists, strict=True)]


def _weight(context: Context, scores: ByVariant, variant: str, taught: fusion.Mask) -> float:
    """The weight from the config, or the one that ranks the validation split best."""
    given = context.resolved.config.retrieval.weight
    if given is not None:
        return given
    ids = [sample.id for sample in context.validation]
    truths = [context.data.labels.index(cast(str, sample.label)) for sample in context.validation]
    return fusion.fit_weight(_stacked(scores[variant], ids), _stacked(scores[RETRIEVER], ids), truths, taught)
