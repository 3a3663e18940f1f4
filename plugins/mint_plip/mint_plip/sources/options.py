"""The options of the tissue-type task: every reader takes its own and leaves the others unused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mint_core.plugin import MAX_PIXELS, MAX_SEED, PIXEL_CEILING, TaskConfig

Fold = Annotated[int, Field(ge=1, le=1000)]


class TissueOptions(TaskConfig):
    """What the task, or one of its readers, can be told."""

    source: str = Field("simulated", description="Data source: simulated, pannuke or folder.")
    train_prompt: Literal["short", "full"] = Field(
        "short",
        description="Prompt of the training phase: `short`, or `full` = the inference prompt, for students too small "
        "to carry over what they learnt from one wording to the other.",
    )
    sample_seed: int = Field(
        0, ge=0, le=MAX_SEED, description="Seed of what is drawn (simulated) and of what is split by mint."
    )

    train_per_label: int = Field(60, ge=1, le=1_000_000, description="simulated: training patches per tissue.")
    test_per_label: int = Field(20, ge=1, le=1_000_000, description="simulated: test patches per tissue.")
    patches_per_slide: int = Field(
        4, ge=1, le=1_000_000, description="simulated: patches of one slide, which never leave its split."
    )

    split: Literal["paper", "folds"] = Field(
        "paper",
        description="pannuke: `paper` = 70/30 over the patches that hold a nucleus; `folds` = the official folds.",
    )
    train_folds: tuple[Fold, ...] = Field((1,), description="pannuke, split=folds: folds to train on.")
    val_folds: tuple[Fold, ...] = Field((2,), description="pannuke, split=folds: folds to validate on.")
    test_folds: tuple[Fold, ...] = Field((3,), description="pannuke, split=folds: folds to test on.")

    image_column: str = Field(
        "image", description="folder: manifest column with the image's path below the data folder."
    )
    label_column: str = Field("label", description="folder: manifest column with the true label.")
    group_column: str = Field("group", description="folder: manifest column with the patient or slide; optional.")
    split_column: str = Field("split", description="folder: manifest column with train, val or test; optional.")
    id_column: str = Field("id", description="folder: manifest column with the sample id; optional.")
    missing: tuple[str, ...] = Field(
        (),
        description="folder: words that mean that a cell is empty, such as [NA] for R's tables; NaN always does.",
    )
    labels: tuple[str, ...] | Path | None = Field(
        None, description="folder: the label space, as a list or a text file (one per line); null = the labels found."
    )
    val_fraction: float = Field(0.0, ge=0, lt=1, description="folder: share of val where mint makes the split.")
    test_fraction: float = Field(0.2, ge=0, lt=1, description="folder: share of test where mint makes the split.")
    check_images: bool = Field(True, description="folder: read the header of every image before the run starts.")
    max_pixels: int = Field(
        MAX_PIXELS, ge=1, le=PIXEL_CEILING, description="folder: images with more pixels are refused undecoded."
    )
    duplicates: Literal["refuse", "drop"] = Field(
        "refuse",
        description="pannuke, folder: an image that lies in two splits is an error (refuse) or stays in the earlier "
        "split only (drop).",
    )
