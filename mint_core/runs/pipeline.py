"""The one function that makes a run: label -> prefer -> align -> predict -> evaluate -> report."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from mint_core import processes
from mint_core.config import Configured, Resolved, merge, parse_override, read_config, resolve
from mint_core.errors import ConfigError, StorageError, did_you_mean
from mint_core.files import digest_of, digest_of_path, read_json, storage_errors, write_json
from mint_core.interfaces import Retriever, Teacher
from mint_core.observer import Observer
from mint_core.plugins import registry
from mint_core.retrieval import fusion
from mint_core.runs import stages, workers
from mint_core.runs.answering import predict
from mint_core.runs.checks import check_sizes
from mint_core.runs.context import Context, Facts
from mint_core.runs.folder import STAGES, Manifest, RunFolder, describe_change
from mint_core.types import TaskData

_LIBRARIES = (
    "torch",
    "torchvision",
    "transformers",
    "peft",
    "accelerate",
    "open_clip_torch",
    "datasets",
    "numpy",
    "pillow",
)


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run, as far as it was asked to go."""

    path: Path
    """The run folder."""
    reused: tuple[str, ...]
    """Stages that were complete already."""
    seconds: float
    peak_memory_bytes: int
    """Peak resident memory of this process."""
    metrics: Mapping[str, Any] | None = field(default=None, repr=False)
    """Content of metrics.json; None where the run stopped before."""


def run(
    config: Mapping[str, Any] | str | Path | None = None,
    *,
    until: str = "report",
    overrides: tuple[str, ...] = (),
    observer: Observer | None = None,
    **options: Any,
) -> RunResult:
    """Makes a run, reusing every complete stage.

    Args:
        config: A YAML file, the run.json of an earlier run, or a mapping; nothing means the embedded default.
        until: Last stage: label, prefer, align, predict, evaluate or report.
        overrides: `a.b=c` strings, as with --set.
        observer: Hears of the progress; silent by default.
        **options: Top-level keys of the config, for example teacher="plip", aligner="orpo", seed=1.

    Returns:
        The run folder and its numbers.

    Raises:
        MintError: Something is wrong with config, plugins, data or models; the message says what to do.
    """
    layer = dict(config) if isinstance(config, Mapping) else read_config(Path(config)) if config else {}
    given = {key: value for key, value in options.items() if value is not None}
    resolved = resolve(merge(layer, *map(parse_override, overrides), given), registry())
    return run_resolved(resolved, until=until, observer=observer or Observer())


@dataclass(frozen=True, slots=True)
class Shared:
    """What the runs of one comparison have in common."""

    cache: Path
    folders: list[Path] = field(default_factory=list)
    """Folders of earlier runs; a stage that is complete there for the same inputs is copied instead of made again."""
    data: dict[str, TaskData] = field(default_factory=dict)
    """See `Context.loaded`."""


def stages_of(resolved: Resolved, until: str = STAGES[-1]) -> tuple[str, ...]:
    """The stages of a run, in order; without an aligner nothing is preferred and nothing aligned.

    Args:
        resolved: The config.
        until: Last stage.

    Raises:
        ConfigError: There is no such stage, or this run has none of that name.
    """
    if until not in STAGES:
        raise ConfigError(f"There is no stage '{until}'{did_you_mean(until, STAGES)}.")
    own = [stage for stage in STAGES if resolved.aligner is not None or stage not in ("prefer", "align")]
    if until not in own:
        raise ConfigError(f"A run without an aligner has no stage '{until}'; name an aligner with --aligner.")
    return tuple(own[: own.index(until) + 1])


def run_resolved(resolved: Resolved, *, until: str, observer: Observer, shared: Shared | None = None) -> RunResult:
    """Makes a run from a resolved config.

    Args:
        resolved: The config.
        until: Last stage.
        observer: Hears of the progress.
        shared: What it has in common with other runs; a run of its own has nothing.
    """
    planned = stages_of(resolved, until)
    processes.check()
    begin = time.monotonic()
    config = resolved.config
    shared = shared or Shared(config.out / ".cache")
    reused = []
    with RunFolder(config.out / (config.name or default_name(resolved))) as folder:
        with storage_errors(shared.cache):
            shared.cache.mkdir(parents=True, exist_ok=True)
        context = Context(resolved, folder, observer, shared.cache, shared.data)
        check_sizes(context)
        manifests: dict[str, Manifest] = {}
        _write_record(context, manifests, "running")
        if not shared.folders:  # once for all runs of a comparison
            _introduce(context)
        for stage in planned:
            with _recorded(context, manifests, stage):
                manifests[stage], was_complete = _run_stage(context, stage, manifests, shared.folders)
            reused += [stage] if was_complete else []
        _write_record(context, manifests, "complete" if until == STAGES[-1] else f"complete until {until}")
        metrics = read_json(folder.path / "metrics.json") if "evaluate" in manifests else None
        return RunResult(folder.path, tuple(reused), time.monotonic() - begin, peak_memory(), metrics)


