"""A whole plugin for tests: a text task, a teacher that knows the labels, a retriever. Seconds from data to report."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from mint_core import hookimpl
from mint_core.errors import DataError
from mint_core.interfaces import ComponentConfig, Passage, Retriever, Task, TaskConfig, Teacher
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
        return Prompt((Message("system", "Keep to the format."), Message("user", f"{sample.text}. Name {n}.")))

    def inference_prompt(self, sample: Sample, n: int) -> Prompt:
        return Prompt((Message("system", self.header), Message("user", f"{sample.text}. Name EXACTLY {n}.")))


class OracleConfig(ComponentConfig):
    sharpness: float = Field(2.0, description="How sure it is.")
    fail: bool = Field(False, description="Returns the wrong shape.")


class Oracle(Teacher):
    """Knows the label of every sample."""

    name = "oracle"
    Config: ClassVar[type[Any]] = OracleConfig

    def log_probs(self, samples):
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


@hookimpl
def mint_tasks():
    return [Toy]


@hookimpl
def mint_teachers():
    return [Oracle]


@hookimpl
def mint_retrievers():
    return [Echo]
