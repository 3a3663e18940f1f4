"""The stage `predict`: the student answers for the reported samples, and every answer is kept as it comes."""

from __future__ import annotations

import gc
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from mint_core import processes
from mint_core.answering.asker import open_engine
from mint_core.answering.asking import Passages, Wording, questions
from mint_core.answering.engine import WINDOW, Answered, Asking, Engine, count_truncated
from mint_core.answering.scores import ScoreTable, ScoreWriter, retriever_scores
from mint_core.config import decisive
from mint_core.errors import DataError
from mint_core.files import digest_of, read_lines, remove, replaced, storage_errors, write_line
from mint_core.interfaces import Unreadable
from mint_core.stages.outputs import ADAPTER, PREDICTIONS, SCORES
from mint_core.stages.prompts import examples, passages_identity
from mint_core.stages.run import Run
from mint_core.stages.stage import Facts, Stage
from mint_core.students.control import count_control_tokens
from mint_core.types import Prediction, Prompt, Sample, Variant

_KEPT = tuple(field.name for field in fields(Prediction) if field.name != "scores")
"""What a line says of an answer; the scores of all labels lie in an array of their own."""


_OTHERS = "predictions-"
"""How the files of the further processes begin."""
_SCORES_CHECK = "scores_crc32"
"""In a line of an answer that is not published yet: checksum of the scores that belong to it."""


class Predict(Stage):
    """Answers of the base student, the aligned one, and the aligned one with shuffled images.

    Without an aligner it is the base student alone. Where labels are scored, the scores of all of them are kept beside
    the answers, those of the samples too on which the weight of a fusion is fitted or a threshold of confidence chosen.
    """

    name = "predict"
    writes = ("predictions.jsonl", "scores")
    kept = True
    joined = True
    lower = "lower predict.batch_size"
    reads = {"align": ("adapter",)}  # noqa: RUF012 - never changed

    def inputs(self, run: Run) -> dict[str, Any]:
        """Task, reported samples, who answers and how, the retriever, seed."""
        config = run.resolved.config.predict
        who = {} if config.engine == "endpoint" else run.student_identity()
        shots = {"rankings": dict(run.made["label"].outputs), "strategy": run.resolved.strategy.identity()}
        return {
            **run.task_identity(),
            **who,
            "samples": digest_of([sample.id for sample in (*run.reported, *run.validation)]),
            **({"held_out": digest_of([sample.id for sample in run.held_out])} if run.held_out else {}),
            "predict": decisive(config),
            "retriever": passages_identity(run) if run.resolved.retriever else None,
            **(shots if config.shots else {}),
            "seed": run.resolved.config.seed,
        }

    def make(self, run: Run, work: Path, out: Path) -> Facts:
        """See `Stage.make`."""
        asking = asking_of(run)
        resolved = run.resolved
        alone = resolved.config.predict.engine != "transformers"  # servers and vLLM use what there is by themselves
        if alone and not processes.is_first():
            return {}
        partial = work / PREDICTIONS
        own = partial if processes.is_first() else work / f"{_OTHERS}{processes.rank()}.jsonl"
        samples = run.asked
        aligned = resolved.aligner is not None
        student, adapter = resolved.config.student, run.path / ADAPTER if aligned else None
        with storage_errors(partial):
            with open_engine(
                asking, run.task.modality, student, run.student_path, adapter, tell=run.observer.message
            ) as engine:
                wording = Wording(examples(run), resolved.config.predict.reason)
                asked = questions(run.task, samples, run.n, wording, passages_of(run, engine))
                variants = variants_of(run, asked.prompts)
                scored = {v.name for v in variants if resolved.config.predict.decode == "score" and not v.free}
                table = ScoreTable(work / SCORES, tuple(sample.id for sample in samples), run.data.labels.names)
                if processes.is_first():
                    table.begin(scored)
                    _gather(work, table)
                processes.wait(alone=alone)
                done = {(line["variant"], line["sample_id"]) for line in read_lines(partial)}
                processes.wait(alone=alone)  # all know what is there before anyone goes on
                left = {
                    variant: _share([i for i in prompts if (variant.name, i) not in done], asking.batch_size, alone)
                    for variant, prompts in variants.items()
                }
                total = sum(map(len, variants.values()))
                advance = run.advance(len(done) + sum(map(len, left.values())), "responses")
                advance(len(done))
                with ExitStack() as stack, own.open("a", encoding="utf-8") as stream:
                    stack.callback(gc.collect)
                    writers = {name: stack.enter_context(table.writer(name)) for name in scored}
                    for variant, answers in _answered(engine, run.path / ADAPTER, variants, left):
                        _keep(stream, writers.get(variant), answers, asked.sources)
                        advance(len(answers))
                processes.wait(alone=alone)
                if not processes.is_first():
                    return {}
                facts = {"who": engine.facts, "max_new_tokens": asking.budget(engine.counter), **asked.facts}
                owner = getattr(getattr(engine, "student", None), "processor", None)
                replaced = count_control_tokens(asked.prompts.values(), owner)
            _gather(work, table)
            names = [variant.name for variant in variants]
            cut = _truncated(partial, [v.name for v in variants if v.free or resolved.config.predict.decode == "free"])
            if cut.sentence:
                run.observer.message(cut.sentence)
            _publish_answers(run, partial, names, out)
            _publish_scores(run, table, samples, out)
        retriever = {"retriever": run.retriever.describe()} if run.retriever is not None else {}
        told: dict[str, Any] = {"control_tokens_replaced": replaced} if replaced else {}
        told |= {"truncated": cut.by_variant} if cut.by_variant else {}
        return {"responses": total, "resumed": len(done), "variants": names, **facts, **told, **retriever}