def _introduce(context: Context) -> None:
    """Says what must be known of data and student before anyone reads a number."""
    observer = context.observer
    if context.data.simulated:
        observer.message(
            "The data are simulated: this run shows that everything works, and says nothing about patients."
        )
    if context.data.facts:
        facts = "; ".join(f"{name}: {count:,}" for name, count in context.data.facts.items())
        observer.message(f"Data: {facts}.")
    if context.embedded:
        observer.message(f"Student: {context.embedded.description}")


@contextmanager
def _recorded(context: Context, manifests: Mapping[str, Manifest], stage: str) -> Iterator[None]:
    """Writes into run.json how a stage ended that did not end well."""
    try:
        yield
    except BaseException as error:
        # Where the disk is full the record cannot be written either; the first error is the one to report.
        with suppress(OSError, StorageError):
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else f"stopped: {stage}"
            _write_record(context, manifests, status)
        raise


def _run_stage(
    context: Context, stage: str, earlier: Mapping[str, Manifest], others: Sequence[Path]
) -> tuple[Manifest, bool]:
    """Runs a stage unless it is complete for these inputs, here or in one of the other folders."""
    folder, observer = context.folder, context.observer
    inputs = stage_inputs(context, stage, earlier)
    key = digest_of(inputs)
    done = folder.complete(stage, key)
    if done is not None:
        observer.stage(stage, reused=True)
        return done, True
    for other in others:
        adopted = folder.adopt(stage, key, RunFolder(other))
        if adopted is not None:
            folder.log("stage adopted", stage=stage, run=other.name)
            observer.stage(stage, reused=True)
            return adopted, True
    changed = describe_change(folder.manifest(stage), inputs)
    reason = f"changed: {', '.join(changed)}" if changed else ""
    observer.stage(stage, reused=False, reason=reason)
    folder.log("stage begins", stage=stage, key=key, reason=reason)
    begin = time.monotonic()
    workspace = folder.workspace(stage, key)
    work_of: Callable[[Context, Path, Path], Facts] = predict if stage == "predict" else getattr(stages, stage)
    if stage == "align":
        workers.call(context, workspace)
    try:
        facts = work_of(context, workspace, workspace / "out")
    except BaseException as error:
        folder.log("stage stopped", stage=stage, error=type(error).__name__)
        raise
    seconds = time.monotonic() - begin
    manifest = folder.commit(stage, key, inputs, seconds=seconds, peak=peak_memory(), facts=facts)
    folder.log("stage complete", stage=stage, seconds=round(seconds, 2))
    observer.finished(stage, seconds)
    return manifest, False


def stage_inputs(context: Context, stage: str, earlier: Mapping[str, Manifest]) -> dict[str, Any]:
    """Everything that decides a stage's result: configs, component versions and the digests of what it reads."""
    from mint_core.students.load import fingerprint

    resolved, config = context.resolved, context.resolved.config
    made = {name: dict(manifest.outputs) for name, manifest in earlier.items()}
    data = {"data": context.data_fingerprint}
    if stage == "label":  # neither the prompts nor the reported split change what a teacher says
        teacher = cast(type[Teacher], resolved.teacher.registered.component)
        weights = teacher.fingerprint(resolved.teacher.config)
        return {**data, "teacher": resolved.teacher.record, "teacher_weights": weights, "seed": config.seed}
    task = {"task": resolved.task.record, **data, "n": context.n}
    if stage == "prefer":
        return {**data, "n": context.n, "rankings": made["label"], "strategy": _by_content(resolved.strategy)}
    weights = str(context.embedded.path) if context.embedded else config.student.model
    student = {
        "student": config.student.model_dump(mode="json", exclude={"device"}),
        "student_weights": fingerprint(weights, config.student.revision),
    }
    if stage == "align":
        preferences = made["prefer"]["preferences"]
        aligner = _by_content(cast(Configured, resolved.aligner))
        passages = {"passages": _retrieval(resolved)} if config.retrieval.train else {}
        own = {"preferences": preferences, "aligner": aligner, **passages, "seed": config.alignment_seed}
        return {**task, **student, **own}
    task["split"] = context.split
    if stage == "predict":
        retriever = _retrieval(resolved) if resolved.retriever else None
        fitted = {"fitted_on": [sample.id for sample in context.validation]} if context.validation else {}
        predict = config.predict.model_dump(mode="json", exclude={"batch_size"})
        adapter = made["align"]["adapter"] if resolved.aligner else None
        own = {"adapter": adapter, "predict": predict, "retriever": retriever, **fitted, "seed": config.seed}
        return {**task, **student, **own}
    if stage == "evaluate":
        return {
            **task,
            **({"fusion": _fusion(resolved, made)} if resolved.retriever else {}),
            "predictions": made["predict"],
            "rankings": made["label"],
            "strategy": _by_content(resolved.strategy),
            "metrics": [_by_content(metric) for metric in resolved.metrics],
            "evaluate": config.evaluate.model_dump(mode="json"),
            "seed": config.seed,
        }
    return {"scores": made["evaluate"], "run": resolved.dump(), "mint": library_version("mint-core")}


