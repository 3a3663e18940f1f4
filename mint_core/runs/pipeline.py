"""The one function that makes a run: label -> prefer -> align -> predict -> evaluate -> report."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mint_core import processes
from mint_core.answering.endpoint import check_consent, check_reachable
from mint_core.config import Resolved, merge, parse_override, read_config, resolve
from mint_core.errors import ConfigError, StorageError, did_you_mean
from mint_core.explaining.results import withdraw_explained
from mint_core.faults import explained
from mint_core.files import access, digest_of, read_json, remove
from mint_core.interrupts import sigterm_is_ctrl_c
from mint_core.libraries import quiet_libraries
from mint_core.observer import Observer
from mint_core.plugins import registry
from mint_core.preservation.results import withdraw_preserved
from mint_core.runs.checks import check_retriever, check_run
from mint_core.runs.folder import RunFolder, describe_change
from mint_core.runs.keep import check_kept, refuse_to_replace, withdraw_judgement, withdraw_stale
from mint_core.runs.record import peak_memory, write_record
from mint_core.runs.store import Store
from mint_core.stages import NAMES, STAGES
from mint_core.stages.card import add_results, withdraw_results
from mint_core.stages.confidence import keep_confidences
from mint_core.stages.expected import told
from mint_core.stages.outputs import ADAPTER, METRICS
from mint_core.stages.probe import check_outline, probe
from mint_core.stages.run import Run
from mint_core.stages.stage import Stage
from mint_core.types import TaskData

_ENOUGH = 10
"""Training samples of a label below which somebody is warned."""
_NAMED = 3
"""Labels that the warning names."""
_QUICK = "A quick run: a handful of samples and one epoch show that all stages work; its numbers say nothing."


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


@quiet_libraries()
def run(
    config: Mapping[str, Any] | str | Path | None = None,
    *,
    until: str = "report",
    overrides: tuple[str, ...] = (),
    overwrite: bool = False,
    observer: Observer | None = None,
    **options: Any,
) -> RunResult:
    """Makes a run, reusing every complete stage.

    Args:
        config: A YAML file, the run.json of an earlier run, or a mapping; nothing means the embedded default.
        until: Last stage: label, prefer, align, predict, evaluate or report.
        overrides: `a.b=c` strings, as with --set.
        overwrite: Replace what a run of another config left in the folder, as with --overwrite.
        observer: Hears of the progress; silent by default.
        **options: Top-level keys of the config, for example teacher="plip", aligner="orpo", seed=1.

    Returns:
        The run folder and its numbers.

    Raises:
        MintError: Something is wrong with config, plugins, data or models; the message says what to do.
    """
    resolved = resolve_given(config, overrides, options)
    shared = Shared(Store(resolved.config.out), overwrite=overwrite)
    return run_resolved(resolved, until=until, observer=observer or Observer(), shared=shared)


def resolve_given(
    config: Mapping[str, Any] | str | Path | None, overrides: Sequence[str], options: Mapping[str, Any]
) -> Resolved:
    """A config as Python gives it, resolved; the arguments are those of `run`, later ones win.

    Raises:
        MintError: As `resolve`.
    """
    layer = dict(config) if isinstance(config, Mapping) else read_config(Path(config)) if config else {}
    given = {key: value for key, value in options.items() if value is not None}
    return resolve(merge(layer, *map(parse_override, overrides), given), registry())


@dataclass(frozen=True, slots=True)
class Shared:
    """What the runs of one comparison have in common."""

    store: Store
    overwrite: bool = False
    """What another config left in a folder is replaced."""
    beside: bool = False
    """Other processes make runs of the same comparison at the same time: what they are at is waited for."""
    tables: tuple[Path, ...] = ()
    """Files that tell of all runs: they go before a run that stands in them is made again."""
    data: dict[str, TaskData] = field(default_factory=dict)
    """See `Run.loaded`."""
    probed: set[str] = field(default_factory=set)
    """Students that were tried and retrievers that were built, by digest of what they will have to do."""
    said: set[str] = field(default_factory=set)
    """Sentences that are said once."""
    told: list[Path] = field(default_factory=list)
    """Runs that were made already: data and student are introduced once."""


def stages_of(resolved: Resolved, until: str = NAMES[-1]) -> tuple[Stage, ...]:
    """The stages of a run, in order; without an aligner nothing is preferred and nothing aligned.

    Raises:
        ConfigError: There is no such stage, or this run has none of that name.
    """
    if until not in NAMES:
        raise ConfigError(f"There is no stage '{until}'{did_you_mean(until, NAMES)}.")
    own = [stage for stage in STAGES if stage.belongs_to(resolved)]
    names = [stage.name for stage in own]
    if until not in names:
        raise ConfigError(f"A run without an aligner has no stage '{until}'; name an aligner with --aligner.")
    return tuple(own[: names.index(until) + 1])


def run_folder(resolved: Resolved) -> Path:
    """Where a run lies, or will lie."""
    return resolved.config.out / (resolved.config.name or default_name(resolved))


def run_resolved(
    resolved: Resolved, *, until: str, observer: Observer, shared: Shared | None = None, command: str | None = None
) -> RunResult:
    """Makes a run from a resolved config.

    Args:
        resolved: The config.
        until: Its last stage.
        observer: Hears of the progress.
        shared: What it has in common with other runs.
        command: What the user gave, for the report; None = the report names the run's record.
    """
    planned = stages_of(resolved, until)
    processes.check()
    begin = time.monotonic()
    shared = shared or Shared(Store(resolved.config.out))
    reused = []
    path = run_folder(resolved)
    run = Run(resolved, path, observer, shared.store.cache, shared.data, command=command)
    chosen = check_run(run, [stage.name for stage in planned])
    folder = RunFolder(path, _waiting(observer, f"the run {path.name}") if shared.beside else None)
    with sigterm_is_ctrl_c(), access(resolved.config.access, path, shared.store.cache), folder:
        run.log = folder.log
        shared.store.prepare()
        _make_room(run, folder, planned, shared)
        write_record(run, folder, "running")
        for sentence in (*resolved.notes, *chosen):
            if sentence not in shared.said:
                observer.message(sentence)
                shared.said.add(sentence)
        if not shared.told:
            _introduce(run)
        for place, stage in enumerate(planned):
            with _recorded(run, folder, stage):
                was_complete = _run_stage(run, folder, planned[place:], shared)
            reused += [stage.name] if was_complete else []
        if "predict" in run.made:
            keep_confidences(run)
        write_record(run, folder, "complete" if until == NAMES[-1] else f"complete until {until}")
        shared.told.append(folder.path)
        metrics = read_json(folder.path / METRICS) if "evaluate" in run.made else None
        if metrics is not None and resolved.aligner:
            add_results(folder.path / ADAPTER, run, metrics)
        return RunResult(folder.path, tuple(reused), time.monotonic() - begin, peak_memory(), metrics)


def _make_room(run: Run, folder: RunFolder, planned: Sequence[Stage], shared: Shared) -> None:
    """Refuses to replace what another config left, or takes away what does not belong to the run any longer."""
    if not shared.overwrite:
        check_kept(run, folder, planned)
    for stage in STAGES:
        if not stage.belongs_to(run.resolved) and folder.manifest(stage.name) is not None:
            withdraw_judgement(folder, stage)
            folder.withdraw(stage.name, stage.writes)


def _introduce(run: Run) -> None:
    """Says what must be known of data and student before anyone reads a number."""
    observer = run.observer
    if run.data.simulated:
        observer.message(
            "The data are simulated: this run shows that everything works, and says nothing about patients."
        )
    if run.data.facts:
        facts = "; ".join(f"{name}: {count:,}" for name, count in run.data.facts.items())
        observer.message(f"Data: {facts}.")
    if run.resolved.config.quick:
        observer.message(_QUICK)
    elif few := _few_samples(run):
        observer.message(few)
    predict = run.resolved.config.predict
    if predict.engine == "endpoint" and (notice := check_consent(predict.endpoint, run.task.modality)):
        observer.message(notice)
    if run.student_told:
        observer.message(f"Student: {run.student_told}")
    if run.student_held:
        observer.message(f"The student is held in {run.student_held}.")


def _few_samples(run: Run) -> str:
    """A warning where labels have so few training samples that little can be learnt of them; else empty."""
    counts = Counter(sample.label for sample in run.data.split("train") if sample.label is not None)
    few = sorted((count, label) for label, count in counts.items() if count < _ENOUGH)
    if not few:
        return ""
    named = ", ".join(f"{label}: {count}" for count, label in few[:_NAMED])
    more = f" and {len(few) - _NAMED:,} more" if len(few) > _NAMED else ""
    return (
        f"Warning: {len(few):,} of {len(counts):,} labels have fewer than {_ENOUGH} training samples ({named}{more}); "
        "little can be learnt of them, and figures about them are uncertain."
    )


@contextmanager
def _recorded(run: Run, folder: RunFolder, stage: Stage) -> Iterator[None]:
    """Writes into run.json how a stage ended that did not end well."""
    try:
        yield
    except BaseException as error:
        # Where the disk is full the record cannot be written either; the first error is the one to report.
        with suppress(OSError, StorageError):
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else f"stopped: {stage.name}"
            write_record(run, folder, status)
        told = explained(error, folder.path, stage.lower) if isinstance(error, Exception) else None
        if told is None:
            raise
        raise told from error


def prepare(run: Run, left: Sequence[Stage], shared: Shared) -> None:
    """Tries what later stages need before the first one that has to be made, unless somebody did so already.

    The retriever is built, the server is called, and the student does once what it will do for hours. A stage that
    answers itself finds out within its first batch what the student cannot do.

    Args:
        run: The run.
        left: The stages from the one that has to be made on.
        shared: Knows what was tried.
    """
    names = [stage.name for stage in left]
    engine = run.resolved.config.predict.engine
    trains, predicts = "align" in names, "predict" in names
    if run.resolved.retriever is not None and (predicts or (trains and run.resolved.config.retrieval.train)):
        _once(shared, [run.task_identity(), run.resolved.retriever.identity()], lambda: check_retriever(run))
    if engine == "endpoint":
        if predicts:
            server = run.resolved.config.predict.endpoint
            _once(shared, [server.url], lambda: check_reachable(server))
        return
    answers = "predict" in names[1:] and engine == "transformers"
    if engine == "vllm" and predicts and not trains:
        _once(shared, [run.student_identity(), run.task_identity(), engine], lambda: check_outline(run))
    if not (trains or answers):
        return
    config = run.resolved.config
    aligner = run.resolved.aligner.decisive() if run.resolved.aligner else None
    key = [run.student_identity(), run.task_identity(), aligner, config.predict.decode, trains, answers]
    _once(shared, key, lambda: _try_student(run, trains=trains, answers=answers))


def _try_student(run: Run, *, trains: bool, answers: bool) -> None:
    """Lets the student do once what it will do for hours, and says for how long."""
    sentence = told(probe(run, trains=trains, answers=answers))
    if sentence:
        run.observer.message(sentence)


def _once(shared: Shared, what: Any, check: Callable[[], None]) -> None:
    key = digest_of(what)
    if key not in shared.probed:
        check()
        shared.probed.add(key)


def _run_stage(run: Run, folder: RunFolder, left: Sequence[Stage], shared: Shared) -> bool:
    """Runs a stage unless it is complete for these inputs, here or in another run of the store.

    Args:
        run: The run.
        folder: Its folder.
        left: The stage, and those that come behind it.
        shared: What the run has in common with others.

    Returns:
        Whether it was complete.
    """
    stage = left[0]
    inputs = stage.all_inputs(run)
    key = digest_of(inputs)
    found = folder.complete(stage.name, key)
    if found is None:
        _withdraw(run, folder, stage, inputs, shared)
        with ExitStack() as turn:
            if shared.beside:
                turn.enter_context(shared.store.alone(stage.name, key, _waiting(run.observer, f"`{stage.name}`")))
            found = shared.store.adopt(folder, stage.name, key)
            if found is None:
                _make_stage(run, folder, left, inputs, shared)
                return False
        if ADAPTER.name in stage.writes:
            withdraw_results(folder.path / ADAPTER)
    folder.clear(stage.name)
    run.observer.stage(stage.name, reused=True)
    run.made[stage.name] = found
    return True


def _waiting(observer: Observer, what: str) -> Callable[[], None]:
    return lambda: observer.message(f"Another process makes {what}; waiting for it.")


def _make_stage(run: Run, folder: RunFolder, left: Sequence[Stage], inputs: Mapping[str, Any], shared: Shared) -> None:
    """Makes the first of the stages that are left."""
    stage = left[0]
    key = digest_of(inputs)
    prepare(run, left, shared)
    reason = folder.why_again(stage.name, key, inputs)
    run.observer.stage(stage.name, reused=False, reason=reason)
    folder.log("stage begins", stage=stage.name, key=key, reason=reason)
    begin = time.monotonic()
    workspace = folder.workspace(stage.name, key)
    if stage.joined:
        _call_workers(run, stage, workspace)
    try:
        facts = stage.make(run, workspace, workspace / "out")
    except BaseException as error:
        folder.log("stage stopped", stage=stage.name, error=type(error).__name__)
        raise
    seconds = time.monotonic() - begin
    made = folder.commit(stage.name, key, inputs, seconds=seconds, peak=peak_memory(), facts=facts)
    run.made[stage.name] = made
    if shared.overwrite:
        withdraw_stale(folder, stage, made)
    folder.log("stage complete", stage=stage.name, seconds=round(seconds, 2))
    run.observer.finished(stage.name, seconds)


def _withdraw(run: Run, folder: RunFolder, stage: Stage, inputs: Mapping[str, Any], shared: Shared) -> None:
    """Takes away what tells of a stage that will be made again, and refuses to lose what took long.

    Raises:
        ConfigError: It would be lost, and nobody has allowed it.
    """
    manifest = folder.manifest(stage.name)
    if describe_change(manifest, inputs) and not shared.overwrite:
        refuse_to_replace(run, folder, stage, inputs)
    if stage.aligns and ADAPTER.name in stage.writes:
        withdraw_preserved(folder.path)
        withdraw_explained(folder.path)
    if withdraw_judgement(folder, stage):
        for table in shared.tables:
            remove(table)


def _call_workers(run: Run, stage: Stage, work: Path) -> None:
    """Has the further processes of torchrun, where there are any, join a stage; they read its checkpoints in `work`."""
    if processes.count() > 1 and processes.is_first():
        places = {"path": str(run.path), "cache": str(run.cache), "work": str(work)}
        processes.tell({"stage": stage.name, "config": run.resolved.dump(), **places})


def follow() -> None:
    """What the further processes do: they join stages until the first one is done, which alone writes results."""
    while (task := processes.listen()) is not None:
        run = Run(resolve(task["config"], registry()), Path(task["path"]), Observer(), Path(task["cache"]))
        stage = next(stage for stage in STAGES if stage.name == task["stage"])
        with access(run.resolved.config.access), tempfile.TemporaryDirectory() as own:
            stage.make(run, Path(task["work"]), Path(own))


def default_name(resolved: Resolved) -> str:
    """Task, teacher, aligner and a hash of the config, without what changes no result."""
    aligner = resolved.aligner.name if resolved.aligner else "base"
    kind = ["quick"] if resolved.config.quick else []
    return "-".join([resolved.task.name, resolved.teacher.name, aligner, *kind, digest_of(resolved.decisive())[:8]])
