"""A task over a table: its words and the names of its columns are all that an author writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mint_core.errors import ConfigError, DataError, did_you_mean
from mint_core.interfaces import Context, Task, Unreadable
from mint_core.tasks.checks import check_label_column
from mint_core.tasks.entries import Entries
from mint_core.tasks.inputs import read_new
from mint_core.tasks.load import Read, check_headers, has_class_folders, read_images
from mint_core.tasks.manifest import FIELDS, Layout, check_unique, columns_in, entries_of
from mint_core.tasks.masking import LabelMask
from mint_core.tasks.options import ManifestOptions
from mint_core.tasks.rows import LINES, PARQUET
from mint_core.tasks.settle import label_space, labels_of, task_data, with_blind_texts, with_labels
from mint_core.tasks.wording import ListPrompt
from mint_core.types import Modality, Prompt, Sample, TaskData

_FILES = {"csv": frozenset({".csv", ".txt"}), "tsv": frozenset({".tsv"}), "jsonl": LINES, "parquet": PARQUET}
"""Endings of the files that a source reads."""


class ManifestTask(Task):
    """Samples from a table (CSV, TSV, JSON lines, Parquet), from folders of classes, or from a Hugging Face dataset.

    A subclass says its words and columns, and needs nothing else:

        class ChestXRay(ManifestTask):
            '''A chest X-ray in, the most likely findings out.'''

            name = "chest-x-ray"
            role = "a radiologist"
            question = "Name the {n} most likely findings of this chest X-ray."
            header = "LIKELY_FINDINGS:"
            modality = "image"
            default_teacher = "features"
            columns = {"image": "file", "label": "finding", "group": "patient"}

    What the student reads (`modality`) must be in every row. An image in a task of texts, and privileged columns, are
    the teacher's alone. Labels, splits, copies and leaks are treated as docs/how-to/data.md says.

    Raises:
        ConfigError: The options contradict each other, for example a privileged column is part of the text.
    """

    Config: ClassVar[type[Any]] = ManifestOptions
    config: ManifestOptions
    sources = (*_FILES, "folder", "datasets")
    role: ClassVar[str] = "a medical expert"
    """Who answers, as the prompt says it: `You are …`."""
    question: ClassVar[str] = "Name the {n} most likely labels of this case."
    """What is asked; `{n}` stands for N."""
    entry: ClassVar[str] = "name"
    """What one line of the list holds: `finding`."""
    longest: ClassVar[int] = 5
    """N, where the label space has twice as many labels; else half of them, rounded up."""
    columns: ClassVar[Mapping[str, str | tuple[str, ...]]] = {}
    """Column by field where it is not called as the field; the options can name others."""

    def __init__(self, config: Any = None, context: Context | None = None) -> None:
        super().__init__(config, context)
        self._prompt = ListPrompt(self.role, self.question, self.header, self.entry)
        self._layout = layout_of(self.config, self.columns, self.modality)

    @classmethod
    def recognises(cls, place: Path, config: ManifestOptions) -> tuple[str, ...]:
        """A file is known by its ending, a folder by what lies in it."""
        if place.is_file():
            return tuple(name for name, endings in _FILES.items() if place.suffix.lower() in endings)
        from mint_core.tasks.datasets import is_dataset

        if is_dataset(place):
            return ("datasets",)
        return ("folder",) if has_class_folders(place) else ()

    def load(self) -> TaskData:
        """Reads the chosen source; see `mint_core.interfaces.task.Task.load`."""
        options, facts = self.config, Counter[str]()
        found = self._read(facts)
        counts: Counter[str] = Counter()
        for name, count in labels_of(found.entries).items():
            counts[options.label_map.get(name, name)] += count
        check_label_column(counts, self._layout.columns["label"], options)
        labels = label_space(counts, options.labels)
        named = with_labels(found.entries, labels, options.label_map)
        blind = with_blind_texts(named, labels, options.named_in_text, facts)
        entries = Entries(blind, self.context.cache)
        if not entries:
            raise DataError("Every row was left out for what its text held; use --set task.named_in_text=mask.")
        return task_data(entries, labels, f"{self.name}: {found.shown}", options, facts, subgroups=options.subgroups)

    def _read(self, facts: Counter[str]) -> Read:
        options, place = self.config, self.config.data or Path()
        if options.source == "datasets":
            from mint_core.tasks.datasets import read_dataset

            return read_dataset(place, self._layout, options, self.context.cache, facts)
        if options.source == "folder":
            return read_images(place, self._layout, options, self.context.cache, facts)
        if not place.exists():
            raise DataError(f"There is nothing at {place}; check the path after --data.")
        if place.is_dir():
            raise DataError(f"{place} is a folder; name the file with the table after --data.")
        table = self._layout.read(place, "Table", "")
        entries = Entries(entries_of(table, self._layout, facts), self.context.cache)
        if not entries:
            raise DataError(f"{place} holds no rows; write one row per sample.")
        check_unique(entries, self._layout)
        check_headers(entries, options)
        return Read(entries, place)

    def list_length(self, n_labels: int) -> int:
        """At most `longest`, and never more than half of the label space (rounded up)."""
        return min(self.longest, (n_labels + 1) // 2)

    def training_prompt(self, sample: Sample, n: int) -> Prompt:
        """The short prompt, or the inference prompt where `train_prompt` is `full`."""
        ask = self._prompt.short if self.config.train_prompt == "short" else self._prompt.full
        return ask(n, self._text(sample), self._image(sample))

    def inference_prompt(self, sample: Sample, n: int) -> Prompt:
        """The whole demand on the format."""
        return self._prompt.full(n, self._text(sample), self._image(sample))

    def _text(self, sample: Sample) -> str | None:
        return sample.text or "" if "text" in self.modality else None

    def _image(self, sample: Sample) -> Any:
        return sample.image if "image" in self.modality else None

    def read_inputs(self, place: Path, facts: Counter[str]) -> Iterator[Sample | Unreadable]:
        """Reads new samples: a table, a folder of images where the student reads nothing else, or one image."""
        return read_new(place, self._layout, facts, self._worded())

    def _worded(self) -> Callable[[str], str] | None:
        """Takes the names of labels out of a new text, as they were taken out in training."""
        labels = self.context.labels
        if labels is None or self.config.named_in_text == "keep":
            return None
        mask = LabelMask(labels)
        return lambda text: mask.mask(text).text


def layout_of(options: ManifestOptions, usual: Mapping[str, str | tuple[str, ...]], modality: Modality) -> Layout:
    """Which columns mean what, from the options and the task's own columns.

    Raises:
        ConfigError: A field does not exist, or a column is used where it may not be.
    """
    fields = ("text", *FIELDS)
    named = {**usual, **options.columns}
    for name in named:
        if name not in fields:
            raise ConfigError(f"task.columns: there is no field '{name}'{did_you_mean(name, fields)}.")
    columns = {}
    for field in FIELDS:
        column = named.get(field, field)
        if not isinstance(column, str):
            raise ConfigError(f"task.columns.{field} takes one column; only the text is made of several.")
        columns[field] = column
    text = columns_in(options.template) if options.template else named.get("text", "text")
    text = (text,) if isinstance(text, str) else tuple(text)
    if "text" not in modality:
        if options.template or "text" in options.columns:
            option = "template" if options.template else "columns.text"
            raise ConfigError(
                f"The student reads images alone, and task.{option} gives it a text; choose --set "
                "task.modality=image+text, or name the column in task.privileged."
            )
        text = ()
    _check_privileged(options, columns, text)
    read = {part for part in ("image",) if part in modality}
    return Layout(
        columns,
        needed=frozenset({"label", *read, *(field for field in FIELDS if field in named)}),
        remedy="--set task.columns.{field}=NAME",
        text=text,
        template=options.template,
        privileged=options.privileged,
        subgroups=options.subgroups or (),
        images_once=modality == "image",
        images=options.image_folder,
        missing=options.missing,
        max_pixels=options.max_pixels,
    )


def _check_privileged(options: ManifestOptions, columns: Mapping[str, str], text: tuple[str, ...]) -> None:
    for column in options.privileged:
        if column in text:
            raise ConfigError(
                f"The column '{column}' is part of the text and stands in task.privileged, but what the student reads "
                "is not privileged; take it out of one of them."
            )
        if column == columns["label"]:
            raise ConfigError(f"task.privileged names the column '{column}', which is the answer; take it out.")
        if column in columns.values():
            raise ConfigError(
                f"task.privileged names '{column}', which mint reads as a field of its own; give the column another "
                "name."
            )
