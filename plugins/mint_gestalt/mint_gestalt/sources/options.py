"""The options of the rare-disease task: every reader takes its own and leaves the others unused."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from mint_core.plugin import SampleOptions

PatientField = Literal["sex", "age", "ethnicity", "phenotypes", "gene"]
PATIENT_FIELDS: tuple[PatientField, ...] = ("sex", "age", "ethnicity", "phenotypes", "gene")
FileSource = Literal["phenopackets", "gmdb", "csv", "jsonl"]


class RareDiseaseOptions(SampleOptions):
    """What the task, or one of its readers, can be told."""

    neutral: ClassVar[frozenset[str]] = SampleOptions.neutral | {"external", "image_folder"}

    source: str = Field("simulated", description="Data source: simulated, phenopackets, gmdb, csv or jsonl.")
    diseases: int = Field(30, ge=4, le=100_000, description="simulated: diseases of the cohort.")
    train_per_label: int = Field(24, ge=1, le=1_000_000, description="simulated: training patients per disease.")
    val_per_label: int = Field(0, ge=0, le=1_000_000, description="simulated: validation patients per disease.")
    test_per_label: int = Field(6, ge=1, le=1_000_000, description="simulated: test patients per disease.")
    faces: bool = Field(True, description="simulated: draw the faces; off, facial phenotypes are seen by nobody.")

    student_fields: tuple[PatientField, ...] = Field(
        ("sex", "age", "ethnicity", "phenotypes"),
        description="phenopackets, gmdb: what the student's text is made of, out of sex, age, ethnicity, phenotypes "
        "and gene.",
    )
    privileged: tuple[str, ...] = Field(
        ("gene",),
        description="What only the teacher reads beside text and face: fields of the patient; for csv and jsonl, "
        "names of columns.",
    )
    named_in_text: Literal["mask", "drop", "refuse"] = Field(
        "mask",
        description="A text that holds a privileged value of its patient, or (free text) the name of the patient's "
        "disease: `mask` the words, `drop` the patient, or `refuse` the data.",
    )
    labels: Literal["omim"] | Path | tuple[str, ...] | None = Field(
        None,
        description="The label space: null = the diseases found; a list of names; a file of names (.json index to "
        "name, .csv, or one per line; `;` parts aliases); `omim` = all diseases of OMIM.",
    )
    unknown_labels: Literal["refuse", "drop"] = Field(
        "refuse", description="A patient whose disease is not in the given label space: `refuse` or `drop`."
    )
    shared_aliases: Literal["refuse", "drop"] = Field(
        "refuse", description="A name that two labels share: `refuse`, or `drop` it where it is an alias."
    )
    unknown_terms: Literal["label", "drop", "refuse"] = Field(
        "label",
        description="HPO ids that the ontology does not know: told by the `label` that stands beside them and counted, "
        "`drop` and count them, or `refuse`.",
    )
    on_error: Literal["fail", "skip"] = Field(
        "fail", description="A malformed file or row: `fail` names it and stops, `skip` leaves it out and counts it."
    )
    group_by: Literal["publication", "patient", "cohort"] | None = Field(
        None,
        description="What no split may tear apart; `cohort` = the folder of the file. null = publication "
        "(phenopackets), patient (gmdb), or the group column (csv, jsonl).",
    )
    min_patients: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Diseases with fewer patients are left out; null = 2 where mint makes the split, else 1.",
    )
    min_groups: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Diseases with fewer groups are left out; null = 2 where mint makes the split, else 1.",
    )
    most_groups: int | None = Field(
        None,
        ge=2,
        le=1_000_000,
        description="Keep so many diseases, those with the most groups (phenopackets: publications), between equals "
        "those with more patients. null = all.",
    )
    max_patients: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Keep at most so many patients of a disease (and split, where it is given), drawn by seed from its "
        "groups in turn, so that large groups do not outweigh the others. null = all.",
    )
    unseen: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="How many whole diseases, drawn by seed, are held out: all their patients are test.",
    )
    labelled: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="How many training patients keep their label, drawn by seed and stratified; null = all.",
    )
    external: Path | None = Field(None, description="A second data set that is only tested on.")
    external_source: FileSource | None = Field(None, description="Its source; null = what lies there, or `source`.")
    external_name: str | None = Field(None, description="What the report calls it; null = the name of the file.")
    columns: dict[str, str] = Field(
        {},
        description="csv, jsonl, gmdb: your column for a field of mint, for example `{text: clinical_note}`; the "
        "fields stand in docs/how-to/data.md.",
    )
    gmdb_splits: Literal["mint", "published"] = Field(
        "mint", description="gmdb: split by mint, or by the gallery and test tables beside the metadata."
    )
    image_folder: Path | None = Field(
        None, description="gmdb, csv, jsonl: folder of the faces; null = beside the table (gmdb: or in a folder there)."
    )
