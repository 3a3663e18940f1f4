"""Source `gmdb`: the table of the GestaltMatcher Database with aligned faces, or GestaltMML's inference table."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path

from mint_core.plugin import ConfigError, DataError, ImageRef, Row, Split, check_columns, head_of
from mint_gestalt.clinical import Patient
from mint_gestalt.sources.ages import in_words
from mint_gestalt.sources.cases import (
    Case,
    Feature,
    Findings,
    Reading,
    disease_of,
    present_terms,
    publication_of,
    read_each,
    subgroups_of,
    told,
)
from mint_gestalt.sources.options import RareDiseaseOptions
from mint_gestalt.sources.tables import face_at, read_table

FIELDS = {
    "id": "image_id",
    "patient": "patient_id",
    "image": "filename",
    "label": "internal_syndrome_name",
    "disease_id": "internal_syndrome_id",
    "omim": "omim_ids",
    "phenotypes": "present_features",
    "years": "age_year",
    "months": "age_month",
    "sex": "gender",
    "ethnicity": "ethnicity_category",
    "gene": "gene_names",
    "publication": "pmid",
    "text": "texts",
}
_EMPTY = frozenset({"nan", "none", "unknown", "[]", "other", "others", "na", "n/a", "-"})
_SEXES = {"male": "male", "m": "male", "female": "female", "f": "female"}
_OLDEST = 130
_LEFT_OUT = "images left out, the published tables do not name them"


@dataclass(frozen=True, slots=True)
class _Beside:
    """What a row alone does not tell."""

    faces: Path
    splits: Mapping[str, Split]
    """By image id, where they are published."""
    publications: Mapping[str, str]
    """By patient id."""


def recognises(place: Path, options: RareDiseaseOptions) -> bool:
    """Whether the metadata table lies there, or the inference table: ids, names of images, and phenotypes or texts."""
    try:
        columns = head_of(_metadata(place)).columns
    except (DataError, OSError):
        return False
    id_, image, phenotypes, text = (options.columns.get(f, FIELDS[f]) for f in ("id", "image", "phenotypes", "text"))
    return {id_, image} <= columns and bool({phenotypes, text} & columns)


def read(place: Path, options: RareDiseaseOptions) -> Reading:
    """Reads one face per row; a patient may have several.

    Args:
        place: The metadata table (`.tsv` or `.csv`), the inference table (image_id, filename, texts), or the folder
            that holds one of them.
        options: `columns`, `image_folder`, `gmdb_splits`, `student_fields`, `privileged`, `group_by`, `unknown_terms`
            and `on_error` count.

    Raises:
        ConfigError: `group_by` is `cohort`.
        DataError: There is no such table, a column is missing, or a row is malformed and `on_error` is `fail`.
    """
    if options.group_by == "cohort" and place == options.data:
        raise ConfigError("task.group_by=cohort means the folders of phenopackets; take patient or publication here.")
    path = _metadata(place)
    needed = [("id",), ("image",), ("phenotypes", "text")]
    table = read_table(path, FIELDS, options, needed=needed, known_words=True)
    facts: Counter[str] = Counter({"rows read": len(table.rows)})
    splits = published_splits(path.parent, options) if options.gmdb_splits == "published" else None
    rows = [row for row in table.rows if splits is None or row.problem or row.cells.get("id") in splits]
    if len(rows) < len(table.rows):
        facts[_LEFT_OUT] += len(table.rows) - len(rows)
    faces = _faces(path.parent, rows, options)
    beside = _Beside(faces, splits or {}, _publications(rows))
    cases = read_each(rows, attrgetter("where"), partial(_case, options, beside), options, facts)
    return Reading(cases, facts, f"GMDB at {path.name}", ("sex", "age", "ethnicity"))


def _metadata(place: Path) -> Path:
    if place.is_file():
        return place
    if not place.is_dir():
        raise DataError(f"There is nothing at {place}; check the path after --data.")
    tables = sorted(path for path in place.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
    wanted = [path for path in tables if "metadata" in path.name.lower()] or [
        path for path in tables if not re.search("gallery|test", path.name.lower())
    ]
    if len(wanted) != 1:
        raise DataError(
            f"{place} holds {len(wanted)} tables that could be the metadata; name the right file with --data, for "
            "example image_metadata_v1.0.9.tsv."
        )
    return wanted[0]


def _faces(folder: Path, rows: Sequence[Row], options: RareDiseaseOptions) -> Path:
    """Where the crops lie: as told, beside the table, or in the sub-folder that holds the first of them."""
    if options.image_folder is not None:
        return options.image_folder.resolve()
    first = next((row.cells for row in rows if {"id", "image"} <= row.cells.keys()), None)
    names = (_aligned(first["id"]), first["image"]) if first else ()
    folders = [folder, *sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))]
    return next((path for path in folders if any((path / name).is_file() for name in names)), folder).resolve()


def _aligned(image_id: str) -> str:
    return f"{Path(image_id).name}_aligned.jpg"


def published_splits(folder: Path, options: RareDiseaseOptions) -> dict[str, Split]:
    """Split by image id: the gallery tables are train, the test tables test; of several folds the first counts.

    Args:
        folder: Where `gmdb_*_gallery_images_*.csv` and `gmdb_*_test_images_*.csv` lie.
        options: Handed to the reader of tables.

    Raises:
        DataError: A table is missing, or an image stands in both.
    """
    plain = options.model_copy(update={"columns": {}})
    splits: dict[str, Split] = {}
    kinds: tuple[tuple[str, Split], ...] = (("gallery", "train"), ("test", "test"))
    for kind, split in kinds:
        paths = sorted(folder.glob(f"*_{kind}_images*.csv"))
        if not paths:
            raise DataError(
                f"{folder} holds no *_{kind}_images*.csv; put it there, or use --set task.gmdb_splits=mint."
            )
        for path in paths:
            table = read_table(path, {"id": "image_id", "split": "split"}, plain)
            check_columns(path.name, table.named, {("image_id",): ""})
            for row in table.rows:
                name = row.cells.get("id")
                if row.problem or name is None:
                    raise DataError(row.problem or f"{row.where}: the image_id is empty; mend the table.")
                if _number(row.cells.get("split", "1")) != 1:
                    continue
                if splits.setdefault(name, split) != split:
                    raise DataError(f"{row.where}: image '{name}' stands in a gallery table and in a test table.")
    return splits


def _publications(rows: list[Row]) -> dict[str, str]:
    """One publication per patient, the least by name, so that two faces of a patient are never parted."""
    found: dict[str, str] = {}
    for row in rows:
        patient, publication = row.cells.get("patient"), publication_of(row.cells.get("publication", ""))
        if patient and publication:
            found[patient] = min(publication, found.get(patient, publication))
    return found


def _case(options: RareDiseaseOptions, beside: _Beside, row: Row, facts: Counter[str]) -> Case:
    if row.problem:
        raise DataError(row.problem)
    cells = {field: value for field, value in row.cells.items() if value.lower() not in _EMPTY}
    if "id" not in cells:
        raise DataError(f"{row.where}: the image id is empty; fill it or delete the row.")
    split = beside.splits.get(cells["id"])
    disease = disease_of(cells.get("label", ""), _ids(cells), facts)
    if not disease.names:
        if split in ("val", "test"):
            raise DataError(f"{row.where}: the disease is empty in split '{split}'; fill it, or take the row out.")
        facts["without a disease, for training only"] += 1
    patient = f"patient {cells['patient']}" if "patient" in cells else cells["id"]
    publication = beside.publications.get(cells.get("patient", ""))
    text, privileged = _told(row, cells, options, facts)
    sex = _SEXES.get(cells.get("sex", "").lower())
    return Case(
        where=row.where,
        id=cells["id"],
        patient=patient,
        publication=publication,
        group=(publication or patient) if options.group_by == "publication" else patient,
        disease_ids=disease.ids,
        disease_names=disease.names,
        text=text,
        free_text="text" in cells,
        privileged=privileged,
        image=_face(row, cells, beside.faces, options, facts),
        split=split,
        subgroups={
            **row.others,
            **subgroups_of(sex=sex, age=_age(row, cells), ethnicity=cells.get("ethnicity")),
        },
    )


def _told(
    row: Row, cells: Mapping[str, str], options: RareDiseaseOptions, facts: Counter[str]
) -> tuple[str, dict[str, str]]:
    features = [Feature(one) for one in re.findall(r"(?i)(?<![^\W_])HPO?[:_]?\d+", cells.get("phenotypes", ""))]
    written = "text" in cells and "phenotypes" not in options.privileged  # nobody reads the terms
    known = Patient(
        sex=_SEXES.get(cells.get("sex", "").lower()),
        age=_age(row, cells),
        ethnicity=cells.get("ethnicity"),
        phenotypes=(Findings([]) if written else present_terms(row.where, features, options, facts)).names,
        gene=", ".join(re.findall(r"[^\[\]'\",;/|\s]+", cells.get("gene", ""))) or None,
    )
    met: Counter[str] = Counter()
    text, privileged = told(known, options, met)
    if "text" in cells:  # the inference table says everything in one text
        return cells["text"], privileged
    facts.update(met)
    return text, privileged


def _age(row: Row, cells: Mapping[str, str]) -> str | None:
    if "years" not in cells and "months" not in cells:
        return None
    try:
        years, months = float(cells.get("years", 0)), float(cells.get("months", 0))
    except ValueError:
        years = months = math.nan
    if not (0 <= years <= _OLDEST and 0 <= months <= 12 * _OLDEST):  # also true of NaN
        raise DataError(f"{row.where}: the age is no number of years and months that a person lives; mend it.")
    return in_words(years, months)


def _ids(cells: Mapping[str, str]) -> tuple[str, ...]:
    """The database's own id, and the OMIM id where there is exactly one."""
    own = (f"GMDB:{_number(cells['disease_id']):g}",) if "disease_id" in cells else ()
    omim = re.findall(r"(?<![\w])\d{6}(?!\d)", cells.get("omim", ""))
    return (*own, f"OMIM:{omim[0]}") if len(omim) == 1 and "PS" not in cells["omim"] else own


def _number(text: str) -> float:
    """A whole number, which pandas writes as 1.0 where a column has gaps."""
    try:
        return float(text)
    except ValueError:
        raise DataError("a column that must hold numbers holds words; check the table's columns.") from None


def _face(
    row: Row, cells: Mapping[str, str], faces: Path, options: RareDiseaseOptions, facts: Counter[str]
) -> ImageRef | None:
    """The aligned crop, `461_aligned.jpg`, or else the file that the table names."""
    aligned = _aligned(cells["id"])
    name = aligned if (faces / aligned).is_file() else cells.get("image")
    if name is None:
        facts["without a face"] += 1
        return None
    return face_at(row, name, faces, options)
