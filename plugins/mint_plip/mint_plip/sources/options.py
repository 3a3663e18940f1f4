"""The options of the tissue-type task: every reader takes its own and leaves the others unused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mint_core.plugin import SampleOptions

Fold = Annotated[int, Field(ge=1, le=1000)]


class TissueOptions(SampleOptions):
    """What the task, or one of its readers, can be told."""

    source: str = Field("simulated", description="Data source: simulated, pannuke or folder.")
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
    labels: tuple[str, ...] | Path | None = Field(
        None, description="folder: the label space, as a list or a file (one per line); null = the labels found."
    )