def _retrieval(resolved: Resolved) -> dict[str, Any]:
    """What decides which passages a prompt gets, and how labels are scored."""
    chosen = cast(Configured, resolved.retriever)
    component = cast(type[Retriever], chosen.registered.component)
    knowledge = {"knowledge": component.fingerprint(chosen.config)}
    return {**_by_content(chosen), **knowledge, "tokens": resolved.config.retrieval.tokens}


def _fusion(resolved: Resolved, made: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """How rankings are combined, and what the student was taught."""
    how = resolved.config.retrieval.model_dump(mode="json", include={"fuse", "weight"})
    taught = made["prefer"]["preferences"] if how["fuse"] != "none" and resolved.aligner else None
    return {"version": fusion.VERSION, **how, "taught": taught}


def _by_content(chosen: Configured) -> dict[str, Any]:
    """A component's record in which the files and folders that its config names count by their content.

    Raises:
        ConfigError: One of them does not exist.
    """
    config = dict(chosen.record["config"])
    for name, value in chosen.config:
        if isinstance(value, Path):
            config[name] = _digest(chosen, name, value)
        elif isinstance(value, list | tuple) and any(isinstance(one, Path) for one in value):
            config[name] = [_digest(chosen, name, Path(one)) for one in value]
    return {**chosen.record, "config": config}


def _digest(chosen: Configured, option: str, path: Path) -> str:
    if not path.exists():
        kind = chosen.registered.component.kind
        raise ConfigError(f"{kind}.{option}: {path} does not exist; check the path.")
    return digest_of_path(path)


def default_name(resolved: Resolved) -> str:
    """Task, teacher, aligner and a hash of all that decides the result."""
    plain = {key: value for key, value in resolved.dump().items() if key not in ("name", "out")}
    aligner = resolved.aligner.registered.component.name if resolved.aligner else "base"
    parts = [resolved.task.registered.component.name, resolved.teacher.registered.component.name, aligner]
    return "-".join([*parts, digest_of(plain)[:8]])


def library_version(name: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def peak_memory() -> int:
    """Peak resident memory of this process in bytes."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def _write_record(context: Context, manifests: Mapping[str, Manifest], status: str) -> None:
    """run.json: all that is needed to make the run again, and what it took.

    Stages that this process has not come to yet stand in it with `current: false`, as an earlier one left them.
    """
    resolved = context.resolved
    known = {stage: manifests.get(stage) or context.folder.manifest(stage) for stage in STAGES}
    splits = {split: len(context.data.split(split)) for split in ("train", "val", "test")}
    write_json(
        context.folder.path / "run.json",
        {
            "status": status,
            "config": resolved.dump(),
            "components": [{"kind": c.registered.component.kind, **c.record} for c in resolved.chosen()],
            "versions": {
                "mint-core": library_version("mint-core"),
                "python": platform.python_version(),
                **{name: library_version(name) for name in _LIBRARIES},
            },
            "data": {
                "source": context.data.source,
                "simulated": context.data.simulated,
                "licence": context.data.licence,
                "facts": dict(context.data.facts),
                "samples": splits,
                "labels": list(context.data.labels.names),
                "fingerprint": context.data_fingerprint,
                "reported_split": context.split,
                "N": context.n,
            },
            "student": {"embedded": context.embedded.description} if context.embedded else {},
            "stages": {
                name: {
                    "current": name in manifests,
                    "key": m.key,
                    "seconds": m.seconds,
                    "peak_memory_bytes": m.peak_memory_bytes,
                    "facts": dict(m.facts),
                    "outputs": dict(m.outputs),
                }
                for name, m in known.items()
                if m is not None
            },
        },
    )
