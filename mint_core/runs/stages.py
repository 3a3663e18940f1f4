"""The six stages as straight-line functions: each reads the run folder, and writes its outputs into `out`."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mint_core.config import EMBEDDED, Chosen, Resolved
from mint_core.errors import ContractError, DataError
from mint_core.evaluation.subsets import Member, members
from mint_core.interfaces import (
    Aligner,
    AlignmentJob,
    EmbeddedStudent,
    EvaluationSample,
    Metric,
    PreferenceStrategy,
    Retriever,
    RetrieverContext,
    Task,
    Teacher,
    TeacherContext,
)
from mint_core.retrieval.rows import retrieval_rows
from mint_core.retrieval.scores import RETRIEVER, SCORES, of_prediction, pack, retriever_scores, unpack, write_scores
from mint_core.runs import processes
from mint_core.runs.folder import RunFolder, digest_of, read_json, read_lines, storage_errors, write_json, write_line
from mint_core.runs.observer import Observer
from mint_core.runs.tables import read_preferences, read_rankings, write_per_sample, write_preferences, write_rankings
from mint_core.splits import check_samples
from mint_core.students.prompts import write_response
from mint_core.types import Prediction, PreferenceGroup, Prompt, Ranking, Sample, Split, TaskData

if TYPE_CHECKING:
    from mint_core.retrieval.passages import Augmented
    from mint_core.students.student import Student

RANKINGS = Path("rankings", "rankings.parquet")
PREFERENCES = Path("preferences", "preferences.parquet")


@dataclass
class Context:
    """What every stage needs: the resolved config, the task and its data, the run folder, an observer."""

    resolved: Resolved
    folder: RunFolder
    observer: Observer
    cache: Path
    loaded: dict[str, TaskData] = field(default_factory=dict)
    """Data of earlier runs of one comparison, by digest of the task's record: reading them takes time."""

    @cached_property
    def task(self) -> Task:
        """The task."""
        return cast(Task, self.resolved.task.registered.component(self.resolved.task.config))

    @cached_property
    def data(self) -> TaskData:
        """The samples and labels, checked for leaks."""
        key = digest_of(self.resolved.task.record)
        if key not in self.loaded:
            data = self.task.load()
            check_samples(data.samples, data.labels)
            self.loaded[key] = data
        return self.loaded[key]

    @cached_property
    def n(self) -> int:
        """Labels that the student lists (N)."""
        count = len(self.data.labels)
        n: int = self.resolved.task.config.n or self.task.list_length(count)
        if n > count:
            raise DataError(
                f"N = {n} is larger than the label space ({count} labels); lower it with --set task.n={count}."
            )
        return n

    @cached_property
    def split(self) -> Split:
        """The split that is reported."""
        wanted = self.resolved.config.evaluate.split
        present = {sample.split for sample in self.data.samples}
        if wanted == "auto":
            return "test" if "test" in present else "val"
        if wanted not in present:
            raise DataError(f"The split '{wanted}' has 0 samples; choose another with --set evaluate.split=….")
        return wanted

    @cached_property
    def strategy(self) -> PreferenceStrategy:
        """The preference strategy."""
        component = cast(type[PreferenceStrategy], self.resolved.strategy.registered.component)
        return component(self.resolved.strategy.config, self.data.labels, self.n)

    @cached_property
    def metrics(self) -> list[Metric]:
        """The metrics, in the order of the table."""
        return [cast(Metric, chosen.registered.component(chosen.config)) for chosen in self.resolved.metrics]

    @cached_property
    def members(self) -> dict[str, Member]:
        """Group, cohort and whether the label was seen in training, of every sample of the reported split."""
        return members(self.data.split(self.split), self.data.split("train"))

    @cached_property
    def retriever(self) -> Retriever | None:
        """The retriever with its index; None where the run has none."""
        chosen = self.resolved.retriever
        if chosen is None:
            return None
        retriever = cast(Retriever, chosen.registered.component(chosen.config))
        with storage_errors(self.cache):
            retriever.build(RetrieverContext(self.data.labels, self.cache, self.advance(None, "passages")))
        return retriever

    @cached_property
    def validation(self) -> list[Sample]:
        """The samples on which the weight of a fusion is fitted; none unless one is."""
        retrieval = self.resolved.config.retrieval
        if retrieval.fuse != "weighted" or retrieval.weight is not None:
            return []
        return [sample for sample in self.data.split("val") if sample.label is not None and sample.cohort is None]

    @cached_property
    def taught(self) -> frozenset[str]:
        """The labels that training taught as an answer; a student has no opinion worth hearing on the others."""
        return frozenset(group.answer for group in read_preferences(self.folder.path / PREFERENCES))

    @cached_property
    def embedded(self) -> EmbeddedStudent | None:
        """The embedded student, where it is used."""
        return self.task.embedded_student() if self.resolved.config.student.model == EMBEDDED else None

    @cached_property
    def data_fingerprint(self) -> str:
        """Digest of all samples: ids, labels, splits, groups, texts, privileged fields, image keys."""
        return digest_of(
            [
                [s.id, s.label, s.split, s.group, s.image.key if s.image else None, s.text, s.privileged, s.cohort]
                for s in self.data.samples
            ]
            + [[*self.data.labels.names], [list(a) for a in self.data.labels.aliases]]
        )

    def rankings(self) -> dict[str, Ranking]:
        """The teacher's rankings by sample id."""
        return read_rankings(self.folder.path / RANKINGS, self.data.labels)

    def advance(self, total: int | None, unit: str) -> Callable[[int], None]:
        """A counter that tells the observer how far the stage is; without a total it is what is done."""
        done = 0

        def step(count: int) -> None:
            nonlocal done
            done += count
            self.observer.progress(done, done if total is None else total, unit)

        return step


