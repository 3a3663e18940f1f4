"""The one file that talks to hpo3: phenotypes, what lies above them, and the diseases of OMIM, as arrays on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mint_core.plugin import hpo, hpo_in_force, parse_json, read_utf8
from mint_rag.annotations import Annotated, read_annotations

PHENOTYPE = 118
"""HP:0000118, phenotypic abnormality: below it lie the findings, beside it modes of inheritance, onset, frequency."""
_ARRAYS = (
    "information", "above_start", "above", "disease_ids", "own_start", "own", "own_share", "holder_start", "holder",
    "holder_share", "term_ids", "content",
)  # fmt: skip


@dataclass(frozen=True)
class Knowledge:
    """Phenotypes and diseases. Phenotypes are numbered from 0 in the order of their HPO ids, diseases likewise.

    Ragged tables are three arrays in the manner of a compressed sparse row: row r is `values[start[r]:start[r + 1]]`.
    """

    release: str
    """Release date of the ontology."""
    names: Sequence[tuple[str, int]]
    """Names by which a phenotype is found, the names in force first, then those of terms that it replaced."""
    diseases: Sequence[str]
    information: NDArray[np.float32]
    """Information content in nats, shape (n_phenotypes,): -ln of the share of diseases that have it or one below."""
    above_start: NDArray[np.int64]
    above: NDArray[np.int32]
    """Everything at or above a phenotype, up to phenotypic abnormality."""
    disease_ids: NDArray[np.int32]
    """Number in OMIM."""
    own_start: NDArray[np.int64]
    own: NDArray[np.int32]
    """The annotated phenotypes of a disease, the most informative first."""
    own_share: NDArray[np.float32]
    """Share of the patients that have it; NaN where nobody told."""
    holder_start: NDArray[np.int64]
    holder: NDArray[np.int32]
    """The diseases that have a phenotype, or something below it."""
    holder_share: NDArray[np.float32]
    """With which share; 1 where nobody told."""
    term_ids: NDArray[np.int32]
    """Number of each phenotype in HPO, ascending."""
    content: NDArray[np.float32]
    """Sum over everything that a disease has of information content times share, shape (n_diseases,)."""

    def name(self, phenotype: int) -> str:
        """The name in force."""
        return self.names[phenotype][0]

    def phenotypes(self, disease: int) -> NDArray[np.int32]:
        """The annotated phenotypes of a disease, the most informative first."""
        return self.own[self.own_start[disease] : self.own_start[disease + 1]]

    def shares(self, disease: int) -> NDArray[np.float32]:
        """The shares that belong to `phenotypes`."""
        return self.own_share[self.own_start[disease] : self.own_start[disease + 1]]


def identity() -> dict[str, str]:
    """What decides about the ontology without loading it: the version of hpo3, which holds one release."""
    return {"hpo3": version("hpo3")}


def release() -> str:
    """Release date of the installed ontology."""
    return str(hpo().version())


@dataclass(frozen=True, slots=True)
class _Terms:
    """The findings of the ontology, numbered."""

    ids: list[int]
    position: dict[int, int]
    above: list[NDArray[np.int32]]
    names: list[tuple[str, int]]


def build(folder: Path, hpoa: Path | None, advance: Callable[[int], None]) -> None:
    """Writes the arrays of `Knowledge` into a folder.

    Args:
        folder: Empty.
        hpoa: `phenotype.hpoa` whose diseases, phenotypes and frequencies count in place of hpo3's; or None.
        advance: Called with the number of diseases just done.

    Raises:
        DataError: The file of annotations is malformed.
    """
    terms = _findings()
    diseases = _of_omim() if hpoa is None else read_annotations(hpoa)
    known = {number: _resolved(disease, terms.position) for number, disease in sorted(diseases.items())}
    known = {number: shares for number, shares in known.items() if shares}
    closures = []
    for shares in known.values():
        closures.append(_closure(shares, terms.above))
        advance(1)
    arrays = _arrays(terms, list(known), list(known.values()), closures)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    told = {"release": release(), "names": terms.names, "diseases": [diseases[number].name for number in known]}
    (folder / "knowledge.json").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")


def load(folder: Path) -> Knowledge:
    """Reads what `build` wrote; the arrays stay on disk until they are used."""
    told = parse_json(read_utf8(folder / "knowledge.json"))
    mapped = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
    arrays = {name: np.asarray(array) for name, array in mapped.items()}  # still on disk, but faster to take apart
    return Knowledge(told["release"], told["names"], told["diseases"], **arrays)


def numbered(known: Knowledge, names: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Names by phenotype, where they are given by HPO number; those of other terms are left out.

    Args:
        known: The phenotypes.
        names: `("Fits", 1250)`.
    """
    position = {int(number): row for row, number in enumerate(known.term_ids)}
    return [(name, position[number]) for name, number in names if number in position]


