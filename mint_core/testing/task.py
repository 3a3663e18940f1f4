"""The clauses of a task. Each check takes a task."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from mint_core.interfaces import Task
from mint_core.splits import find_copies
from mint_core.testing.clauses import Check, require
from mint_core.types import Message, Prompt, Sample

_LOOKED_AT = 20
"""Samples whose prompts and phrases are made."""


def task_1_samples(task: Task) -> None:
    """There are samples to train and to judge on, their ids are unique, and their labels known."""
    data = task.load()
    splits = {sample.split for sample in data.samples}
    require("train" in splits and len(splits) > 1, "task 1", "samples for training, or others to judge on, are missing")
    require(len({one.id for one in data.samples}) == len(data.samples), "task 1", "an id occurs twice")
    known = {None, *data.labels.names}
    require(all(one.label in known for one in data.samples), "task 1", "a label is not in the label space")
    unlabelled = any(one.label is None and one.split != "train" for one in data.samples)
    require(not unlabelled, "task 1", "a sample of val or test has no label")


def task_2_splits(task: Task) -> None:
    """Neither a group nor an image lies on two sides."""
    samples = task.load().samples
    side = {one.group: one.split for one in samples}
    torn = any(one.group is not None and side[one.group] != one.split for one in samples)
    require(not torn, "task 2", "a group has samples in two splits")
    copies = find_copies([one.image for one in samples], [one.split for one in samples])
    across = any(len({samples[place].split for place in places}) > 1 for places in copies)
    require(not across, "task 2", "the same image lies in two splits")


def task_3_deterministic(task: Task) -> None:
    """Two calls of `load` agree."""
    first, second = task.load(), type(task)(task.config).load()

    def plain(samples: Sequence[Sample]) -> list[tuple[object, ...]]:
        return [(s.id, s.split, s.label, s.group, s.image.key if s.image else None, s.text) for s in samples]

    require(plain(first.samples) == plain(second.samples), "task 3", "two calls of load() give different samples")


def task_4_prompts(task: Task) -> None:
    """Both prompts show what the student reads, in a user's turn."""
    for sample in _first(task):
        for make in (task.training_prompt, task.inference_prompt):
            prompt = make(sample, 2)
            good = isinstance(prompt, Prompt) and all(isinstance(one, Message) for one in prompt.messages)
            require(good, "task 4", f"{make.__name__} returned no Prompt of Messages")
            words = " ".join(message.content for message in prompt.messages)
            if "image" in task.modality:
                require(prompt.image is not None, "task 4", f"{make.__name__} does not show the sample's image")
            if "text" in task.modality:
                shown = sample.text is not None and sample.text in words
                require(shown, "task 4", f"{make.__name__} does not show the sample's text")
            require(any(m.role == "user" for m in prompt.messages), "task 4", f"{make.__name__} has no user turn")


def task_5_header(task: Task) -> None:
    """The header is one line, ends with a colon, and stands in the demand on the format."""
    require(task.header.endswith(":") and "\n" not in task.header, "task 5", f"the header is {task.header!r}")
    sample = next(_first(task))
    demand = " ".join(message.content for message in task.inference_prompt(sample, 2).messages)
    require(task.header in demand, "task 5", "the inference prompt does not name the header")


def task_6_phrases(task: Task) -> str | None:
    """Phrases are parts of the text, in order and apart."""
    if "text" not in task.modality:
        return "its student reads no text"
    for sample in _first(task):
        bounds = [place for span in task.phrases(sample) for place in span]
        inside = not bounds or (bounds[0] >= 0 and bounds[-1] <= len(sample.text or ""))
        apart = bounds == sorted(bounds) and all(one < two for one, two in zip(bounds[::2], bounds[1::2], strict=True))
        require(inside and apart, "task 6", "phrases overlap, are empty, out of order or outside of the text")
    return None


def _first(task: Task) -> islice[Sample]:
    """Its first samples, as its student reads them."""
    return islice((one.for_student(task.modality) for one in task.load().samples), _LOOKED_AT)


TASK_CHECKS: tuple[Check, ...] = (
    task_1_samples,
    task_2_splits,
    task_3_deterministic,
    task_4_prompts,
    task_5_header,
    task_6_phrases,
)