Facts = Mapping[str, Any]


def label(context: Context, work: Path, out: Path) -> Facts:
    """The teacher ranks all labels for every sample."""
    from mint_core.students.student import resolve_device

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
    from mint_core.students.student import load_student

    processes.call_others(context, work)
    groups = read_preferences(context.folder.path / PREFERENCES)
    _ = context.retriever  # what is wrong with its knowledge is to be said before hours of training
    prompts = training_prompts(context, groups)
    student = load_student(context.resolved.config.student, _student_path(context))
    retrieval: dict[str, Any] = {}
    if context.resolved.config.retrieval.train:
        asked = [sample for sample in context.data.split("train") if sample.id in prompts]
        reserve = training_reserve(context, student, groups, prompts)
        augmented = _with_passages(context, student, asked, prompts, reserve)
        prompts, retrieval = augmented.prompts, {"retrieval": augmented.facts()}
    chosen = cast(Chosen, context.resolved.aligner)  # without an aligner there is no such stage
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
        )
        result = aligner.align(job)
        processes.wait()  # nobody still writes into the working folder
        (out / "training").mkdir(exist_ok=True)
        write_json(out / "training" / "history.json", asdict(result))
        write_card(out / "adapter", context)
    del student, job
    gc.collect()
    return {"steps": result.steps, "final_loss": result.final_loss, "settings": dict(result.settings), **retrieval}


def training_prompts(context: Context, groups: Sequence[PreferenceGroup]) -> dict[str, Prompt]:
    """The training prompt of every sample that the groups name."""
    samples = {sample.id: sample.for_student(context.task.modality) for sample in context.data.split("train")}
    return {g.sample_id: context.task.training_prompt(samples[g.sample_id], len(g.chosen[0])) for g in groups}


def training_reserve(
    context: Context, student: Student, groups: Sequence[PreferenceGroup], prompts: Mapping[str, Prompt]
) -> int:
    """Tokens that are kept for the response in a training prompt with passages.

    That is what an answer may take, or the longest response of the groups, for a rejected list can be longer than N.
    Rejected responses count for every aligner, so that all of them read the same prompts.
    """
    from mint_core.students.encoding import encode_response
    from mint_core.students.prompts import render_prompt, write_response

    budget = response_budget(student, context)
    if not groups:
        return budget
    first = prompts[groups[0].sample_id]
    end = render_prompt(first, student.processor, parts=student.reads_images).end_of_turn
    responses = {response for group in groups for response in (*group.chosen, *group.rejected)}
    written = (write_response(context.task.header, response) for response in responses)
    return max(budget, *(len(encode_response(student, text, end)) for text in written))


def _student_path(context: Context) -> str | None:
    return str(context.embedded.path) if context.embedded else None


def predict(context: Context, work: Path, out: Path) -> Facts:
    """The student answers for every sample of the reported split: base, aligned, and aligned with shuffled images.

    Without an aligner it is the base student alone. Where a retriever's ranking is to be combined with the student's,
    the scores of all labels are kept beside the answers, those of the samples on which a weight is fitted too.
    """
    from mint_core.aligners.lora import load_adapter
    from mint_core.inference.answer import answers
    from mint_core.students.student import load_student

    config, labels, header = context.resolved.config.predict, context.data.labels, context.task.header
    partial = work / "predictions.jsonl"
    with storage_errors(partial):
        done = _resume(partial)
        student = load_student(context.resolved.config.student, _student_path(context))
        budget = config.max_new_tokens or response_budget(student, context)
        samples = [*context.data.split(context.split), *context.validation]
        asked = _with_passages(context, student, samples, _inference_prompts(context, samples), budget)
        variants = _variants(context, asked.prompts)
        whole = config.decode == "score"
        total = sum(map(len, variants.values()))
        advance = context.advance(total, "responses")
        advance(len(done))
        model = student.model
        with partial.open("a", encoding="utf-8") as stream:
            for variant, prompts in variants.items():
                if variant.startswith("aligned") and model is student.model:
                    model = load_adapter(student.model, context.folder.path / "adapter")
                open_ids = {i: prompt for i, prompt in prompts.items() if (variant, i) not in done}
                n = len(labels) if whole else context.n
                how: Any = {"n": n, "config": config, "budget": budget, "model": model}
                for prediction in answers(student, variant, open_ids, labels, header, **how):
                    write_line(stream, _record(context, prediction, asked.sources[prediction.sample_id], whole=whole))
                    advance(1)
        _publish(context, partial, out)
    del student, model
    gc.collect()
    retrieval: dict[str, Any] = {}
    if context.retriever is not None:
        retrieval = {"retrieval": asked.facts(), "retriever": context.retriever.describe()}
    return {"responses": total, "resumed": len(done), "max_new_tokens": budget, "variants": list(variants), **retrieval}


