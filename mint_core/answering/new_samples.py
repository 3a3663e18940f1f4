"""From new samples to outcomes: what `mint predict` does once everything is chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mint_core.answering.engine import Answered
from mint_core.answering.outcome import Outcome, outcome
from mint_core.answering.output import Output, Stdout
from mint_core.errors import DataError
from mint_core.interfaces import Task, Unreadable
from mint_core.observer import Observer
from mint_core.types import LabelSpace, Modality, Sample

Input = Sample | Unreadable
Ask = Callable[[Sequence[Sample]], Iterator[Answered]]
"""From samples, as the student may read them, to one answer or the reason why there is none for each, in order."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is predicted, for whom, and what happens to samples that fail."""

    task: Task
    labels: LabelSpace
    place: Path
    """File or folder of the new samples."""
    decode: str
    threshold: float | None
    on_error: Literal["fail", "skip"]
    sure: float | None = None
    """The least confidence of an answer that is not "not sure"."""


@dataclass
class Summary:
    """What came of it."""

    samples: int = 0
    already: int = 0
    """Found in the output of an earlier attempt."""
    answered: int = 0
    abstained: int = 0
    truncated: int = 0
    """Free answers that reached the limit on their length."""
    failed: int = 0
    facts: Counter[str] = field(default_factory=Counter)
    """What the reader of the inputs counted."""


def predict(job: Job, output: Output | Stdout, open_ask: Callable[[], Ask], observer: Observer) -> Summary:
    """Predicts all samples that the output does not hold yet.

    Args:
        job: What is predicted.
        output: Where to.
        open_ask: Loads the student, or connects to it; called only where there is a sample to answer.
        observer: Hears of the progress.

    Raises:
        DataError: The inputs cannot be read, or a sample fails and `on_error` is `fail`.
        ModelError: The student cannot be loaded or reached.
    """
    summary = Summary()
    inputs = list(_inputs(job, output.form.key, summary.facts))
    summary.samples = len(inputs)
    if not inputs:
        raise DataError(f"{job.place} holds no sample; check the path after --input.")
    with output:
        left = [one for one in inputs if output.form.key(one.id) not in output.done]
        summary.already = len(inputs) - len(left)
        for one in left:
            if isinstance(one, Unreadable):
                _stop_on(one, job)
        if left:
            observer.stage("predict", reused=False)
            observer.progress(summary.already, len(inputs), "samples")
            # Where no sample is readable, no student is needed.
            ask = open_ask() if any(isinstance(one, Sample) for one in left) else lambda _: iter(())
            for written in _outcomes(job, left, ask):
                output.write(written)
                summary.failed += written.error is not None
                summary.answered += written.error is None
                summary.abstained += written.abstained
                summary.truncated += written.truncated
                done = summary.already + summary.answered + summary.failed
                observer.progress(done, len(inputs), "samples")
    return summary


def _inputs(job: Job, key: Callable[[str], str], facts: Counter[str]) -> Iterator[Input]:
    """The samples, those that cannot be used named as such."""
    seen: Counter[str] = Counter()
    for one in job.task.read_inputs(job.place, facts):
        seen[key(one.id)] += 1
        if seen[key(one.id)] > 1:
            # An id of its own, so that a later attempt does not take the first sample's line for this one's.
            name = f"{one.id} ({seen[key(one.id)]})"
            yield Unreadable(name, f"Two samples have the id '{one.id}'; give every sample an id of its own.")
        elif isinstance(one, Sample) and (lacking := _lacking(one, job.task.modality)):
            yield Unreadable(one.id, f"Sample {one.id} has no {lacking}; fill it, or leave the sample out.")
        else:
            yield one


def _lacking(sample: Sample, modality: Modality) -> str:
    """What the student reads and the sample has not; empty where it has everything."""
    there = {"image": sample.image is not None, "text": bool((sample.text or "").strip())}
    return next((part for part, has in there.items() if part in modality and not has), "")


def _outcomes(job: Job, inputs: Sequence[Input], ask: Ask) -> Iterator[Outcome]:
    answers = ask([one.for_student(job.task.modality) for one in inputs if isinstance(one, Sample)])
    for one in inputs:
        answered = one if isinstance(one, Unreadable) else next(answers)
        if isinstance(answered, Unreadable):
            _stop_on(answered, job)
            yield Outcome(answered.id, job.decode, error=answered.reason)
        else:
            read = one.text if isinstance(one, Sample) else None
            yield outcome(answered, job.labels, job.decode, job.threshold, read or "", sure=job.sure)


def _stop_on(one: Unreadable, job: Job) -> None:
    if job.on_error == "fail":
        raise DataError(f"{one.reason} With --on-error skip the others are answered all the same.")
