"""The stage `evaluate`: the metrics judge the predictions, beside the teacher itself and a list drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from mint_core.config import decisive
from mint_core.evaluation.evaluate import evaluate
from mint_core.evaluation.subsets import ALL
from mint_core.files import read_json, storage_errors, write_json
from mint_core.interfaces import Aligner, EvaluationSample
from mint_core.stages.beliefs import judged_beliefs
from mint_core.stages.fused import fusion_identity, retrieval_rows
from mint_core.stages.outputs import METRICS, SAMPLES, TEACHER, write_per_sample
from mint_core.stages.predict import read_predictions
from mint_core.stages.run import Run
from mint_core.stages.stage import Facts, Stage
from mint_core.types import Prediction, Ranking

LAYOUT = 5
"""Of metrics.json and samples.parquet: raise it when they change, so that files of an older layout are made again."""


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
        for sample in samples:
            predictions.append(Prediction.of_labels(sample.id, "teacher", rankings[sample.id].labels[: run.n]))
            drawn = rng.permutation(run.data.labels.names)[: run.n]
            predictions.append(Prediction.of_labels(sample.id, "chance", tuple(str(name) for name in drawn)))
        metrics = run.metrics
        scores = evaluate(
            evaluation_samples(run, predictions, rankings),
            run.members,
            metrics,
            draws=config.evaluate.bootstrap,
            confidence=config.evaluate.confidence,
            seed=config.seed,
        )
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
            "source": run.data.source,
            "teacher_top_1": teacher["top_1"],
            **retrieved.facts,
            **judged_beliefs(run, predictions, rankings),
            "asked": {**run.made["predict"].facts["who"], **config.predict.model_dump(include={"shots", "reason"})},
            "titles": {key: metric.title(run.n) for key, metric in metrics.items()},
            "rules": {key: metric.rule() for key, metric in metrics.items()},
            "claims": {key: metric.claim(run.n) for key, metric in metrics.items()},
            "reads_teacher": [key for key, metric in metrics.items() if metric.reads_teacher],
            **scores.plain(),
        }
        with storage_errors(out):
            write_json(out / METRICS, content)
            write_per_sample(out / SAMPLES, scores.per_sample)
            _publish(run, content)
        return {"n": len(samples), "split": run.split}


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