def _answered(
    engine: Engine, adapter: Path, variants: Mapping[Variant, Mapping[str, Prompt]], left: Mapping[Variant, list[str]]
) -> Iterator[tuple[str, list[Answered]]]:
    """Some answers at a time, with the variant's name; the adapter is put on before the first that needs it."""
    worn = False
    for variant, ids in left.items():
        if variant.who == "aligned" and not worn:
            engine.put_on(adapter)
            worn = True
        prompts = {i: variants[variant][i] for i in ids}
        for answers in engine.answers(variant.name, prompts, free=variant.free):
            yield variant.name, answers


def asking_of(run: Run) -> Asking:
    """What is the same for all questions of a run."""
    return Asking(run.data.labels, run.task.header, run.n, run.n, run.resolved.config.predict)


def passages_of(run: Run, engine: Engine) -> Passages | None:
    """How passages come into a run's questions; None where it has no retriever."""
    if run.retriever is None:
        return None
    reserve = engine.asking.reserve(engine.counter)
    return Passages(run.retriever, engine.counter, run.resolved.config.retrieval.tokens, reserve)


def variants_of(run: Run, prompts: Mapping[str, Prompt]) -> dict[Variant, Mapping[str, Prompt]]:
    """Who answers, and what is asked."""
    config = run.resolved.config.predict
    aligned = run.resolved.aligner is not None
    students = [Variant("base")] if config.base or not aligned else []
    students += [Variant("aligned")] if aligned else []
    beside = config.decode == "constrained" and config.free_beside
    ways = (False, True) if beside else (False,)
    reported = {sample.id: prompts[sample.id] for sample in run.reported}
    fitted = reported | {sample.id: prompts[sample.id] for sample in run.validation}
    variants: dict[Variant, Mapping[str, Prompt]] = {
        replace(s, free=free): prompts if s.who == "aligned" else fitted for s in students for free in ways
    }
    if aligned and config.shuffled and "image" in run.task.modality and len(reported) > 1:
        variants[Variant("aligned", shuffled=True)] = _shuffle_images(reported, run.resolved.config.seed)
    return variants


