"""What the students and the teacher believe of the reported samples, as the evaluation judges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mint_core.answering.scores import ScoreTable
from mint_core.evaluation.calibration import calibration
from mint_core.evaluation.subsets import subsets
from mint_core.evaluation.transfer import places, transfer
from mint_core.stages.outputs import RANKINGS, SCORES, read_log_probs
from mint_core.stages.run import Run
from mint_core.types import VARIANTS, Prediction, Ranking

TEACHER = "teacher"


@dataclass(frozen=True, slots=True)
class Belief:
    """What one variant holds of every label of some samples."""

    scores: NDArray[Any]
    """(n, labels), natural logarithms up to a constant per row."""
    answers: NDArray[np.intp]
    """(n,), the column of the first label of each answer."""


def judged_beliefs(run: Run, predictions: Sequence[Prediction], rankings: Mapping[str, Ranking]) -> dict[str, Any]:
    """What metrics.json says of probabilities, under `calibration` and, where students scored the labels, `transfer`.

    It covers the first subset, which are the task's own samples wherever some are reported.

    Args:
        run: The run, its answers made.
        predictions: Those of all variants for the reported samples; fused ones with their scores.
        rankings: The teacher's, by sample id.
    """
    subset, ids = next(iter(subsets(run.members).items()))
    labels = {sample.id: run.data.labels.index(cast(str, sample.label)) for sample in run.reported}
    truths = np.array([labels[i] for i in ids])
    groups = [run.members[i].group for i in ids]
    evaluate = run.resolved.config.evaluate
    how: dict[str, Any] = {"draws": evaluate.bootstrap, "confidence": evaluate.confidence}
    how["seed"] = run.resolved.config.seed
    found = _beliefs(run, predictions, ids)
    variants = {name: calibration(one.scores, one.answers, truths, groups, **how) for name, one in found.items()}
    content: dict[str, Any] = {"calibration": {"subset": subset, "variants": variants}}
    students = {name: one.scores for name, one in found.items() if name in ("base", "aligned")}
    moved = (
        transfer(students, found[TEACHER].scores, _shown(run, [rankings[i] for i in ids]), truths, groups, **how)
        if students
        else None
    )
    return content | ({"transfer": {"subset": subset, **moved}} if moved else {})


def _beliefs(run: Run, predictions: Sequence[Prediction], ids: Sequence[str]) -> dict[str, Belief]:
    """By variant, in the order of a table; only of those that answered every sample and scored every label."""
    log_probs = read_log_probs(run.path / RANKINGS)
    teacher = np.stack([log_probs[i] for i in ids])
    found = {TEACHER: Belief(teacher, teacher.argmax(axis=1))}
    table = ScoreTable.read(run.path / SCORES) if SCORES.name in run.made["predict"].outputs else None
    by_variant: dict[str, dict[str, Prediction]] = {}
    for prediction in predictions:
        by_variant.setdefault(prediction.variant, {})[prediction.sample_id] = prediction
    for name, answered in by_variant.items():
        if VARIANTS[name].who not in ("base", "aligned") or any(i not in answered for i in ids):
            continue
        kept = table is not None and name in table.variants
        if not kept and any(answered[i].scores is None for i in ids):
            continue
        scores = table.rows(name, ids) if table and kept else np.stack([cast(Any, answered[i].scores) for i in ids])
        found[name] = Belief(scores, np.array([run.data.labels.index(answered[i].labels[0]) for i in ids]))
    return {name: found[name] for name in VARIANTS if name in found}


def _shown(run: Run, rankings: Sequence[Ranking]) -> NDArray[np.float64]:
    """What preferences would show of the teacher's rankings; the truth is not placed."""
    labels = run.data.labels
    tops = [[labels.index(name) for name in run.strategy.top(ranking, None)] for ranking in rankings]
    bottoms = [[labels.index(name) for name in run.strategy.bottom(ranking, None)] for ranking in rankings]
    return places(tops, bottoms, len(labels))
