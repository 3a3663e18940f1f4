"""Seam 1: what is to be predicted, from which data, and with which words."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from mint_core.errors import ConfigError, did_you_mean
from mint_core.interfaces.component import Component, ComponentConfig, Context
from mint_core.phrases import Span, split
from mint_core.types import Modality, Prompt, Sample, TaskData

SIMULATED = "simulated"
"""The source that reads no data."""


@dataclass(frozen=True, slots=True)
class EmbeddedStudent:
    """A small student that comes with a task, so that a run works without network."""

    path: Path
    """A folder as `save_pretrained` writes it."""
    description: str
    """What it is and how it was built; stands in the banner, the report and the adapter's card."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Config (nested, as in YAML) for which this student is too small or too fast; a user's own config wins."""
    aligners: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Options by the aligner's name, where one needs others than `overrides` gives; a user's own config wins."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A new sample that cannot be predicted."""

    id: str
    reason: str
    """One sentence, without patients' text: what is wrong, where, and what to do."""


class TaskConfig(ComponentConfig):
    """The options that every task has."""

    neutral: ClassVar[frozenset[str]] = frozenset({"data"})
    """The samples count by their content, wherever they lie."""

    source: str = Field(SIMULATED, description="Data source: one of the task's readers.")
    data: Path | None = Field(None, description="Folder or file that the source reads; unused by `simulated`.")
    n: int | None = Field(
        None, ge=1, le=100_000, description="Labels that the student lists (N); null = the task's default."
    )


class Task(Component[TaskConfig]):
    """Label space, data sources, prompts.

    Clauses:
        1. `load` returns samples of `train` and of `val` or `test`; ids are unique; every label is in the label space;
           only training samples may have none.
        2. No group and no image has samples in two splits.
        3. `load` is deterministic: two calls give the same samples in the same order.
        4. Both prompts of a sample show what the student's modality needs, image or text, and have a user's turn.
        5. `header` is one line, ends with a colon, and stands in the inference prompt.
        6. `phrases` are parts of the text, in order, apart from each other, and not empty.
    """

    kind = "task"
    Config: ClassVar[type[Any]] = TaskConfig
    header: ClassVar[str]
    """First line of a response, for example `MOST_LIKELY_TISSUE:`."""
    modality: ClassVar[Modality]
    """What the student reads."""
    default_teacher: ClassVar[str]
    teachers: ClassVar[tuple[str, ...]] = ()
    """Further teachers that serve it, of those that name other tasks."""
    sources: ClassVar[tuple[str, ...]]
    """The readers that `config.source` can name; all but `simulated` read what `config.data` names."""

    by_name_only: ClassVar[bool] = False
    """It could read nearly everything, and is chosen by its name alone, never because of what lies at `--data`."""

    def __init__(self, config: Any = None, context: Context | None = None) -> None:
        super().__init__(config, context)
        source = self.config.source
        if source not in self.sources:
            raise ConfigError(f"Task '{self.name}' has no source '{source}'{did_you_mean(source, self.sources)}.")
        if source != SIMULATED and self.config.data is None:
            raise ConfigError(f"Source '{source}' reads your data; say where they are with --data PATH.")

    @classmethod
    def recognises(cls, place: Path, config: Any) -> tuple[str, ...] | None:
        """The sources that can read what lies at a path, where the user names data and no source.

        A look at names and at the first lines is enough; a source that reads the whole tells what is wrong with it.

        Args:
            place: A file or folder that exists.
            config: A validated `Config` with the task's other options, such as names of columns.

        Returns:
            Names out of `sources`; None where the task does not say. Without a word a task with one reader of data
            reads with that one, and a task with several asks the user.
        """
        return None

    @abstractmethod
    def load(self) -> TaskData:
        """Reads the data source named by the config.

        Raises:
            DataError: It cannot be read, or it breaks a clause.
        """

    @abstractmethod
    def list_length(self, n_labels: int) -> int:
        """How many labels the student lists (N) where the config does not say."""

    def n_listed(self, n_labels: int, default: int | None = None) -> int:
        """How many labels the student lists (N): what the config says, else the default.

        Raises:
            ConfigError: It is larger than the label space.
        """
        n: int = self.config.n or default or self.list_length(n_labels)
        if n > n_labels:
            raise ConfigError(
                f"N = {n} is larger than the label space ({n_labels} labels); lower it with --set task.n={n_labels}."
            )
        return n

    @abstractmethod
    def training_prompt(self, sample: Sample, n: int) -> Prompt:
        """The short prompt of the training phase.

        Args:
            sample: What `Sample.for_student` leaves: no label, no privileged field, no other modality.
            n: How many labels the student lists.
        """

    @abstractmethod
    def inference_prompt(self, sample: Sample, n: int) -> Prompt:
        """The prompt of the inference phase, with the whole demand on the format; arguments as above."""

    def read_inputs(self, place: Path, facts: Counter[str]) -> Iterator[Sample | Unreadable]:
        """Reads new samples, for `mint predict`; a task that cannot need not override it.

        Label and privileged fields are never read, and the text is worded as `load` words it.

        Args:
            place: The file or folder that the user names.
            facts: Gets counts that the user must know, for example of what was left out of a sample.

        Yields:
            Samples in an order that does not change between two calls. One that is malformed is yielded as
            `Unreadable`, so that the others can be predicted all the same. Two of one id are refused by the caller.

        Raises:
            ConfigError: The task reads no new samples.
            DataError: `place` cannot be read at all.
        """
        raise ConfigError(
            f"The task '{self.name}' cannot read new samples; its plugin must give it a method `read_inputs`."
        )

    def phrases(self, sample: Sample) -> Sequence[Span]:
        """The parts of a sample's text that `mint explain` leaves out one by one, in order and apart from each other.

        By default what stands between commas, semicolons, ends of sentences and ends of lines. A task whose texts have
        parts of their own, such as names with commas, says so here.

        Args:
            sample: What the student reads, with a text.
        """
        return split(sample.text or "")

    def embedded_student(self) -> EmbeddedStudent | None:
        """The student that is used when the user names none; None where the task brings none."""
        return None

    def defaults(self) -> Mapping[str, Any]:
        """Config (nested, as in YAML) that suits the chosen source; a user's own config wins."""
        return {}
