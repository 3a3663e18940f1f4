"""The stage `predict`: the student answers for the reported split, and every answer is kept as it comes."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mint_core.files import read_lines, storage_errors, write_line
from mint_core.retrieval.scores import RETRIEVER, SCORES, of_prediction, pack, retriever_scores, unpack, write_scores
from mint_core.runs.context import Context, Facts
from mint_core.runs.prompts import inference_prompts, response_budget, with_passages
from mint_core.students.prompts import write_response
from mint_core.types import Prediction, Prompt


def predict(context: Context, work: Path, out: Path) -> Facts:
    """The student answers for every sample of the reported split: base, aligned, and aligned with shuffled images.

    Without an aligner it is the base student alone. Where a retriever's ranking is to be combined with the student's,
    the scores of all labels are kept beside the answers, those of the samples on which a weight is fitted too.
    """
    from mint_core.answering.answer import answers
    from mint_core.students.adapter import load_adapter
    from mint_core.students.load import load_student

    config, labels, header = context.resolved.config.predict, context.data.labels, context.task.header
    partial = work / "predictions.jsonl"
    with storage_errors(partial):
        done = _resume(partial)
        student = load_student(context.resolved.config.student, context.student_path)
        budget = config.max_new_tokens or response_budget(student, context)
        samples = [*context.data.split(context.split), *context.validation]
        reserve = budget if config.decode == "free" else max(budget, response_budget(student, context))
        asked = with_passages(context, student, samples, inference_prompts(context, samples), reserve)
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


def _variants(context: Context, prompts: Mapping[str, Prompt]) -> dict[str, Mapping[str, Prompt]]:
    """Who answers, and what is asked."""
    from mint_core.answering.answer import FREE

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
