"""A whole plugin for tests: a text task, a teacher that knows the labels, a retriever. Seconds from data to report."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from mint_core import hookimpl
from mint_core.errors import DataError
from mint_core.interfaces import ComponentConfig, Passage, Retriever, Task, TaskConfig, Teacher, Unreadable
from mint_core.types import LabelSpace, Message, Prompt, Sample, TaskData

LABELS = ("Adrenal gland", "Bile duct", "Colon", "Kidney", "Liver", "Skin")


class ToyConfig(TaskConfig):
    count: int = Field(24, description="Samples.")
    secret: str = Field("SECRET-PATIENT-TEXT", description="Stands in every text.")


class Toy(Task):
    """Text in, organ out."""

    name = "toy"
    Config: ClassVar[type[Any]] = ToyConfig
    header = "MOST_LIKELY_TISSUE:"
    modality = "text"
    default_teacher = "oracle"
    sources = ("simulated", "file")

    def load(self) -> TaskData:
        if self.config.source == "file":
            records = json.loads(Path(self.config.data).read_text())
        else:
            records = [
                {"id": f"p{i}", "split": "train" if i % 3 else "test", "label": LABELS[i % 6], "group": f"g{i}"}
                for i in range(self.config.count)
            ]
        samples = tuple(Sample(text=f"{self.config.secret} number {r['id']}", **r) for r in records)
        if not samples:
            raise DataError("The toy has no samples.")
        return TaskData(samples, LabelSpace(LABELS), "toy data", simulated=True)

    def list_length(self, n_labels: int) -> int:
        return 2

    def training_prompt(self, sample: Sample, n: int) -> Prompt:
        refuse_subgroups([sample])
        return Prompt((Message("system", "Keep to the format."), Message("user", f"{sample.text}. Name {n}.")))

    def inference_prompt(self, sample: Sample, n: int) -> Prompt:
        refuse_subgroups([sample])
        return Prompt((Message("system", self.header), Message("user", f"{sample.text}. Name EXACTLY {n}.")))

    def read_inputs(self, place, facts):
        for record in map(json.loads, Path(place).read_text().splitlines()):
            facts["notes read"] += 1
            if "broken" in record:
                yield Unreadable(record["id"], f"Note {record['id']} is broken; mend it.")
            else:
                yield Sample(record["id"], "test", text=record["text"])


def refuse_subgroups(samples):
    if any(sample.subgroups for sample in samples):
        raise AssertionError("subgroups are for the evaluation alone")


class OracleConfig(ComponentConfig):
    sharpness: float = Field(2.0, description="How sure it is.")
    fail: bool = Field(False, description="Returns the wrong shape.")


class Oracle(Teacher):
    """Knows the label of every sample."""

    name = "oracle"
    Config: ClassVar[type[Any]] = OracleConfig

    def log_probs(self, samples):
        refuse_subgroups(samples)
        rows = np.random.default_rng(0).normal(0, 0.1, (len(samples), len(LABELS)))
        for row, sample in enumerate(samples):
            rows[row, LABELS.index(sample.label)] += self.config.sharpness
            self.context.advance(1)
        rows -= np.log(np.exp(rows).sum(1, keepdims=True))
        return rows.astype(np.float32)[:, : -1 if self.config.fail else None]


class Echo(Retriever):
    """Retrieves one sentence."""

    name = "echo"

    def retrieve(self, samples):
        return [(Passage("toy", f"passage for {sample.id}"),) for sample in samples]


class LibraryConfig(ComponentConfig):
    folder: Path | None = Field(None, description="A folder of texts, one per label; null = a sentence per label.")
    release: str = Field("1", description="Release of the knowledge.")
    passages: int = Field(2, description="Passages per sample.")
    ranks: bool = Field(True, description="Score the labels.")
    beside: int = Field(0, description="How far beside the right label it points.")
    refuse: int | None = Field(None, description="Number of a patient whom it refuses to rank.")


class Library(Retriever):
    """Knows a text per label, and finds them by the digits at the end of a patient's text: it is right every time."""

    name = "library"
    Config: ClassVar[type[Any]] = LibraryConfig

    def build(self):
        folder = self.config.folder
        self.texts = {
            name: (folder / f"{name}.txt").read_text() if folder else f"{name} is an organ."
            for name in self.labels.names
        }
        self.context.advance(len(self.texts))

    def retrieve(self, samples):
        best = np.argsort(-self._scores(samples), axis=1, kind="stable")[:, : self.config.passages]
        names = [[self.labels.names[column] for column in row] for row in best]
        return [tuple(Passage(f"library:{name}", self.texts[name], name) for name in row) for row in names]

    def label_scores(self, samples):
        if any(sample.text.endswith(f"p{self.config.refuse}") for sample in samples):
            raise DataError(f"Patient p{self.config.refuse} stands in the library.")
        return self._scores(samples) if self.config.ranks else None

    def _scores(self, samples):
        refuse_subgroups(samples)
        if any(sample.label is not None or sample.privileged for sample in samples):
            raise AssertionError("a retriever was shown a label")
        numbers = [int(sample.text.rpartition(" ")[2].lstrip("p")) + self.config.beside for sample in samples]
        columns = np.arange(len(self.labels))
        return np.stack([-((columns - number) % len(columns)) for number in numbers]).astype(np.float32)

    def describe(self):
        return {"organs": len(self.texts)}

    @classmethod
    def fingerprint(cls, config):
        return config.release


@hookimpl
def mint_tasks():
    return [Toy]


@hookimpl
def mint_teachers():
    return [Oracle]


@hookimpl
def mint_retrievers():
    return [Echo, Library]