@cache
def _findings() -> _Terms:
    """They are the same in one process: hpo3 holds one release."""
    inside, replaced = {}, []
    for term in hpo():
        if term.is_obsolete:
            target = term.replaced_by
            if target:
                number = int(str(getattr(target, "id", target)).removeprefix("HP:"))
                replaced.append((str(term.name).removeprefix("obsolete "), number))
            continue
        above = {_number(parent.id) for parent in term.all_parents} | {_number(term.id)}
        if PHENOTYPE in above:
            inside[_number(term.id)] = (str(term.name), above)
    ids = sorted(inside)
    position = {number: row for row, number in enumerate(ids)}
    closures = [sorted(position[one] for one in inside[number][1] if one in position) for number in ids]
    names = [(inside[number][0], position[number]) for number in ids]
    names += [(name, position[number]) for name, number in sorted(replaced) if number in position]
    return _Terms(ids, position, [np.array(rows, np.int32) for rows in closures], names)


def _number(term_id: str) -> int:
    return int(term_id.removeprefix("HP:"))


def _of_omim() -> dict[int, Annotated]:
    shares = float("nan")
    return {
        int(disease.id): Annotated(str(disease.name), {f"HP:{int(term):07d}": shares for term in disease.hpo})
        for disease in hpo().omim_diseases
    }


def _resolved(disease: Annotated, position: Mapping[int, int]) -> dict[int, float]:
    """Share by phenotype, without terms that the ontology does not know, that are no findings, or that never occur."""
    found: dict[int, float] = {}
    for term_id, share in disease.phenotypes.items():
        row = position.get(_in_force(term_id))
        if row is not None and share != 0:
            found[row] = share if row not in found else float(np.fmax(share, found[row]))
    return found


def _in_force(term_id: str) -> int:
    """Number of a term, or of the one that replaced it; -1 where the ontology knows neither."""
    known = hpo_in_force(term_id)
    return _number(known) if known else -1


def _closure(shares: Mapping[int, float], above: Sequence[NDArray[np.int32]]) -> dict[int, float]:
    """Share of everything that a disease has: the largest of what lies at or below it; 1 where nobody told."""
    closure: dict[int, float] = {}
    for phenotype, share in shares.items():
        weight = 1.0 if np.isnan(share) else share
        for one in above[phenotype].tolist():
            closure[one] = max(weight, closure.get(one, 0.0))
    return closure


def _arrays(
    terms: _Terms, ids: Sequence[int], shares: Sequence[Mapping[int, float]], closures: Sequence[Mapping[int, float]]
) -> dict[str, NDArray[Any]]:
    phenotype = np.fromiter((one for closure in closures for one in closure), np.int32)
    weight = np.fromiter((share for closure in closures for share in closure.values()), np.float32)
    disease = np.repeat(np.arange(len(ids), dtype=np.int32), [len(closure) for closure in closures])
    held = np.bincount(phenotype, minlength=len(terms.ids))
    information = np.log(len(ids) / np.maximum(held, 1)).astype(np.float32)
    order = np.lexsort((disease, phenotype))
    own = [sorted(rows, key=lambda one: (-information[one], one)) for rows in shares]
    return {
        "information": information,
        "above_start": _starts(len(rows) for rows in terms.above),
        "above": np.concatenate(terms.above),
        "disease_ids": np.array(ids, np.int32),
        "own_start": _starts(map(len, own)),
        "own": np.fromiter((one for rows in own for one in rows), np.int32),
        "own_share": np.fromiter(
            (share[one] for rows, share in zip(own, shares, strict=True) for one in rows), np.float32
        ),
        "holder_start": _starts(held),
        "holder": disease[order],
        "holder_share": weight[order],
        "term_ids": np.array(terms.ids, np.int32),
        "content": np.bincount(disease, information[phenotype] * weight, len(ids)).astype(np.float32),
    }


def _starts(lengths: Iterable[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(list(lengths))]).astype(np.int64)