def response_budget(student: Student, context: Context) -> int:
    """Tokens that the longest list of the run takes, and half again."""
    from mint_core.inference import generate

    return generate.response_budget(student, context.task.header, context.data.labels, context.n)


def _variants(context: Context, prompts: Mapping[str, Prompt]) -> dict[str, Mapping[str, Prompt]]:
    """Who answers, and what is asked."""
    from mint_core.inference.answer import FREE

    config = context.resolved.config.predict
    aligned = context.resolved.aligner is not None
    variants = {"base": prompts} if config.base or not aligned else {}
    if aligned:
        variants["aligned"] = prompts
    if config.decode == "constrained" and config.free_beside:
        variants = {name + way: asked for name, asked in variants.items() for way in ("", FREE)}
    reported = {sample.id: prompts[sample.id] for sample in context.data.split(context.split)}
    if aligned and config.shuffled and context.task.modality == "image" and len(reported) > 1:
        variants["aligned-shuffled"] = _shuffle_images(reported, context.resolved.config.seed)
    return variants


def _inference_prompts(context: Context, samples: Sequence[Sample]) -> dict[str, Prompt]:
    modality = context.task.modality
    return {sample.id: context.task.inference_prompt(sample.for_student(modality), context.n) for sample in samples}


def _with_passages(
    context: Context, student: Student, samples: Sequence[Sample], prompts: Mapping[str, Prompt], reserve: int
) -> Augmented:
    """The prompts with what the run's retriever finds; as they are where it has none."""
    from mint_core.retrieval.passages import Augmented, add_passages

    if context.retriever is None:
        return Augmented(dict(prompts), {sample.id: () for sample in samples}, 0)
    blind = [sample.for_student(context.task.modality) for sample in samples]
    tokens = context.resolved.config.retrieval.tokens
    how: Any = {"tokens": tokens, "reserve": reserve}
    return add_passages(prompts, blind, context.retriever, student, context.task.header, **how)


def _record(context: Context, prediction: Prediction, sources: tuple[str, ...], *, whole: bool) -> dict[str, Any]:
    """One line of an unfinished stage: the N best labels and, where all were asked for, the scores of all."""
    if not whole:
        return asdict(replace(prediction, passages=sources))
    best = prediction.labels[: context.n]
    cut = replace(
        prediction,
        text=write_response(context.task.header, best),
        labels=best,
        n_listed=len(best),
        log_probs=prediction.log_probs[: context.n],
        passages=sources,
    )
    return {**asdict(cut), "scores": pack(of_prediction(prediction, context.data.labels))}


def _publish(context: Context, partial: Path, out: Path) -> None:
    """The answers for the reported split, and the scores of all labels where they are kept."""
    reported = {sample.id for sample in context.data.split(context.split)}
    samples = [*context.data.split(context.split), *context.validation]
    scores: dict[str, dict[str, Any]] = {}
    with (out / "predictions.jsonl").open("w", encoding="utf-8") as stream:
        for record in read_lines(partial):
            row = record.pop("scores", None)
            if row is not None:
                scores.setdefault(record["variant"], {})[record["sample_id"]] = unpack(row)
            if record["sample_id"] in reported:
                write_line(stream, record)
    if context.retriever is not None:
        blind = [sample.for_student(context.task.modality) for sample in samples]
        found = retriever_scores(context.retriever, blind, context.data.labels)
        if found is not None:
            scores[RETRIEVER] = {sample.id: row for sample, row in zip(samples, found, strict=True)}
    if scores:
        write_scores(out / SCORES, scores, context.data.labels)


def _shuffle_images(prompts: Mapping[str, Prompt], seed: int) -> dict[str, Prompt]:
    """Every prompt with the image of another sample."""
    ids = list(prompts)
    order = np.random.default_rng([seed, 7]).permutation(len(ids))
    shuffled = dict(prompts)
    for mine, other in zip(order, np.roll(order, 1), strict=True):
        shuffled[ids[mine]] = replace(prompts[ids[mine]], image=prompts[ids[other]].image)
    return shuffled


def _resume(partial: Path) -> set[tuple[str, str]]:
    """What an interrupted stage answered; a half-written last line is cut off."""
    records = read_lines(partial)
    partial.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return {(record["variant"], record["sample_id"]) for record in records}


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