def _keep(
    stream: TextIO, writer: ScoreWriter | None, answers: Sequence[Answered], sources: Mapping[str, tuple[str, ...]]
) -> None:
    """Writes some answers, the scores of all labels first: a line says that both are there."""
    for answer in answers:
        if isinstance(answer, Unreadable):
            raise DataError(answer.reason)
        scored = {}
        if writer is not None and answer.scores is not None:
            scored = {_SCORES_CHECK: writer.put(answer.sample_id, answer.scores)}
        line = {name: getattr(answer, name) for name in _KEPT}
        write_line(stream, {**line, "passages": sources[answer.sample_id], **scored}, checked=True)


class _Truncated(NamedTuple):
    by_variant: dict[str, int]
    """Answers that reached the limit on their length; variants without one are left out."""
    sentence: str
    """For the person who waits; empty where there is nothing to say."""


def _truncated(partial: Path, free: Sequence[str]) -> _Truncated:
    """Counts the free answers that were cut.

    Args:
        partial: The answers of all variants.
        free: The variants that write freely.
    """
    lines = [line for line in read_lines(partial) if line["variant"] in free]
    found = Counter(line["variant"] for line in lines if line.get("truncated"))
    return _Truncated(dict(found), count_truncated(found.total(), len(lines)))


def _publish_answers(run: Run, partial: Path, variants: Sequence[str], out: Path) -> None:
    """The answers for the reported samples, in their order."""
    position = {sample.id: place for place, sample in enumerate(run.reported)}
    lines = [line for line in read_lines(partial) if line["sample_id"] in position]
    lines.sort(key=lambda line: (variants.index(line["variant"]), position[line["sample_id"]]))
    with (out / PREDICTIONS).open("w", encoding="utf-8") as stream:
        for line in lines:
            line.pop(_SCORES_CHECK, None)
            write_line(stream, line)


def _publish_scores(run: Run, table: ScoreTable, samples: Sequence[Sample], out: Path) -> None:
    """The scores of all labels where there are any, the retriever's among them."""
    if run.retriever is not None:
        blind = [sample.for_student(run.task.modality) for sample in samples]
        found = retriever_scores(run.retriever, blind, run.data.labels)
        if found is not None:
            with table.writer(Variant("retriever").name) as writer:
                for sample, row in zip(samples, found, strict=True):
                    writer.put(sample.id, row)
    if table.variants:
        # A copy: what an interruption leaves of the stage's end must not take the scores from its beginning.
        shutil.copytree(table.folder, out / SCORES)


def _shuffle_images(prompts: Mapping[str, Prompt], seed: int) -> dict[str, Prompt]:
    """Every prompt with the image of another sample."""
    ids = list(prompts)
    order = np.random.default_rng([seed, 7]).permutation(len(ids))
    shuffled = dict(prompts)
    for mine, other in zip(order, np.roll(order, 1), strict=True):
        shuffled[ids[mine]] = replace(prompts[ids[mine]], image=prompts[ids[other]].image)
    return shuffled


def _share(ids: Sequence[str], batch_size: int, alone: bool) -> list[str]:
    """The samples that this process asks about, in whole windows, so that its batches are those of one process."""
    size = WINDOW * batch_size
    windows = [ids[begin : begin + size] for begin in range(0, len(ids), size)]
    return [i for window in (windows if alone else processes.share(windows)) for i in window]


def _gather(work: Path, table: ScoreTable) -> None:
    """Puts what all processes answered into one file; what is cut off or damaged, or whose scores are, is left out."""

    def whole(record: Mapping[str, Any]) -> bool:
        check = record.get(_SCORES_CHECK)
        return check is None or check == table.checksum(record["variant"], record["sample_id"])

    partial, others = work / PREDICTIONS, sorted(work.glob(f"{_OTHERS}*.jsonl"))
    records = [record for path in (partial, *others) for record in read_lines(path, drop=True) if whole(record)]
    found = {(record["variant"], record["sample_id"]): record for record in records}
    with replaced(partial) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for record in found.values():
            write_line(stream, record, checked=True)
    for path in others:
        remove(path)


def read_predictions(path: Path) -> list[Prediction]:
    """The answers that the stage left."""
    lists = ("labels", "log_probs", "passages")
    lines = read_lines(path / PREDICTIONS)
    return [Prediction(**{**line, **{key: tuple(line[key]) for key in lists}}) for line in lines]
