"""The built-in task `table`: a config describes it."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, field_validator

from mint_core.tasks.options import ManifestOptions
from mint_core.tasks.task import ManifestTask
from mint_core.types import Modality


class TableOptions(ManifestOptions):
    """The words of the task beside its columns."""

    modality: Modality = Field("text", description="What the student reads: text, image or image+text.")
    role: str = Field(
        ManifestTask.role, min_length=1, max_length=500, description="Who answers: `You are …`, as the prompt says it."
    )
    question: str = Field(
        ManifestTask.question,
        max_length=5000,
        description="What is asked; `{n}` stands for the number of labels, for example 'Name the {n} most likely "
        "findings of this chest X-ray.'",
    )
    header: str = Field("MOST_LIKELY:", max_length=200, description="First line of an answer; it ends with a colon.")
    entry: str = Field(
        ManifestTask.entry, min_length=1, max_length=100, description="What one line of the list holds: finding."
    )

    @field_validator("question")
    @classmethod
    def _asks_for_n(cls, question: str) -> str:
        if "{n}" not in question:
            raise ValueError("write {n} where the number of labels stands, as in 'Name the {n} most likely findings.'")
        return question

    @field_validator("header")
    @classmethod
    def _one_line(cls, header: str) -> str:
        if "\n" in header or not header.endswith(":"):
            raise ValueError("it is one line and ends with a colon, as in 'LIKELY_FINDINGS:'")
        return header


class TableTask(ManifestTask):
    """Texts, images or both from a table in, the N most likely labels out; everything about it stands in the config.

    It is chosen with `--task table`. docs/how-to/table.md shows complete configs.

    Raises:
        ConfigError: The options contradict each other, for example a privileged column is part of the text.
    """

    name = "table"
    by_name_only = True
    default_teacher = "features"
    Config: ClassVar[type[Any]] = TableOptions
    config: TableOptions

    @property
    def header(self) -> str:  # type: ignore[override]
        """As the config says."""
        return self.config.header

    @property
    def modality(self) -> Modality:  # type: ignore[override]
        """As the config says."""
        return self.config.modality

    @property
    def role(self) -> str:  # type: ignore[override]
        """As the config says."""
        return self.config.role

    @property
    def question(self) -> str:  # type: ignore[override]
        """As the config says."""
        return self.config.question

    @property
    def entry(self) -> str:  # type: ignore[override]
        """As the config says."""
        return self.config.entry
