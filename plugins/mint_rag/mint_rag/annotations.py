"""Reads `phenotype.hpoa`: which phenotypes a disease has, and how often."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mint_core.plugin import DataError, check_columns, read_utf8

COLUMNS = ("database_id", "disease_name", "qualifier", "hpo_id", "frequency", "aspect")
UNKNOWN = 0.5
"""A frequency that nobody wrote down: present in some patients."""
_WORDS = {
    "HP:0040280": 1.0,
    "HP:0040281": 0.9,
    "HP:0040282": 0.55,
    "HP:0040283": 0.17,
    "HP:0040284": 0.025,
    "HP:0040285": 0.0,
}
"""The terms of HPO for frequencies, by the middle of the range that HPO gives them: obligate, very frequent, frequent,
occasional, very rare, excluded."""


@dataclass(slots=True)
class Annotated:
    """A disease with the share of its patients per phenotype."""

    name: str
    phenotypes: dict[str, float] = field(default_factory=dict)
    """Share by HPO id, in [0, 1]."""


def read_annotations(path: Path) -> dict[int, Annotated]:
    """The diseases of OMIM by number.

    Of several rows of one phenotype the highest frequency counts. Negated rows, and rows that are no phenotype (onset,
    inheritance), are left out.

    Args:
        path: `phenotype.hpoa` as HPO releases it: tab-separated, comments in front.

    Raises:
        DataError: It cannot be read, lacks a column, or a row is malformed.
    """
    try:
        text = read_utf8(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text; check retriever.phenotype_hpoa.") from error
    diseases: dict[int, Annotated] = {}
    for number, row in _rows(path, text):
        database, _, identifier = row["database_id"].partition(":")
        if database != "OMIM" or row["qualifier"].upper() == "NOT" or row["aspect"] != "P":
            continue
        if not identifier.isdigit():
            raise DataError(f"{path.name}:{number}: the disease has no OMIM number; fetch the file again.")
        share = _share(row["frequency"])
        if share is None:
            raise DataError(f"{path.name}:{number}: the frequency is not one that HPO uses; mend the row.")
        disease = diseases.setdefault(int(identifier), Annotated(row["disease_name"]))
        disease.phenotypes[row["hpo_id"]] = max(share, disease.phenotypes.get(row["hpo_id"], 0.0))
    if not diseases:
        raise DataError(f"{path.name} holds no disease of OMIM with a phenotype; fetch phenotype.hpoa of HPO.")
    return diseases


def _rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of every row."""
    header: list[str] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or (line.startswith("#") and not line.startswith("#DatabaseID")):
            continue
        cells = line.split("\t")
        if header is None:  # older releases wrote `#DatabaseID DiseaseName … HPO_ID`
            renamed = {"databaseid": "database_id", "diseasename": "disease_name"}
            header = [renamed.get(cell.lstrip("#").lower(), cell.lstrip("#").lower()) for cell in cells]
            check_columns(path.name, header, {(column,): "" for column in COLUMNS}, "fetch phenotype.hpoa of HPO")
            continue
        if len(cells) != len(header):
            raise DataError(f"{path.name}:{number}: {len(cells)} cells where {len(header)} are expected; mend the row.")
        yield number, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}


def _share(frequency: str) -> float | None:
    """`HP:0040281`, `7/13`, `45%`, or nothing -> share; None where it is none of these."""
    if not frequency:
        return UNKNOWN
    if frequency in _WORDS:
        return _WORDS[frequency]
    if match := re.fullmatch(r"(\d+)\s*/\s*(\d+)", frequency):
        affected, patients = int(match[1]), int(match[2])
        return min(affected / patients, 1.0) if patients else UNKNOWN
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", frequency):
        return min(float(match[1]) / 100, 1.0)
    return None
