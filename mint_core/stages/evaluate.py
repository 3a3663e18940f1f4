"""The stage `evaluate`: the metrics judge the predictions, beside the teacher itself and a list drawn at random."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mint_core.answering.scores import ScoreTable
from mint_core.config import decisive
from mint_core.evaluation.breakdown import breakdown
from mint_core.evaluation.evaluate import ceilings, evaluate
from mint_core.evaluation.ranks import RankOf, rank_in_list, rank_in_rankings, rank_in_scores
from mint_core.evaluation.subsets import ALL
from mint_core.files import digest_of, read_json, storage_errors, write_json
from mint_core.interfaces import Aligner, EvaluationSample
from mint_core.stages.beliefs import judged_beliefs
from mint_core.stages.fused import RETRIEVER, fusion_identity, retrieval_rows
from mint_core.stages.outputs import METRICS, SAMPLES, SCORES, TEACHER, write_per_sample
from mint_core.stages.predict import read_predictions
from mint_core.stages.run import Run
from mint_core.stages.stage import Facts, Stage
from mint_core.teachers.ensemble import Ensemble
from mint_core.types import LabelSpace, Prediction, Ranking, Variant

LAYOUT = 7
"""Of metrics.json and samples.parquet: raise it when they change, so that files of an older layout are made again."""
_TEACHER = Variant("teacher").name


class Evaluate(Stage):
    """metrics.json, and the values of every sample."""

    name = "evaluate"
    writes = ("metrics.json", "samples.parquet")
    judges = True
    reads = {"label": ("rankings",), "predict": ("predictions.jsonl", "scores")}  # noqa: RUF012 - never changed

    def inputs(self, run: Run) -> dict[str, Any]:
        """Task, strategy, metrics, how rankings are combined, what is reported, seed."""
        config = run.resolved.config
        return {
            **run.task_identity(),
            **({"fusion": fusion_identity(run)} if run.resolved.retriever else {}),
            "strategy": run.resolved.strategy.identity(),
            "metrics": {key: metric.identity() for key, metric in run.resolved.metrics.items()},
            "predict": decisive(config.predict),
            "evaluate": config.evaluate.model_dump(mode="json"),
            "subgroups": digest_of([[sample, member.subgroups] for sample, member in run.members.items()]),
            "layout": LAYOUT,
            "seed": config.seed,
        }

    def make(self, run: Run, work: Path, out: Path) -> Facts:
        """See `Stage.make`."""
        config = run.resolved.config
        samples = run.reported
        rankings = run.rankings()
        predictions = read_predictions(run.path)
        retrieved = retrieval_rows(run, predictions)
        predictions += retrieved.predictions
        rng = np.random.default_rng([config.seed, 11])
        frequent = _most_frequent(run)
        for sample in samples:
            predictions.append(Prediction.of_labels(sample.id, "teacher", rankings[sample.id].labels[: run.n]))
            drawn = rng.permutation(run.data.labels.names)[: run.n]
            predictions.append(Prediction.of_labels(sample.id, "chance", tuple(str(name) for name in drawn)))
            predictions.append(Prediction.of_labels(sample.id, "majority", frequent))
        metrics = run.metrics
        how: dict[str, Any] = {
            "draws": config.evaluate.bootstrap,
            "confidence": config.evaluate.confidence,
            "seed": config.seed,
        }
        judged = evaluation_samples(run, predictions, rankings)
        scores = evaluate(judged, run.members, metrics, **how)
        ranks = _Ranks.of(run, rankings)
        behind = breakdown(
            scores.per_sample,
            run.members,
            run.data.labels,
            named=run.pairs,
            n=run.n,
            rank_of=ranks.rank_of,
            full=ranks.full,
            how=how,
        )
        most = ceilings(metrics, judged)
        teacher = read_json(run.path / TEACHER)
        content = {
            "split": run.split,
            "n": len(samples),
            "N": run.n,
            "n_labels": len(run.data.labels),
            "confidence": config.evaluate.confidence,
            "bootstrap": config.evaluate.bootstrap,
            "seed": config.seed,
            "decode": config.predict.decode,
            "simulated": run.data.simulated,
            "quick": config.quick,
            "source": run.data.source,
            "teacher_top_1": teacher["top_1"],
            "teacher_parts": _parts(run, teacher["teacher"]),
            **retrieved.facts,
            **judged_beliefs(run, predictions, rankings),
            "asked": {**run.made["predict"].facts["who"], **config.predict.model_dump(include={"shots", "reason"})},
            "titles": {key: metric.title(run.n) for key, metric in metrics.items()},
            "rules": {key: " ".join(filter(None, [metric.rule(), most.get(key)])) for key, metric in metrics.items()},
            "ceilings": most,
            "claims": {key: metric.claim(run.n) for key, metric in metrics.items()},
            "reads_teacher": [key for key, metric in metrics.items() if metric.reads_teacher],
            **scores.plain(),
            **behind,
        }
        with storage_errors(out):
            write_json(out / METRICS, content)
            write_per_sample(out / SAMPLES, scores.per_sample)
            _publish(run, content)
        return {"n": len(samples), "split": run.split}


@dataclass(frozen=True, slots=True)
class _Ranks:
    """Where labels stand in the answers of a run."""

    n: int
    labels: LabelSpace
    teachers: RankOf
    position: Mapping[str, int]
    """Row of the scores by sample."""
    scores: Mapping[str, NDArray[np.float32]]
    """By variant, where all labels were scored."""

    @classmethod
    def of(cls, run: Run, rankings: Mapping[str, Ranking]) -> _Ranks:
        table = ScoreTable.read(run.path / SCORES) if SCORES.name in run.made["predict"].outputs else None
        exact = run.resolved.config.predict.normalise == "none"  # else the scores are not in the order of the lists
        kept = [one for one in (table.variants if table else ()) if exact or one == RETRIEVER.name]
        scores = {variant: table.mapped(variant) for variant in kept} if table else {}
        return cls(run.n, run.data.labels, rank_in_rankings(rankings), table.position if table else {}, scores)

    @property
    def full(self) -> list[str]:
        """Variants that rank all labels."""
        return [_TEACHER, *self.scores]

    def rank_of(self, record: Mapping[str, Any], label: str) -> int | None:
        """See `mint_core.evaluation.ranks.RankOf`; names beyond the N-th are not listed."""
        variant, sample = record["variant"], record["sample"]
        if variant == _TEACHER:
            return self.teachers(record, label)
        if variant in self.scores:
            return rank_in_scores(self.scores[variant][self.position[sample]], self.labels.index(label))
        return rank_in_list(record["answer"][: self.n], label)


def _most_frequent(run: Run) -> tuple[str, ...]:
    """The N most frequent labels of the labelled training samples, ties in the order of the label space."""
    counts = Counter(sample.label for sample in run.data.split("train") if sample.label is not None)
    return tuple(sorted(run.data.labels.names, key=lambda name: -counts[name])[: run.n])


def _parts(run: Run, told: Mapping[str, Any]) -> dict[str, Any]:
    """Weight and Top-1 by split of the teachers that a teacher is made of, by name; none where it stands alone."""
    if run.resolved.teacher.name != Ensemble.name:
        return {}
    return {name: {"weight": told["weights"][name], "top_1": one["top_1"]} for name, one in told["parts"].items()}


def _publish(run: Run, content: Mapping[str, Any]) -> None:
    """Sends the means of all rows to the trackers of the training."""
    if run.resolved.aligner is None:
        return
    figures = {
        "/".join([f"eval_{row['variant']}", *([] if row["subset"] == ALL else [row["subset"]]), key]): value["mean"]
        for row in content["rows"]
        for key, value in row["metrics"].items()
        if value["mean"] is not None
    }
    trained = run.made["align"]
    aligner = cast(Aligner, run.resolved.aligner.make(run.context()))
    try:
        aligner.publish(figures, run.logs(trained.key), trained.facts["steps"])
    except Exception as error:  # a server that is away is no reason to lose the evaluation
        run.tell(f"The trackers did not take the final metrics ({type(error).__name__}); {METRICS} has them.")


def evaluation_samples(
    run: Run, predictions: Sequence[Prediction], rankings: Mapping[str, Ranking]
) -> list[EvaluationSample]:
    """Predictions for reported samples beside what metrics need, with T_i and B_i from the teacher's rankings."""
    samples = {sample.id: sample for sample in run.reported}
    judged = []
    for prediction in predictions:
        truth = cast(str, samples[prediction.sample_id].label)  # check_samples refuses evaluation samples without one
        ranking = rankings[prediction.sample_id]
        top, bottom = run.strategy.top(ranking, truth), run.strategy.bottom(ranking, truth)
        judged.append(EvaluationSample(prediction, truth, top, bottom, run.n, run.data.labels))
    return judged
