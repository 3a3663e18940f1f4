"""The stages but `predict` as straight-line functions: each reads the run folder and writes its outputs into `out`."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from mint_core import processes
from mint_core.config import Configured
from mint_core.errors import ContractError
from mint_core.files import read_json, read_lines, storage_errors, write_json
from mint_core.interfaces import Aligner, AlignmentJob, EvaluationSample, Teacher, TeacherContext
from mint_core.retrieval.rows import retrieval_rows
from mint_core.runs.context import PREFERENCES, RANKINGS, Context, Facts
from mint_core.runs.prompts import training_prompts, training_reserve, with_passages
from mint_core.runs.tables import read_preferences, write_per_sample, write_preferences, write_rankings
from mint_core.types import Prediction, Ranking, TaskData


def label(context: Context, work: Path, out: Path) -> Facts:
    """The teacher ranks all labels for every sample."""
    from mint_core.students.load import resolve_device

    data, config = context.data, context.resolved.config
    teacher_context = TeacherContext(
        labels=data.labels,
        seed=config.seed,
        device=resolve_device(config.student.device),
        cache=context.cache,
        advance=context.advance(len(data.samples), "samples"),
    )
    component = cast(type[Teacher], context.resolved.teacher.registered.component)
    teacher = component(context.resolved.teacher.config, teacher_context)
    with storage_errors(out):
        teacher.fit(data.split("train"))
        log_probs = teacher.log_probs(list(data.samples))
        _check_log_probs(teacher, log_probs, (len(data.samples), len(data.labels)))
        (out / "rankings").mkdir(exist_ok=True)
        write_rankings(out / RANKINGS, data.samples, log_probs)
        facts = {"teacher": teacher.describe(), "top_1": _teacher_top_1(data, log_probs)}
        write_json(out / "rankings" / "teacher.json", facts)
    del teacher
    gc.collect()
    return facts


def _check_log_probs(teacher: Teacher, log_probs: Any, shape: tuple[int, int]) -> None:
    if getattr(log_probs, "shape", None) != shape:
        raise ContractError(
            f"Teacher '{teacher.name}' returned shape {getattr(log_probs, 'shape', None)}, not {shape}."
        )
    if np.isnan(log_probs).any() or np.isposinf(log_probs).any():
        raise ContractError(f"Teacher '{teacher.name}' returned log-probabilities that are not finite.")
    worst = float(np.abs(np.exp(log_probs.astype(np.float64)).sum(axis=1) - 1).max())
    if worst > 1e-2:
        raise ContractError(f"Teacher '{teacher.name}' returned probabilities whose sum is off by {worst:.3g}.")


def _teacher_top_1(data: TaskData, log_probs: Any) -> dict[str, dict[str, float]]:
    """Top-1 of the teacher per split of the task's own data."""
    best = log_probs.argmax(axis=1)
    result = {}
    for split in ("train", "val", "test"):
        hits = [
            data.labels.names[b] == s.label
            for b, s in zip(best, data.samples, strict=True)
            if s.split == split and s.label and s.cohort is None
        ]
        if hits:
            result[split] = {"top_1": round(float(np.mean(hits)), 4), "n": len(hits)}
    return result


def prefer(context: Context, work: Path, out: Path) -> Facts:
    """The strategy turns the training split's rankings into preference groups."""
    rankings = context.rankings()
    train = context.data.split("train")
    context.strategy.fit([rankings[sample.id] for sample in train], [sample.label for sample in train])
    groups = [group for sample in train for group in context.strategy.groups(rankings[sample.id], sample.label)]
    with storage_errors(out):
        (out / "preferences").mkdir(exist_ok=True)
        write_preferences(out / PREFERENCES, groups)
    unlabelled = sum(sample.label is None for sample in train)
    return {"groups": len(groups), "samples_without_truth": unlabelled}


