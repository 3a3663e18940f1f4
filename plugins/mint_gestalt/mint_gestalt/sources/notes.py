"""Sources `csv` and `jsonl`: one patient per row, with a text that somebody wrote and the name of the disease."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path

from mint_core.plugin import (
    ConfigError,
    DataError,
    Row,
    Sample,
    Table,
    Unreadable,
    head_of,
    names_of,
    split_of,
    usual_subgroups,
)
from mint_gestalt.sources.cases import Case, Reading, disease_of, publication_of, read_each
from mint_gestalt.sources.options import RareDiseaseOptions
from mint_gestalt.sources.tables import face_at, read_table

FIELDS = {
    name: name for name in ("id", "text", "label", "disease_id", "patient", "publication", "group", "split", "image")
}


def recognises(place: Path, options: RareDiseaseOptions, *, lines: bool) -> bool:
    """Whether a table with columns for text and label lies there: JSON lines, or none."""
    head = head_of(place)
    return head.lines == lines and {options.columns.get(name, name) for name in ("text", "label")} <= head.columns


def read(place: Path, options: RareDiseaseOptions) -> Reading:
    """Reads a table of clinical notes.

    Args:
        place: A `.csv`, `.tsv` or `.jsonl` file.
        options: `columns`, `privileged`, `group_by`, `image_folder` and `on_error` count.

    Raises:
        ConfigError: The disease itself, or another field of mint, is privileged, or `group_by` is `cohort`.
        DataError: A column is missing, a row is malformed and `on_error` is `fail`, or a patient is in two splits.
    """
    if place.is_dir():
        raise DataError(f"{place} is a folder; name the file with the notes after --data.")
    if options.group_by == "cohort" and place == options.data:
        raise ConfigError("task.group_by=cohort means the folders of phenopackets; take patient or publication here.")
    for field in ("label", "disease_id"):
        if options.columns.get(field, field) in options.privileged:
            raise ConfigError(
                f"task.privileged names the column of the field '{field}', which is the answer; take it out."
            )
    for name in options.privileged:
        if name in FIELDS:
            raise ConfigError(
                f"task.privileged names '{name}', which mint reads as a field of its own; give the column another name."
            )
    # A second data set need not have every column of the first, and nobody asked for the default ones, which a run that
    # is made again from its record names too.
    asked = options.privileged != RareDiseaseOptions.model_fields["privileged"].default and place == options.data
    must = options.privileged if asked else ()
    table = read_table(place, FIELDS, options, options.privileged, must, needed=[("text",), ("label",)])
    facts: Counter[str] = Counter({"rows read": len(table.rows)})
    cases = _whole_patients(read_each(table.rows, attrgetter("where"), partial(_case, table, options), options, facts))
    return Reading(cases, facts, f"notes at {place.name}", usual_subgroups(table.named))


def read_new(place: Path, options: RareDiseaseOptions) -> Iterator[Sample | Unreadable]:
    """Reads notes of patients whose disease nobody knows: the columns `id` and `text`, and no other.

    Args:
        place: A `.csv`, `.tsv` or `.jsonl` file.
        options: `columns` renames.

    Yields:
        Samples in the order of the rows, and rows that are malformed.

    Raises:
        DataError: The file cannot be read, or has no column for the text.
    """
    fields = {name: FIELDS[name] for name in ("id", "text")}
    renamed = {field: column for field, column in options.columns.items() if field in fields}
    table = read_table(place, fields, options.model_copy(update={"columns": renamed}), needed=[("text",)])
    for row in table.rows:
        try:
            one: Sample | Unreadable = _new(table, row)
        except DataError as error:
            one = Unreadable(row.where, str(error))
        yield one


def _new(table: Table, row: Row) -> Sample:
    text = _written(row)
    return Sample(_own_id(table, row), "test", text=text)


def _written(row: Row) -> str:
    """The text of a row.

    Raises:
        DataError: The row is malformed, or has none.
    """
    if row.problem:
        raise DataError(row.problem)
    if "text" not in row.cells:
        raise DataError(f"{row.where}: the text is empty; fill it or delete the row.")
    return row.cells["text"]


def _own_id(table: Table, row: Row) -> str:
    """The id of a row, or where it stands in a table without ids.

    Raises:
        DataError: It is empty.
    """
    if "id" in table.columns and "id" not in row.cells:
        raise DataError(f"{row.where}: the id is empty; fill it, or leave the id column out.")
    return row.cells.get("id", row.where)


def _case(table: Table, options: RareDiseaseOptions, row: Row, facts: Counter[str]) -> Case:
    text, own_id, cells = _written(row), _own_id(table, row), row.cells
    split = split_of(cells.get("split", ""), row.where) if "split" in table.columns else None
    disease = disease_of(cells.get("label", ""), names_of(cells.get("disease_id", ""))[:1], facts)
    if not disease.names:
        if split in ("val", "test"):
            raise DataError(f"{row.where}: the label is empty in split '{split}'; fill it, or move the row to train.")
        facts["without a disease, for training only"] += 1
    for name in options.privileged:
        if name not in cells:
            facts[f"without {name}"] += 1
    patient = cells.get("patient", own_id)
    publication = publication_of(cells["publication"]) if "publication" in cells else None
    root = (options.image_folder or table.path.parent).resolve()
    return Case(
        where=row.where,
        id=own_id,
        patient=patient,
        publication=publication,
        group=_group(cells.get("group"), publication, patient, options),
        disease_ids=disease.ids,
        disease_names=disease.names,
        text=text,
        free_text=True,
        privileged={name: cells[name] for name in options.privileged if name in cells},
        image=face_at(row, cells["image"], root, options) if "image" in cells else None,
        split=split,
        subgroups=row.others,
    )


def _group(given: str | None, publication: str | None, patient: str, options: RareDiseaseOptions) -> str:
    if options.group_by == "patient":
        return patient
    if options.group_by == "publication":
        return publication or patient
    return given or publication or patient


def _whole_patients(cases: Sequence[Case]) -> list[Case]:
    """All rows of a patient with one group and a publication; groups that a patient ties together are one.

    Raises:
        DataError: The rows of a patient lie in two splits.
    """
    rows: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        rows[case.patient].append(case)
        first = rows[case.patient][0]
        if case.split != first.split:
            raise DataError(
                f"{case.where}: patient '{case.patient}' is in split '{case.split}' here and in '{first.split}' in "
                f"{first.where}; put all rows of a patient into one split."
            )
    group_of = _tied([{case.group for case in own} for own in rows.values()], set(rows))
    publication_of_patient = {
        patient: min((case.publication for case in own if case.publication), default=None)
        for patient, own in rows.items()
    }
    return [
        replace(
            case,
            group=group_of[case.group],
            publication=case.publication or publication_of_patient[case.patient],
        )
        for case in cases
    ]


def _tied(ties: Sequence[set[str]], patients: set[str]) -> dict[str, str]:
    """One name per group: the least of those it is tied to, rather a group's or publication's than a patient's."""
    joined: dict[str, set[str]] = {}
    for tie in ties:
        whole = tie.union(*(joined[name] for name in tie if name in joined))
        joined.update(dict.fromkeys(whole, whole))
    return {name: min(whole, key=lambda one: (one in patients, one)) for name, whole in joined.items()}
