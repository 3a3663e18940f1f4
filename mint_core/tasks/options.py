"""The options of tasks over tables and folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from mint_core.images import MAX_PIXELS, PIXEL_CEILING
from mint_core.interfaces import MAX_SEED, TaskConfig


class SampleOptions(TaskConfig):
    """What every task over samples of one's own can be told."""

    train_prompt: Literal["short", "full"] = Field(
        "short",
        description="Prompt of the training phase: `short`, or `full` = the inference prompt, for students too small "
        "to carry over what they learnt from one wording to the other.",
    )
    sample_seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of what is drawn, and of what is split by mint.")
    missing: tuple[str, ...] = Field(
        (),
        description="Tables: words that mean that a cell is empty, such as [NA] for R's tables; NaN always does.",
    )
    val_fraction: float = Field(0.0, ge=0, lt=1, description="Share of val where mint makes the split.")
    test_fraction: float = Field(0.2, ge=0, lt=1, description="Share of test where mint makes the split.")
    check_images: bool = Field(True, description="Read the header of every image before the run starts.")
    max_pixels: int = Field(
        MAX_PIXELS, ge=1, le=PIXEL_CEILING, description="Images with more pixels are refused undecoded."
    )
    duplicates: Literal["refuse", "drop"] = Field(
        "refuse",
        description="An image that lies in two splits is an error (refuse) or stays in the earlier split only (drop).",
    )


def _keys_as_text(value: Any) -> Any:
    return {str(key): name for key, name in value.items()} if isinstance(value, Mapping) else value


class ManifestOptions(SampleOptions):
    """What a task over a table of one's own can be told."""

    neutral: ClassVar[frozenset[str]] = TaskConfig.neutral | {"image_folder"}

    source: str = Field(
        "csv",
        description="What lies at `data`: csv, tsv, jsonl, parquet, folder (of classes), or datasets (Hugging Face).",
    )
    columns: dict[str, str | tuple[str, ...]] = Field(
        {},
        description="Your column by field: text (one or several), image, label, group, split, id; for example `{text: "
        "[age, note], label: finding}`. A field that is not named is the column of its own name, where there is one.",
    )
    template: str | None = Field(
        None,
        description="How the text is made of columns, instead of columns.text: '{age}-year-old {sex}: {note}'.",
    )
    privileged: tuple[str, ...] = Field((), description="Columns that only the teacher reads.")
    subgroups: tuple[str, ...] | None = Field(
        None,
        description="Columns by which results are reported unless evaluate.subgroups names others; null = sex, gender, "
        "age, ethnicity and site, where there are such.",
    )
    labels: tuple[str, ...] | Path | None = Field(
        None,
        description="The label space: null = the labels found; a list of names; a file of names (.json, .csv, or one "
        "per line); `;` parts a name from its aliases.",
    )
    label_map: Annotated[dict[str, str], BeforeValidator(_keys_as_text)] = Field(
        {}, description="The name of a label by what the label column holds, for example `{0: normal, 1: pneumonia}`."
    )
    numbers_are_names: bool = Field(False, description="Take the numbers in a label column for names of labels.")
    named_in_text: Literal["mask", "keep", "drop", "refuse"] = Field(
        "mask",
        description="A text that holds the name of a label, or a privileged value of its row: `mask` the words, `keep` "
        "them, `drop` the row, or `refuse` the data.",
    )
    image_folder: Path | None = Field(None, description="Folder of the images; null = where the table lies.")
    revision: str | None = Field(None, description="datasets: commit, branch or tag of a dataset of the hub.")
    configuration: str | None = Field(None, description="datasets: which of several configurations.")
