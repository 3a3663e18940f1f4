"""The one function that makes a run: label -> prefer -> align -> predict -> evaluate -> report."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from mint_core.config import Resolved, merge, parse_override, read_config, resolve
from mint_core.errors import ConfigError, did_you_mean
from mint_core.interfaces import Teacher
from mint_core.plugins import registry
from mint_core.runs import stages
from mint_core.runs.folder import STAGES, Manifest, RunFolder, describe_change, digest_of, read_json, write_json
from mint_core.runs.observer import Observer

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


def run_resolved(resolved: Resolved, *, until: str, observer: Observer) -> RunResult:
    """Makes a run from a resolved config."""
    if until not in STAGES:
        raise ConfigError(f"There is no stage '{until}'{did_you_mean(until, STAGES)}.")
    begin = time.monotonic()
    config = resolved.config
    reused = []
    with RunFolder(config.out / (config.name or default_name(resolved))) as folder:
        cache = config.out / ".cache"
        cache.mkdir(parents=True, exist_ok=True)
        context = stages.Context(resolved, folder, observer, cache)
        manifests: dict[str, Manifest] = {}
        _write_record(context, manifests, "running")
        if context.data.simulated:
            observer.message(
                "The data are simulated: this run shows that everything works, and says nothing about patients."
            )
        if context.data.facts:
            facts = "; ".join(f"{name}: {count:,}" for name, count in context.data.facts.items())
            observer.message(f"Data: {facts}.")
        if context.embedded:
            observer.message(f"Student: {context.embedded.description}")
        for stage in STAGES[: STAGES.index(until) + 1]:
            manifest, was_complete = _run_stage(context, stage, manifests)
            manifests[stage] = manifest
            reused += [stage] if was_complete else []
        _write_record(context, manifests, "complete" if until == STAGES[-1] else f"complete until {until}")
        metrics = read_json(folder.path / "metrics.json") if "evaluate" in manifests else None
        return RunResult(folder.path, tuple(reused), time.monotonic() - begin, peak_memory(), metrics)


def _run_stage(context: stages.Context, stage: str, earlier: Mapping[str, Manifest]) -> tuple[Manifest, bool]:
    """Runs a stage unless it is complete for these inputs."""
    folder, observer = context.folder, context.observer
    inputs = stage_inputs(context, stage, earlier)
    key = digest_of(inputs)
    done = folder.complete(stage, key)
    if done is not None:
        observer.stage(stage, reused=True)
        return done, True
    changed = describe_change(folder.manifest(stage), inputs)
    reason = f"changed: {', '.join(changed)}" if changed else ""
    observer.stage(stage, reused=False, reason=reason)
    folder.log("stage begins", stage=stage, key=key, reason=reason)
    begin = time.monotonic()
    workspace = folder.workspace(stage, key)
    work_of: Callable[[stages.Context, Path, Path], stages.Facts] = getattr(stages, stage)
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


def stage_inputs(context: stages.Context, stage: str, earlier: Mapping[str, Manifest]) -> dict[str, Any]:
    """Everything that decides a stage's result: configs, component versions and the digests of what it reads."""
    from mint_core.students.student import fingerprint

    resolved, config = context.resolved, context.resolved.config
    made = {name: dict(manifest.outputs) for name, manifest in earlier.items()}
    task = {"task": resolved.task.record, "data": context.data_fingerprint, "split": context.split, "n": context.n}
    if stage == "label":
        teacher = cast(type[Teacher], resolved.teacher.registered.component)
        weights = teacher.fingerprint(resolved.teacher.config)
        return {**task, "teacher": resolved.teacher.record, "teacher_weights": weights, "seed": config.seed}
    if stage == "prefer":
        return {**task, "rankings": made["label"], "strategy": resolved.strategy.record}
    weights = str(context.embedded.path) if context.embedded else config.student.model
    student = {
        "student": config.student.model_dump(mode="json", exclude={"device"}),
        "student_weights": fingerprint(weights, config.student.revision),
    }
    if stage == "align":
        preferences = made["prefer"]["preferences"]
        return {**task, **student, "preferences": preferences, "aligner": resolved.aligner.record, "seed": config.seed}
    if stage == "predict":
        retriever = resolved.retriever.record if resolved.retriever else None
        predict = config.predict.model_dump(mode="json", exclude={"batch_size"})
        adapter = made["align"]["adapter"]
        return {**task, **student, "adapter": adapter, "predict": predict, "retriever": retriever, "seed": config.seed}
    if stage == "evaluate":
        return {
            **task,
            "predictions": made["predict"],
            "rankings": made["label"],
            "strategy": resolved.strategy.record,
            "metrics": [metric.record for metric in resolved.metrics],
            "evaluate": config.evaluate.model_dump(mode="json"),
            "seed": config.seed,
        }
    return {"scores": made["evaluate"], "run": resolved.dump(), "mint": library_version("mint-core")}


def default_name(resolved: Resolved) -> str:
    """Task, teacher, aligner and a hash of all that decides the result."""
    plain = {key: value for key, value in resolved.dump().items() if key not in ("name", "out")}
    parts = [chosen.registered.component.name for chosen in (resolved.task, resolved.teacher, resolved.aligner)]
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


def _write_record(context: stages.Context, manifests: Mapping[str, Manifest], status: str) -> None:
    """run.json: all that is needed to make the run again, and what it took."""
    resolved = context.resolved
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
                    "key": m.key,
                    "seconds": m.seconds,
                    "peak_memory_bytes": m.peak_memory_bytes,
                    "facts": dict(m.facts),
                    "outputs": dict(m.outputs),
                }
                for name, m in manifests.items()
            },
        },
    )
