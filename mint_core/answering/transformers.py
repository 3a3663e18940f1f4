"""The engine `transformers`: a student on this machine writes freely or constrained, or scores all labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mint_core.answering.constrained import generate_constrained
from mint_core.answering.engine import Answered, Asking, Engine, Prompts, batches, one_by_one
from mint_core.answering.generate import Begun, begin, go_on, not_finite, texts
from mint_core.answering.score import label_tokens, score
from mint_core.errors import ModelError
from mint_core.interfaces import Unreadable
from mint_core.students.adapter import load_adapter
from mint_core.students.control import check_labels
from mint_core.students.encoding import StudentCounter
from mint_core.students.prompts import write_response
from mint_core.types import Prediction

if TYPE_CHECKING:
    from mint_core.interfaces import Student


class TransformersEngine(Engine):
    """A student with its weights answers; `open_engine` describes the arguments.

    Raises:
        ModelError: Prompts hold images, and the student reads text only.
        DataError: A label holds a control token of the student.
    """

    def __init__(self, student: Student, asking: Asking, *, shows_images: bool, isolate: bool = False) -> None:
        if shows_images and not student.reads_images:
            raise ModelError(f"The task shows images, but the student {student.source} reads text only.")
        check_labels(asking.labels, student.processor, asking.header)
        self.student, self.asking, self.isolate = student, asking, isolate
        self.counter = StudentCounter(student)
        self.model = student.model
        """The student, with its adapter from `put_on` on."""

    def put_on(self, adapter: Path) -> None:
        """See `Engine.put_on`."""
        self.model = load_adapter(self.student.model, adapter)

    def answers(self, variant: str, prompts: Prompts, *, free: bool = False) -> Iterator[list[Answered]]:
        """See `Engine.answers`."""
        decode = "free" if free else self.asking.config.decode
        if decode == "free":
            yield from self._written(variant, prompts)
            return
        answer = self._scored if decode == "score" else self._constrained
        for batch in batches(prompts, self.asking.batch_size, ordered=self.asking.ordered):
            yield one_by_one(partial(answer, variant), batch) if self.isolate else answer(variant, batch)

    def _written(self, variant: str, prompts: Prompts) -> Iterator[list[Answered]]:
        """Free answers. Those that are longer than the longest list go on together, and no finished one waits for them.

        A student that does not stop writes until its budget is used up. Its batch is cut where the longest list would
        end; what has not ended by then is collected and goes on in batches of its own.
        """
        asking = self.asking
        budget = asking.budget(self.counter)
        first = max(1, (2 * budget) // 3)
        late: list[Begun] = []
        for batch in batches(prompts, asking.batch_size, ordered=asking.ordered):
            start = partial(self._start, variant, late, first, budget)
            ready = one_by_one(start, batch) if self.isolate else start(batch)
            if asking.ordered:
                ready += self._finish(variant, late, budget - first)
                place = {sample_id: number for number, sample_id in enumerate(batch)}
                ready.sort(key=lambda one: place[one.sample_id if isinstance(one, Prediction) else one.id])
            if ready:
                yield ready
            if len(late) >= asking.batch_size:
                yield self._finish(variant, late, budget - first)
        if late:
            yield self._finish(variant, late, budget - first)

    def _start(self, variant: str, late: list[Begun], first: int, budget: int, prompts: Prompts) -> list[Answered]:
        """Answers of one batch that end within `first` tokens; the others are added to `late`."""
        written = go_on(self.student, self.model, begin(self.student, prompts, budget), first)
        late += [one for one in written if not one.ended and first < budget]
        return self._read(variant, [one for one in written if one.ended or first == budget])

    def _finish(self, variant: str, late: list[Begun], tokens: int) -> list[Answered]:
        """Answers that go on; `late` is empty afterwards."""
        some, late[:] = list(late), []
        size = self.asking.batch_size
        parts = [some[start : start + size] for start in range(0, len(some), size)]
        return [one for part in parts for one in self._read(variant, go_on(self.student, self.model, part, tokens))]

    def _read(self, variant: str, begun: Sequence[Begun]) -> list[Answered]:
        written = texts(self.student, begun) if begun else []
        found: list[Answered] = []
        for one, text in zip(begun, written, strict=True):
            sample_id = one.prompt.sample_id
            if one.broken:
                found.append(self._without(sample_id))
            else:
                found.append(self.asking.read(sample_id, variant, text, truncated=not one.ended))
        return found

    def _without(self, sample_id: str) -> Unreadable:
        """A sample for which the student's scores are not finite.

        Raises:
            ModelError: No sample may fail alone.
        """
        if not self.isolate:
            raise ModelError(not_finite(sample_id))
        return Unreadable(sample_id, not_finite(sample_id))

    def _scored(self, variant: str, prompts: Prompts) -> list[Answered]:
        labels, header = self.asking.labels, self.asking.header
        lengths = np.ones(len(labels))  # what a log-probability is divided by before labels are compared
        if self.asking.config.normalise == "tokens":
            lengths = np.array(label_tokens(self.student, labels, header, next(iter(prompts.values()))), float)
        found: list[Answered] = []
        scored = score(self.student, prompts, labels, header, batch_size=len(prompts), model=self.model)
        for sample_id, scores in scored:
            if not np.isfinite(scores).all():
                found.append(self._without(sample_id))
                continue
            best = np.argsort(-scores / lengths, kind="stable")[: self.asking.listed]
            names = tuple(labels.names[column] for column in best)
            logs = tuple(round(float(scores[column]), 5) for column in best)
            text = write_response(header, names)
            found.append(Prediction(sample_id, variant, text, names, len(names), True, logs, scores=scores))
        return found

    def _constrained(self, variant: str, prompts: Prompts) -> list[Answered]:
        labels, header, n = self.asking.labels, self.asking.header, self.asking.n
        how: dict[str, Any] = {"n": n, "batch_size": len(prompts), "model": self.model}
        return [
            self._without(sample_id)
            if names is None
            else Prediction(sample_id, variant, write_response(header, names), names, n, well_formed=True)
            for sample_id, names in generate_constrained(self.student, prompts, labels, header, **how)
        ]
