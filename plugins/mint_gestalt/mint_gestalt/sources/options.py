"""The options of the rare-disease task: every reader takes its own and leaves the others unused."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mint_core.interfaces.task import TaskConfig

PatientField = Literal["sex", "age", "ethnicity", "phenotypes", "gene"]


class RareDiseaseOptions(TaskConfig):
    """What the task, or one of its readers, can be told."""

    source: str = Field("simulated", description="Data source: simulated, phenopackets, gmdb, csv or jsonl.")
    train_prompt: Literal["short", "full"] = Field(
        "short",
        description="Prompt of the training phase: `short`, or `full` = the inference prompt, for students too small "
        "to carry over what they learnt from one wording to the other.",
    )
    sample_seed: int = Field(0, ge=0, description="Seed of what is drawn (simulated) and of what is split by mint.")
    diseases: int = Field(30, ge=4, description="simulated: diseases of the cohort.")
    train_per_label: int = Field(12, ge=1, description="simulated: training patients per disease.")
    test_per_label: int = Field(6, ge=1, description="simulated: test patients per disease.")
    faces: bool = Field(True, description="simulated: draw the faces; off, facial phenotypes are seen by nobody.")
