"""What every stage of a run needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np

from mint_core.config import Resolved, embedded_student
from mint_core.errors import ContractError
from mint_core.evaluation.confusions import Pair, named_pairs
from mint_core.evaluation.fields import Fields, choose_fields
from mint_core.evaluation.subsets import Member, members, reported
from mint_core.files import digest_of, digest_of_each, storage_errors
from mint_core.interfaces import (
    AlignmentJob,
    Context,
    EmbeddedStudent,
    Metric,
    PreferenceStrategy,
    Retriever,
    Student,
    Task,
)
from mint_core.observer import Observer
from mint_core.plugins import registry
from mint_core.splits import check_samples
from mint_core.stages.outputs import LOGS, PREFERENCES, RANKINGS, read_preferences, read_rankings
from mint_core.stages.quick import few
from mint_core.stages.stage import Manifest
from mint_core.students.gguf import GgufFile, find_gguf
from mint_core.students.load import identity, precision, resolve_device
from mint_core.students.quantize import told
from mint_core.types import PreferenceGroup, Prompt, Ranking, Sample, TaskData


def _unlogged(event: str, **facts: Any) -> None:
    """Nothing is kept."""


@dataclass
class Run:
    """What every stage needs: the resolved config, the task and its data, the run folder, an observer."""

    resolved: Resolved
    path: Path
    """The run folder."""
    observer: Observer
    cache: Path
    loaded: dict[str, TaskData] = field(default_factory=dict)
    """Data of earlier runs of one comparison, by digest of the task's record: reading them takes time."""
    made: dict[str, Manifest] = field(default_factory=dict)
    """The stages that are complete for this config, by name."""
    command: str | None = None
    """What the user gave, where it was a command."""
    with_images: bool = False
    """The report shows the images that the student read."""
    log: Callable[..., None] = _unlogged
    """Appends an event and its facts to log.jsonl."""

    @cached_property
    def task(self) -> Task:
        """The task."""
        return cast(Task, self.resolved.task.make(Context(cache=self.cache)))

    @cached_property
    def data(self) -> TaskData:
        """The samples and labels, checked for leaks."""
        key = digest_of(self.resolved.task.record)
        if key not in self.loaded:
            data = self.task.load()
            check_samples(data.samples, data.labels)
            self.loaded[key] = data
        return few(self.loaded[key]) if self.resolved.config.quick else self.loaded[key]

    @cached_property
    def n(self) -> int:
        """Labels that the student lists (N)."""
        return self.task.n_listed(len(self.data.labels))

    @cached_property
    def reported(self) -> Sequence[Sample]:
        """The samples that are judged."""
        return reported(self.data.samples, self.resolved.config.evaluate.split)

    @property
    def split(self) -> str:
        """Where the judged samples come from, for people: `test`, or `val, external: test`."""
        own = dict.fromkeys(sample.split for sample in self.reported if sample.cohort is None)
        external = dict.fromkeys(sample.split for sample in self.reported if sample.cohort is not None)
        parts = [*own] if own == external or not external or not own else [*own, f"external: {', '.join(external)}"]
        return ", ".join(parts or external)

    def context(self, advance: Callable[[int], None] | None = None) -> Context:
        """What the run's components are given to work with."""
        config = self.resolved.config
        listens = {} if advance is None else {"advance": advance}
        return Context(self.data.labels, self.n, config.seed, self.device, self.cache, task=self.task, **listens)

    def outlined_job(
        self, student: Student, groups: Sequence[PreferenceGroup], prompts: Mapping[str, Prompt]
    ) -> AlignmentJob:
        """What the aligner would be given; nothing is written to its folders."""
        nowhere = self.path / "outlined"
        return AlignmentJob(
            student=student,
            groups=groups,
            prompts=prompts,
            header=self.task.header,
            seed=self.resolved.config.alignment_seed,
            work=nowhere,
            adapter=nowhere,
            advance=lambda *_: None,
            cache=self.cache,
        )

    @cached_property
    def device(self) -> str:
        """Where models compute, for example `cpu` or `cuda`."""
        return resolve_device(self.resolved.config.student.device)

    @cached_property
    def strategy(self) -> PreferenceStrategy:
        """The preference strategy."""
        return cast(PreferenceStrategy, self.resolved.strategy.make(Context(self.data.labels, self.n)))

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """The metrics by key, in the order of the table."""
        return {key: cast(Metric, metric.make()) for key, metric in self.resolved.metrics.items()}

    @cached_property
    def members(self) -> dict[str, Member]:
        """Group, cohort and whether the label was seen in training, of every judged sample."""
        return members(self.reported, self.data.split("train"), self.fields.names)

    @cached_property
    def fields(self) -> Fields:
        """The fields by which results are reported."""
        wanted = self.resolved.config.evaluate.subgroups
        return choose_fields(wanted, self.data.subgroups, self.data.samples, self.reported)

    @cached_property
    def pairs(self) -> list[Pair] | None:
        """The pairs of labels that the user names; None where they are looked for."""
        wanted = self.resolved.config.evaluate.pairs
        return None if wanted is None else named_pairs(wanted, self.data.labels)

    @cached_property
    def retriever(self) -> Retriever | None:
        """The retriever with its index; None where the run has none."""
        if self.resolved.retriever is None:
            return None
        context = Context(self.data.labels, self.n, cache=self.cache, advance=self.advance(None, "passages"))
        retriever = cast(Retriever, self.resolved.retriever.make(context))
        with storage_errors(self.cache):
            retriever.build()
        return retriever

    @cached_property
    def validation(self) -> list[Sample]:
        """The samples on which the weight of a fusion is fitted; none unless one is."""
        retrieval = self.resolved.config.retrieval
        if retrieval.fuse != "weighted" or retrieval.weight is not None:
            return []
        return self._labelled_val()

    @cached_property
    def held_out(self) -> list[Sample]:
        """The val samples from which a threshold of confidence is chosen, see `mint_core.answering.confidence`."""
        config = self.resolved.config.predict
        if self.resolved.aligner is None or config.decode != "score" or config.normalise != "none" or not config.val:
            return []
        return self._labelled_val()

    @property
    def asked(self) -> list[Sample]:
        """All samples that somebody answers: the reported ones, then what is only fitted on."""
        return list({sample.id: sample for sample in (*self.reported, *self.validation, *self.held_out)}.values())

    def _labelled_val(self) -> list[Sample]:
        return [sample for sample in self.data.split("val") if sample.label is not None and sample.cohort is None]

    @cached_property
    def taught(self) -> frozenset[str]:
        """The labels that are some training sample's first answer: of the others a student has learnt nothing."""
        return frozenset(group.answer for group in self.preferences())

    @cached_property
    def embedded(self) -> EmbeddedStudent | None:
        """The embedded student, where it is used."""
        asked = self.resolved.config.predict.engine == "endpoint"
        return None if asked else embedded_student(self.resolved.config.student.model, self.task, registry())

    @property
    def student_path(self) -> str | None:
        """Folder of the embedded student, where it is used."""
        return str(self.embedded.path) if self.embedded else None

    @cached_property
    def gguf(self) -> GgufFile | None:
        """The student's file, where it is a GGUF file."""
        asked = self.resolved.config.predict.engine == "endpoint"
        return None if asked or self.embedded else find_gguf(self.resolved.config.student.model)

    @property
    def student_told(self) -> str:
        """Who the student is, in one sentence where there is more to say than its name."""
        if self.embedded:
            return self.embedded.description
        return self.gguf.describe(precision(self.resolved.config.student)) if self.gguf else ""

    @property
    def student_held(self) -> str:
        """How the student's weights are held where they are quantised for this run; else empty."""
        config = self.resolved.config.student
        return "" if config.quantize == "none" else told(config, precision(config))

    def student_identity(self) -> dict[str, Any]:
        """What decides the student: its weights by content, its settings without the device, its precision."""
        config = self.resolved.config.student
        return identity(config, self.student_path or config.model)

    @cached_property
    def data_fingerprint(self) -> str:
        """Digest of all samples: ids, labels, splits, groups, texts, privileged fields, image keys."""
        samples = (
            [s.id, s.label, s.split, s.group, s.image.key if s.image else None, s.text, s.privileged, s.cohort]
            for s in self.data.samples
        )
        labels = [[*self.data.labels.names], [list(aliases) for aliases in self.data.labels.aliases]]
        return digest_of_each(chain(samples, labels))

    def task_identity(self) -> dict[str, Any]:
        """What decides the prompts: the task, its data, and N."""
        return {"task": self.resolved.task.identity(), "data": self.data_fingerprint, "n": self.n}

    def groups_of(self, rankings: Mapping[str, Ranking]) -> list[PreferenceGroup]:
        """The preference groups of the training split.

        Raises:
            ContractError: The strategy's groups of one sample ask for lists of different lengths.
        """
        train = self.data.split("train")
        self.strategy.fit([rankings[sample.id] for sample in train], [sample.label for sample in train])
        groups = []
        for sample in train:
            own = self.strategy.groups(rankings[sample.id], sample.label)
            if len({len(group.chosen[0]) for group in own}) > 1:
                raise ContractError(
                    f"The strategy '{self.strategy.name}' made groups of sample {sample.id} whose first chosen "
                    "responses differ in length; a prompt asks for one number of labels."
                )
            groups += own
        return groups

    def even_groups(self, *, labelled: bool) -> list[PreferenceGroup]:
        """The groups that the first training sample would get from a teacher who knows nothing: all have their sizes.

        Args:
            labelled: Take the first label for its truth.
        """
        labels = self.data.labels.names
        even = np.full(len(labels), -math.log(len(labels)), np.float32)
        first = Ranking(self.data.split("train")[0].id, labels, even)
        return self.strategy.groups(first, labels[0] if labelled else None)

    def rankings(self) -> dict[str, Ranking]:
        """The teacher's rankings by sample id."""
        return read_rankings(self.path / RANKINGS, self.data.labels)

    def preferences(self) -> list[PreferenceGroup]:
        """The preference groups of the training split, in order."""
        return read_preferences(self.path / PREFERENCES)

    def logs(self, key: str) -> Path:
        """Folder for the trackers of a training, by the key of the stage; those of other trainings stay beside it."""
        return self.path / LOGS / f"{self.path.name}-{key[:8]}"

    def tell(self, sentence: str) -> None:
        """Says a sentence to the person who waits, and keeps it in the log; never patients' text."""
        self.observer.message(sentence)
        self.log("told", sentence=sentence)

    def advance(self, total: int | None, unit: str) -> Callable[[int], None]:
        """A counter that tells the observer how far the stage is; without a total it is what is done."""
        done = 0

        def step(count: int) -> None:
            nonlocal done
            done += count
            self.observer.progress(done, done if total is None else total, unit)

        return step
