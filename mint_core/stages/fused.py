"""The rows that a retriever adds to an evaluation: its own list, and each student's ranking combined with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from mint_core.answering.scores import ScoreTable, scores_of
from mint_core.errors import ConfigError
from mint_core.retrieval import fusion
from mint_core.stages.outputs import SCORES
from mint_core.stages.run import Run
from mint_core.types import Prediction, Variant

RETRIEVER = Variant("retriever")
_STUDENTS = (Variant("base"), Variant("aligned"))


@dataclass(frozen=True, slots=True)
class RetrievalRows:
    """What stands beside the students' own predictions."""

    predictions: list[Prediction] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """For metrics.json: how the rankings were combined; empty where they were not."""


def check_fusion(run: Run) -> None:
    """Refuses a weight that there is nothing to fit on.

    Raises:
        ConfigError: There is no validation split, or it is the one that is reported.
    """
    retrieval = run.resolved.config.retrieval
    if retrieval.fuse != "weighted" or retrieval.weight is not None:
        return
    remedy = "use --fuse rrf, which has nothing to fit, or set the weight with --set retrieval.weight=1"
    if not run.validation:
        raise ConfigError(
            f"The data have no labelled val split to fit the retriever's weight on; make one "
            f"(docs/how-to/data.md), {remedy}."
        )
    reported = {sample.id for sample in run.reported}
    if any(sample.id in reported for sample in run.validation):
        raise ConfigError(f"The retriever's weight is fitted on the val split, so report another split; or {remedy}.")


def fusion_identity(run: Run) -> dict[str, Any]:
    """What decides how rankings are combined, and what the student was taught."""
    how = run.resolved.config.retrieval.model_dump(mode="json", include={"fuse", "weight"})
    fused = how["fuse"] != "none" and run.resolved.aligner is not None
    taught = run.made["prefer"].outputs["preferences"] if fused else None
    return {"version": fusion.VERSION, **how, "taught": taught}


def retrieval_rows(run: Run, predictions: Sequence[Prediction]) -> RetrievalRows:
    """The retriever's own N best labels, and the fused lists where the config asks for them.

    Raises:
        ConfigError: Rankings are to be combined, and the retriever ranked no labels.
    """
    fuse = run.resolved.config.retrieval.fuse
    table = ScoreTable.read(run.path / SCORES) if SCORES.name in run.made["predict"].outputs else None
    if table is None or RETRIEVER.name not in table.variants:
        if fuse != "none":
            raise ConfigError("The retriever ranked no labels, so that nothing can be fused; leave --fuse out.")
        return RetrievalRows()
    reported = [sample.id for sample in run.reported]
    own = _lists(run, RETRIEVER, reported, table.rows(RETRIEVER.name, reported))
    if fuse == "none":
        return RetrievalRows(own)
    fused: list[Prediction] = []
    weights: dict[str, float] = {}
    abstains: dict[str, int] = {}
    for variant in _STUDENTS:
        answered = [prediction for prediction in predictions if prediction.variant == variant.name]
        if not answered:
            continue
        ids = [prediction.sample_id for prediction in answered]
        known = run.taught if variant.who == "aligned" else run.data.labels.names
        taught = fusion.mask(known, run.data.labels)
        if fuse == "weighted":
            weights[variant.name] = _weight(run, table, variant, taught)
        # Scores of all labels where they were kept, else the places in the student's lists.
        kept = variant.name in table.variants
        students = table.rows(variant.name, ids) if kept else scores_of(answered, run.data.labels)
        retrieved = table.rows(RETRIEVER.name, ids)
        combined = fusion.combine(students, retrieved, taught, weights.get(variant.name))
        abstains[variant.name] = int((~taught).sum())
        fused += _lists(run, replace(variant, fused=True), ids, combined, scored=fuse == "weighted")
    facts = {"method": fuse, "weights": weights, "fitted_on": len(run.validation), "abstains": abstains}
    return RetrievalRows([*fused, *own], {"fusion": facts})


def _lists(
    run: Run, variant: Variant, ids: Iterable[str], scores: fusion.Scores, *, scored: bool = False
) -> list[Prediction]:
    """The N best labels of every row of scores; `scored`: they are logarithms of probabilities, and are kept."""
    names = run.data.labels.names
    best = fusion.order(scores)[:, : run.n]
    made = []
    for sample, columns, row in zip(ids, best, scores, strict=True):
        listed = Prediction.of_labels(sample, variant.name, tuple(names[column] for column in columns))
        made.append(replace(listed, scores=row.astype(np.float32)) if scored else listed)
    return made


def _weight(run: Run, table: ScoreTable, variant: Variant, taught: fusion.Mask) -> float:
    """The weight from the config, or the one that ranks the validation split best."""
    given = run.resolved.config.retrieval.weight
    if given is not None:
        return given
    ids = [sample.id for sample in run.validation]
    truths = [run.data.labels.index(cast(str, sample.label)) for sample in run.validation]
    return fusion.fit_weight(table.rows(variant.name, ids), table.rows(RETRIEVER.name, ids), truths, taught)