def align(context: Context, work: Path, out: Path) -> Facts:
    """The aligner trains an adapter on the preference groups."""
    from mint_core.aligners.card import write_card
    from mint_core.students.load import load_student

    groups = read_preferences(context.folder.path / PREFERENCES)
    _ = context.retriever  # what is wrong with its knowledge is to be said before hours of training
    prompts = training_prompts(context, groups)
    student = load_student(context.resolved.config.student, context.student_path)
    retrieval: dict[str, Any] = {}
    if context.resolved.config.retrieval.train:
        asked = [sample for sample in context.data.split("train") if sample.id in prompts]
        reserve = training_reserve(context, student, groups, prompts)
        augmented = with_passages(context, student, asked, prompts, reserve)
        prompts, retrieval = augmented.prompts, {"retrieval": augmented.facts()}
    chosen = cast(Configured, context.resolved.aligner)  # without an aligner there is no such stage
    aligner = cast(Aligner, chosen.registered.component(chosen.config))

    def advance(step: int, total: int, figures: Mapping[str, float]) -> None:
        context.observer.progress(step, total, "steps", figures)

    with storage_errors(out):
        job = AlignmentJob(
            student=student,
            groups=groups,
            prompts=prompts,
            header=context.task.header,
            seed=context.resolved.config.alignment_seed,
            work=work / "checkpoints",
            adapter=out / "adapter",
            advance=advance,
            cache=context.cache,
        )
        result = aligner.align(job)
        processes.wait()  # nobody still writes into the working folder
        (out / "training").mkdir(exist_ok=True)
        write_json(out / "training" / "history.json", asdict(result))
        write_card(out / "adapter", context)
    del student, job
    gc.collect()
    return {"steps": result.steps, "final_loss": result.final_loss, "settings": dict(result.settings), **retrieval}


def evaluate(context: Context, work: Path, out: Path) -> Facts:
    """The metrics judge the predictions, beside the teacher itself and a list drawn at random."""
    from mint_core.evaluation.evaluate import evaluate as score

    config = context.resolved.config
    samples = context.data.split(context.split)
    rankings = context.rankings()
    predictions = [_prediction(record) for record in read_lines(context.folder.path / "predictions.jsonl")]
    retrieved = retrieval_rows(context, predictions)
    predictions += retrieved.predictions
    rng = np.random.default_rng([config.seed, 11])
    for sample in samples:
        predictions.append(Prediction.of_labels(sample.id, "teacher", rankings[sample.id].labels[: context.n]))
        drawn = rng.permutation(context.data.labels.names)[: context.n]
        predictions.append(Prediction.of_labels(sample.id, "chance", tuple(str(name) for name in drawn)))
    metrics = context.metrics
    scores = score(
        evaluation_samples(context, predictions, rankings),
        context.members,
        metrics,
        draws=config.evaluate.bootstrap,
        confidence=config.evaluate.confidence,
        seed=config.seed,
    )
    teacher = read_json(context.folder.path / "rankings" / "teacher.json")
    content = {
        "split": context.split,
        "n": len(samples),
        "N": context.n,
        "n_labels": len(context.data.labels),
        "confidence": config.evaluate.confidence,
        "bootstrap": config.evaluate.bootstrap,
        "seed": config.seed,
        "decode": config.predict.decode,
        "simulated": context.data.simulated,
        "source": context.data.source,
        "teacher_top_1": teacher["top_1"],
        **retrieved.facts,
        "rules": {metric.title(context.n): metric.rule() for metric in metrics},
        **scores.plain(),
    }
    with storage_errors(out):
        write_json(out / "metrics.json", content)
        write_per_sample(out / "samples.parquet", scores.per_sample)
    return {"n": len(samples), "split": context.split}


def _prediction(record: Mapping[str, Any]) -> Prediction:
    lists = {key: tuple(record[key]) for key in ("labels", "log_probs", "passages") if key in record}
    return Prediction(**{**record, **lists})


def evaluation_samples(
    context: Context, predictions: Sequence[Prediction], rankings: Mapping[str, Ranking]
) -> list[EvaluationSample]:
    """Predictions beside what metrics need.

    Args:
        context: The run: its samples, labels and strategy.
        predictions: Of samples of the reported split.
        rankings: The teacher's rankings, from which T_i and B_i are taken.
    """
    samples = {sample.id: sample for sample in context.data.split(context.split)}
    judged = []
    for prediction in predictions:
        truth = cast(str, samples[prediction.sample_id].label)  # check_samples refuses evaluation samples without one
        ranking = rankings[prediction.sample_id]
        top, bottom = context.strategy.top(ranking, truth), context.strategy.bottom(ranking, truth)
        judged.append(EvaluationSample(prediction, truth, top, bottom, context.n, context.data.labels))
    return judged


def report(context: Context, work: Path, out: Path) -> Facts:
    """One HTML page from what the stages measured."""
    from mint_core.report.html import render_report

    with storage_errors(out):
        (out / "report.html").write_text(render_report(context), encoding="utf-8")
    return {}
