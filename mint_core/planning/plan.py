"""The plan of a run's training, from the same config as the run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from mint_core import processes
from mint_core.aligners.rows import TrainingRows
from mint_core.config import Resolved
from mint_core.errors import ConfigError
from mint_core.interfaces import Aligner, AlignmentJob, Layout, Student, TrainingPhase
from mint_core.observer import Observer
from mint_core.planning.groups import PlannedGroups, planned_groups, some
from mint_core.planning.lengths import GroupLengths, Lengths, Spread, measure, prompt_lengths, spread
from mint_core.planning.memory import Memory, device_memory, estimate
from mint_core.planning.probe import Probe, probe
from mint_core.planning.tokens import Tokens, count, pairs_of
from mint_core.runs.checks import check_run
from mint_core.runs.pipeline import run_folder
from mint_core.runs.store import Store
from mint_core.stages.predict import asking_of
from mint_core.stages.prompts import training_prompts
from mint_core.stages.run import Run
from mint_core.students.encoding import StudentCounter, check_length, context_length, encode_prompt, encode_response
from mint_core.students.load import load_outline, load_student
from mint_core.students.prompts import write_response
from mint_core.types import PreferenceGroup

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """One phase of the training."""

    name: str
    groups_per_step: int
    """Groups per optimiser step and process; pairs where the layout is `expanded`."""
    epochs: float
    steps: int
    warmup_steps: int
    rejected: bool
    """Whether it reads the rejected responses."""
    layout: Layout
    """The layout that is used, where the check at the start of the training passes."""
    tokens_per_step: Tokens
    """On average, padding left out."""
    tokens_per_epoch: Tokens


@dataclass(frozen=True, slots=True)
class LengthPlan:
    """Token lengths of the training rows and of the prompts that are answered."""

    prompt: Spread
    """As the student reads it."""
    prompt_before: Spread
    """Before the processor puts the image's tokens in."""
    image: Spread
    """Image tokens of the prompt, as the student reads them."""
    image_before: Spread
    """Tokens that stand for images before."""
    chosen: Spread
    rejected: Spread | None
    row: Spread
    """A prompt with its longest response."""
    longest_sample: str
    max_length: int
    """The smallest length limit that cuts nothing."""
    context: int | None
    """What the student's position encoding was made for."""
    labels_written: int
    labels_read: int
    """Labels that can be read back from the tokens of the responses."""
    inference_row: int
    """Tokens of the longest prompt of the reported split, and of the longest answer that is allowed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run's training takes."""

    student: str
    aligner: str
    data: str
    groups_from: PlannedGroups
    groups: int
    pairs: int
    counted: int
    """Groups whose tokens were counted: all, or a sample."""
    lengths: LengthPlan
    phases: tuple[PhasePlan, ...]
    memory: Memory
    probe: Probe | None
    warnings: tuple[str, ...]

    @property
    def seconds(self) -> float | None:
        """Expected time of the training; None without a probe."""
        if self.probe is None:
            return None
        return sum(p.steps * s for p, s in zip(self.phases, self.probe.seconds_per_step, strict=True))

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain data, without labels or prompts."""
        skipped = ("groups_from", "memory", "phases")
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in skipped}
        plain["lengths"] = asdict(self.lengths)
        plain["probe"] = asdict(self.probe) if self.probe else None
        plain["phases"] = [
            {**asdict(phase), "ratio_expanded": _ratio(phase, "expanded"), "ratio_distinct": _ratio(phase, "distinct")}
            for phase in self.phases
        ]
        plain["groups_per_step"] = max(phase.groups_per_step for phase in self.phases)
        plain["groups_from"] = self.groups_from.basis
        plain["run"] = str(self.groups_from.run) if self.groups_from.run else None
        plain["memory"] = asdict(self.memory) | {"lower_bound": self.memory.lower_bound, "total": self.memory.total}
        plain["seconds"] = self.seconds
        return plain


def _ratio(phase: PhasePlan, layout: Layout) -> float:
    return phase.tokens_per_epoch.of(layout) / phase.tokens_per_epoch.shared


def make_plan(
    resolved: Resolved,
    *,
    steps: bool = False,
    sample: int | None = None,
    memory_gib: float | None = None,
    observer: Observer | None = None,
) -> Plan:
    """Plans the training of a run without loading the student, and without running the teacher.

    Args:
        resolved: The run's config.
        steps: Also train a few steps for real, to know the time.
        sample: Count the tokens of that many groups only, drawn at random; None = of all.
        memory_gib: Plan for a GPU with this much memory, which need not be here; None = the config's device.
        observer: Hears of the progress.

    Raises:
        ConfigError: Weights, adapter and optimiser do not fit the device, or the run's config would be refused.
        DataError: A row is longer than the student's context, or the processor cuts a prompt.
        ModelError: The student's config or processor cannot be loaded.
    """
    observer = observer or Observer()
    config = resolved.config
    store = Store(config.out)
    run = Run(resolved, run_folder(resolved), observer, store.cache)
    aligner = _aligner(run)
    for sentence in (*resolved.notes, *check_run(run, ("label", "align", "predict"))):
        observer.message(sentence)
    found = planned_groups(run, store)
    student = _outline(run, another_gpu=memory_gib is not None)
    parameters = sum(parameter.numel() for parameter in student.model.parameters())
    training = aligner.phases(parameters)
    rejected = any(phase.rejected for phase in training)
    counted = some(found.groups, sample, [config.seed, 19])
    job = _job(run, student, found.groups)
    aligner.check(job)
    observer.stage("count", reused=False)
    start = time.monotonic()
    rows = TrainingRows(job, rejected=rejected, keep=False)
    lengths = measure(rows, counted, run.advance(len(counted), "groups"))
    training = tuple(replace(phase, layout=_layout(phase, lengths.groups)) for phase in training)
    phases = tuple(_phase(job, phase, lengths) for phase in training)
    shown = _lengths(run, student, lengths, sample)
    busiest = max(range(len(phases)), key=lambda at: phases[at].tokens_per_step.of(phases[at].layout))
    shape = aligner.shape(parameters)
    memory = estimate(
        rows,
        run.resolved.config.student,
        training[busiest],
        shape,
        _largest(counted, lengths, training[busiest]),
        device=int(memory_gib * _GIB) if memory_gib else device_memory(student.device),
        on_cpu=memory_gib is None and student.device.type == "cpu",
    )
    _refuse_what_cannot_fit(student, memory)
    observer.finished("count", time.monotonic() - start)
    measured = _probe(run, aligner, job) if steps else None
    warnings = _warnings(shown, memory, training[busiest], found, len(counted))
    if shape is None:
        warnings.append(
            f"The aligner '{aligner.name}' does not say which adapter it trains; adapter, gradients and optimiser are "
            "not in the estimate."
        )
    return Plan(
        student=student.source,
        aligner=aligner.name,
        data=run.data.source,
        groups_from=found,
        groups=len(found.groups),
        pairs=sum(len(g.chosen) * (len(g.rejected) if rejected else 1) for g in found.groups),
        counted=len(counted),
        lengths=shown,
        phases=phases,
        memory=memory,
        probe=measured,
        warnings=tuple(warnings),
    )


def _aligner(run: Run) -> Aligner:
    chosen = run.resolved.aligner
    if chosen is None:
        raise ConfigError("A run without an aligner trains nothing, so there is nothing to plan; name one (--aligner).")
    aligner = cast(Aligner, chosen.make(run.context()))
    if not aligner.phases(0):
        raise ConfigError(
            f"The aligner '{aligner.name}' does not say what it will train (it has no method `phases`), so that "
            "`mint plan` cannot plan it."
        )
    return aligner


def _outline(run: Run, *, another_gpu: bool) -> Student:
    """The student without weights, in the precision that it would have on that device."""
    config = run.resolved.config.student
    if another_gpu and config.dtype == "auto":
        config = config.model_copy(update={"dtype": "bf16"})
    return load_outline(config, run.student_path)


def _job(run: Run, student: Student, groups: Sequence[PreferenceGroup]) -> AlignmentJob:
    """What the aligner would be given; nothing is written to its folders."""
    return run.outlined_job(student, groups, training_prompts(run, student, groups).prompts)


def _layout(phase: TrainingPhase, groups: Sequence[GroupLengths]) -> Layout:
    """A prompt with one response is one row either way."""
    several = any(len(group.chosen) + phase.rejected * len(group.rejected) > 1 for group in groups)
    return "distinct" if phase.layout == "shared" and not several else phase.layout


def _phase(job: AlignmentJob, phase: TrainingPhase, lengths: Lengths) -> PhasePlan:
    """Steps and tokens of a phase."""
    units = phase.units(job.groups)
    steps = phase.steps(units, processes.count())
    epoch = count(lengths.groups, rejected=phase.rejected).times(len(job.groups) / len(lengths.groups))
    return PhasePlan(
        name=phase.name,
        groups_per_step=phase.per_step,
        epochs=phase.epochs,
        steps=steps,
        warmup_steps=phase.warmup_steps(steps),
        rejected=phase.rejected,
        layout=phase.layout,
        tokens_per_step=epoch.times(min(1, phase.per_step * processes.count() / units)),
        tokens_per_epoch=epoch,
    )


def _largest(groups: Sequence[PreferenceGroup], lengths: Lengths, phase: TrainingPhase) -> list[PreferenceGroup]:
    """The batch that takes most: the longest groups in one batch, or the longest pairs."""
    cost = [count([one], rejected=phase.rejected).of(phase.layout) for one in lengths.groups]
    order = sorted(range(len(groups)), key=lambda place: -cost[place])
    if phase.layout != "expanded":
        return [groups[place] for place in order[: phase.batch_size]]
    pairs: list[PreferenceGroup] = []
    for place in order:
        group = groups[place]
        others = group.rejected[:1] if phase.rejected else ()
        pairs += [PreferenceGroup(group.sample_id, (chosen,), others) for chosen in group.chosen] * pairs_of(
            lengths.groups[place], rejected=phase.rejected
        )
        if len(pairs) >= phase.batch_size:
            break
    return pairs[: phase.batch_size]


def _lengths(run: Run, student: Student, lengths: Lengths, sample: int | None) -> LengthPlan:
    groups = lengths.groups
    worst = max(groups, key=lambda group: group.longest)
    rejected = [tokens for group in groups for tokens in group.rejected]
    return LengthPlan(
        prompt=spread([group.prompt.after for group in groups]),
        prompt_before=spread([group.prompt.before for group in groups]),
        image=spread([group.prompt.image for group in groups]),
        image_before=spread([group.prompt.marks for group in groups]),
        chosen=spread([tokens for group in groups for tokens in group.chosen]),
        rejected=spread(rejected) if rejected else None,
        row=spread([group.longest for group in groups]),
        longest_sample=worst.sample_id,
        max_length=worst.longest,
        context=context_length(student),
        labels_written=lengths.labels_written,
        labels_read=lengths.labels_read,
        inference_row=_inference_row(run, student, sample),
    )


def _inference_row(run: Run, student: Student, sample: int | None) -> int:
    """The longest prompt of the reported split with the longest answer; refused where it does not fit.

    Passages of a retriever are not in it: they are found when the run predicts.
    """
    answer = _longest_answer(run, student)
    longest = 0
    for one in run.reported[:sample]:
        prompt = run.task.inference_prompt(one.for_student(run.task.modality), run.n)
        encoded = encode_prompt(student, one.id, prompt)
        prompt_lengths(student, prompt, encoded)
        check_length(student, one.id, encoded.length + answer)
        longest = max(longest, encoded.length + answer)
    return longest


def _longest_answer(run: Run, student: Student) -> int:
    """Tokens of the longest answer that is generated, or of the longest label that is scored."""
    predict, labels, header = run.resolved.config.predict, run.data.labels, run.task.header
    if predict.decode == "score":
        return max(len(encode_response(student, write_response(header, (name,)), "")) for name in labels.names)
    return asking_of(run).budget(StudentCounter(student))


def _probe(run: Run, aligner: Aligner, job: AlignmentJob) -> Probe:
    config = run.resolved.config
    run.observer.stage("probe", reused=False)
    student = load_student(config.student, run.student_path)
    return probe(aligner, job, student, seed=config.alignment_seed, observer=run.observer)


def _refuse_what_cannot_fit(student: Student, memory: Memory) -> None:
    if memory.lower_bound <= memory.device:
        return
    parts = ", ".join(f"{name} {getattr(memory, name) / _GIB:.1f}" for name in ("weights", "adapter", "optimiser"))
    raise ConfigError(
        f"Training {student.source} takes at least {memory.lower_bound / _GIB:.1f} GiB ({parts}) and the device has "
        f"{memory.device / _GIB:.1f} GiB; choose a smaller student, --set student.dtype=bf16, "
        "--set student.quantize=nf4, a lower aligner.lora_rank, or another device."
    )


def _warnings(
    lengths: LengthPlan, memory: Memory, phase: TrainingPhase, found: PlannedGroups, counted: int
) -> list[str]:
    warnings = []
    if memory.total > memory.device:
        relief = memory.activations - memory.activations_checkpointed
        helps = not phase.gradient_checkpointing and memory.total - relief <= memory.device
        advice = (
            "--set aligner.gradient_checkpointing=true should make it fit"
            if helps
            else "lower aligner.batch_size or aligner.token_budget and raise aligner.accumulation"
        )
        warnings.append(
            f"The estimate of {memory.total / _GIB:.1f} GiB is more than the device's {memory.device / _GIB:.1f} GiB; "
            f"{advice}."
        )
    if lengths.labels_read < lengths.labels_written:
        warnings.append(
            f"{lengths.labels_written - lengths.labels_read} of {lengths.labels_written} labels cannot be read back "
            "from the student's tokens; its tokenizer does not know all of their characters."
        )
    if counted < len(found.groups):
        warnings.append(
            f"Only {counted} of {len(found.groups)} groups were counted; a longer row may be among the others."
        )
    return warnings
