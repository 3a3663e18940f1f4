"""What can be refused before the first stage, so that no hour is spent in vain."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import cast

from mint_core import processes
from mint_core.answering.endpoint import check_consent
from mint_core.answering.vllm import check_options
from mint_core.config import Configured, is_embedded, suitable
from mint_core.errors import ConfigError, DataError
from mint_core.interfaces import Aligner, EvaluationSample, TrainingPhase
from mint_core.plugins import registry
from mint_core.stages.fused import check_fusion
from mint_core.stages.prompts import check_example
from mint_core.stages.run import Run
from mint_core.types import Modality, Prediction, Sample

_READ_BY = {"label": ("teacher",), "align": ("aligner",), "predict": ("retriever",)}
"""Components whose files a stage reads."""


def check_run(run: Run, stages: Collection[str], coming: Sequence[Path] = ()) -> list[str]:
    """Refuses what the config, the data and the machine do not allow. Neither teacher nor student is loaded.

    Args:
        run: The run.
        stages: Names of those that it will come to.
        coming: Files and folders that another run of the same comparison makes first.

    Returns:
        Sentences on what mint chose by itself, for the person who waits.

    Raises:
        MintError: Something does not fit; the message says what to do.
    """
    _check_student(run, stages)
    for component in _reading(run, stages):
        component.check_files(coming)
    _ = run.reported, run.device, run.metrics, run.pairs
    check_fusion(run)
    check_example(run)
    _check_teacher(run)
    predict = run.resolved.config.predict
    if predict.engine == "vllm":
        check_options(predict.vllm)
    if predict.engine == "endpoint":
        check_consent(predict.endpoint, run.task.modality)
        if importlib.util.find_spec("httpx2") is None:
            raise ConfigError("An endpoint needs an HTTP client; run `pip install 'mint-core[endpoint]'`.")
    _ = run.strategy
    _call_once(run)
    aligner = run.resolved.aligner
    made = cast(Aligner, aligner.make()) if aligner else None
    shortened = list(_shortened(run, made.phases(0) if made else ()))
    sent = run.resolved.sent_by_teachers() if "label" in stages else {}
    told = [*run.fields.left_out, *(f"Leaves this machine, for the teacher '{who}': {w}." for who, w in sent.items())]
    if made is None or "align" not in stages:
        return told
    made.check_installed()
    return [*told, *shortened, *_taught(run)]


def _call_once(run: Run) -> None:
    """Asks the task for the prompts of one sample, and the metrics for its value, as later stages will.

    Raises:
        ContractError: A component returns what its interface forbids.
    """
    sample = run.reported[0]
    blind = sample.for_student(run.task.modality)
    run.task.training_prompt(blind, run.n)
    run.task.inference_prompt(blind, run.n)
    listed = Prediction.of_labels(sample.id, "chance", run.data.labels.names[: run.n])
    answered = EvaluationSample(listed, cast(str, sample.label), (), (), run.n, run.data.labels)
    for metric in run.metrics.values():
        metric.score(answered), metric.ceiling(answered), metric.why(answered), metric.ungated()
        metric.title(run.n), metric.rule(), metric.claim(run.n)


def _reading(run: Run, stages: Collection[str]) -> Iterator[Configured]:
    for stage, kinds in _READ_BY.items():
        for kind in kinds if stage in stages else ():
            if (component := getattr(run.resolved, kind)) is not None:
                yield component
    yield from run.resolved.parts if "label" in stages else ()


def _check_student(run: Run, stages: Collection[str]) -> None:
    """Refuses a run that comes to a student and has none; teacher and preferences need none.

    Raises:
        ConfigError: None is named, and the task brings none.
    """
    asked = run.resolved.config.predict.engine == "endpoint"
    if {"align", "predict"}.isdisjoint(stages) or asked or run.embedded:
        return
    model = run.resolved.config.student.model
    if is_embedded(model):
        name = model.partition(":")[2] or run.resolved.task.name
        raise ConfigError(
            f"The task '{name}' brings no embedded student; name one with --student ID_OR_FOLDER, or borrow another "
            "task's with --student embedded:TASK."
        )


def _check_teacher(run: Run) -> None:
    """Refuses a teacher that reads what a sample does not have.

    Raises:
        ConfigError: No sample has it.
        DataError: Some samples do not have it.
    """
    for one in (run.resolved.teacher, *run.resolved.parts):
        teacher = one.registered.component
        reads: Sequence[Modality] = getattr(teacher, "reads", ())
        for what in reads:
            without = [sample.id for sample in run.data.samples if not _has(sample, what)]
            if not without:
                continue
            begin = (
                f"The teacher '{teacher.name}' reads {'an image' if what == 'image' else 'a text'} of every sample, and"
            )
            if len(without) == len(run.data.samples):
                fitting = suitable("teacher", run.resolved.task.registered, registry())
                raise ConfigError(f"{begin} none of these has one; {fitting}.")
            raise DataError(
                f"{begin} {len(without):,} of {len(run.data.samples):,} have none, '{without[0]}' for one; leave them "
                "out, or choose another teacher."
            )


def check_retriever(run: Run) -> None:
    """Builds the retriever, which finds out what is wrong with its files, and asks it once.

    Raises:
        MintError: It cannot be built, or ranks no labels where rankings are to be combined.
    """
    retriever, reported = run.retriever, run.reported
    if retriever is None:
        return
    asked = [reported[0].for_student(run.task.modality)]
    retriever.retrieve(asked)
    if run.resolved.config.retrieval.fuse != "none" and retriever.label_scores(asked) is None:
        raise ConfigError("The retriever ranked no labels, so that nothing can be fused; leave --fuse out.")


def _taught(run: Run) -> Iterator[str]:
    """What becomes of free answers where the student learns from shorter responses than it is asked for.

    Raises:
        ConfigError: It learns lists that are too short to be right, and nothing but free answers is judged.
    """
    groups = [group for labelled in (True, False) for group in run.even_groups(labelled=labelled)]
    longest = max((len(response) for group in groups for response in group.chosen), default=run.n)
    predict = run.resolved.config.predict
    if longest >= run.n or predict.decode != "free" or predict.engine == "endpoint":
        return
    begin = (
        f"The strategy '{run.resolved.strategy.name}' teaches {_counted(longest)}, and the student is asked for "
        f"N = {run.n} of {len(run.data.labels)} labels"
    )
    if longest > 1:
        raise ConfigError(
            f"{begin}: it would write {longest} names, and HFA would be 0. Lower N (--set task.n={longest}) or q "
            "(--set strategy.q=…), or rank all labels with --decode score."
        )
    yield f"{begin}: free answers may well fail HFA. --decode score ranks all labels by single names."


def _counted(length: int) -> str:
    return "single names" if length == 1 else f"lists of {length} names"


def _has(sample: Sample, what: Modality) -> bool:
    return (sample.image if what == "image" else sample.text) is not None


def _shortened(run: Run, phases: Sequence[TrainingPhase]) -> Iterator[str]:
    """What becomes of a preset's warm-up that does not fit the data.

    Raises:
        ConfigError: The user's own warm-up is as long as the training.
    """
    if not phases:
        return
    known = Counter(sample.label is not None for sample in run.data.split("train"))
    groups = {labelled: run.even_groups(labelled=labelled) for labelled in (True, False)}
    for phase in phases:
        units = sum(phase.units(groups[labelled]) * count for labelled, count in known.items())
        steps = phase.steps(units, processes.count())
        warmup = phase.warmup_steps(steps)
        if phase.shortens_warmup(steps):
            yield (
                f"The preset's warm-up of {int(phase.warmup)} steps does not fit the {steps} steps of {phase.name}: "
                f"mint warms up for {warmup} of them; --set aligner.warmup=… chooses otherwise."
            )
