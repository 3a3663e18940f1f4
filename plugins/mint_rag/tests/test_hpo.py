"""The retriever hpo: passages, scores, index, options."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mint_core.errors import ConfigError, DataError
from mint_core.interfaces import Context
from mint_core.plugin import hpo as the_ontology
from mint_core.testing import RETRIEVER_CHECKS
from mint_core.types import LabelSpace, Sample
from mint_rag import knowledge
from mint_rag.hpo import Hpo, HpoConfig
from mint_rag.similarity import PIVOT, phenotype_scores

METHODS = ("phenotype", "bm25", "fusion")


_BUILT: dict[str, Hpo] = {}
"""Retrievers over the shared indexes: building them is what takes the time."""


def built(context: Context, **options: object) -> Hpo:
    retriever = Hpo(HpoConfig(**options))  # type: ignore[arg-type]
    retriever.context = context
    retriever.build()
    return retriever


@pytest.fixture
def hpo(context):
    """A retriever of given options over the shared indexes."""

    def get(**options: object) -> Hpo:
        key = f"{context.cache} {options}"
        if key not in _BUILT:
            _BUILT[key] = built(context, **options)
        return _BUILT[key]

    return get


@pytest.mark.parametrize("check", RETRIEVER_CHECKS)
def test_contract(check, hpo, patients, labels) -> None:
    check(hpo(), patients, labels)


def test_the_run_record_says_what_was_searched(hpo, labels) -> None:
    """One label of the label space is no disease of OMIM."""
    told = hpo().describe()
    assert told["labels known"] == told["labels"] - 1 == len(labels) - 1
    assert told["passages searched"] > 8000
    assert told["HPO"] == hpo()._known.release


@pytest.mark.parametrize("scope", ["labels", "all"])
@pytest.mark.parametrize("method", METHODS)
def test_the_right_disease_is_first_and_an_unknown_label_is_not_scored(method, scope, hpo, patients, labels) -> None:
    retriever = hpo(method=method, scope=scope)
    scores = retriever.label_scores(patients)
    assert scores is not None
    for patient, row in zip(patients, scores, strict=True):
        assert labels.names[int(row.argmax())] == patient.label
        assert row[labels.index("Alphan disease")] == -np.inf
        assert np.isfinite(row[:-1]).all()


def test_passages_tell_the_disease_its_phenotypes_and_where_they_come_from(hpo, patients) -> None:
    first = hpo(max_phenotypes=4).retrieve(patients)[0][0]
    assert first.source == "OMIM:154700"
    assert first.label == "Marfan syndrome"
    assert first.text.startswith("Marfan syndrome. Phenotypes: ")
    assert first.text.count(",") == 3
    assert first.score > 0


def test_phenotypes_of_a_passage_are_ordered_by_information(hpo) -> None:
    known = hpo()._known
    values = known.information[known.phenotypes(0)]
    assert (np.diff(values) <= 0).all()
    assert known.information.min() >= 0


def test_scope_all_retrieves_diseases_outside_of_the_label_space(hpo, patients) -> None:
    found = hpo(scope="all", top=50, method="phenotype").retrieve(patients)[0]
    assert len(found) == 50
    assert {passage.label for passage in found} >= {None, "Marfan syndrome"}
    scores = [passage.score for passage in found]
    assert scores == sorted(scores, reverse=True)
    inside = hpo(top=50, method="phenotype").retrieve(patients)[0]
    assert all(passage.label for passage in inside)


def test_the_fused_scores_do_not_depend_on_what_may_be_retrieved(hpo, patients) -> None:
    np.testing.assert_array_equal(hpo(scope="all").label_scores(patients), hpo(scope="labels").label_scores(patients))


def test_a_text_without_a_phenotype_finds_nothing(hpo) -> None:
    nobody = Sample("n", "test", text="Sex male, age 3 years. No phenotypes recorded.")
    retriever = hpo(method="phenotype")
    assert retriever.retrieve([nobody]) == [()]
    scores = retriever.label_scores([nobody])
    assert scores is not None
    assert scores[0, :-1].tolist() == [0, 0, 0, 0]


def test_denied_phenotypes_do_not_count(hpo) -> None:
    texts = ["Seizures.", "No arachnodactyly. Seizures."]
    scores = hpo(method="phenotype").label_scores([Sample("s", "test", text=text) for text in texts])
    assert scores is not None
    np.testing.assert_array_equal(scores[0], scores[1])


def test_a_sample_without_text_is_named(hpo) -> None:
    with pytest.raises(DataError, match="Sample 'blind' has no text"):
        hpo().retrieve([Sample("blind", "test")])


def test_labels_that_are_no_diseases_are_refused(cache) -> None:
    with pytest.raises(DataError, match="None of the 2 labels, such as 'Colon'"):
        built(Context(labels=LabelSpace(("Colon", "Liver")), cache=cache))


def test_the_score_is_the_formula(hpo) -> None:
    known = hpo()._known
    asked = [known.names.index(["Arachnodactyly", next(p for n, p in known.names if n == "Arachnodactyly")])]
    above = known.above[known.above_start[asked[0]] : known.above_start[asked[0] + 1]].tolist()
    scores = phenotype_scores(known, asked)
    for disease in (0, 500, int(scores.argmax())):
        has = set()
        for own in known.phenotypes(disease).tolist():
            has |= set(known.above[known.above_start[own] : known.above_start[own + 1]].tolist())
        shared = sum(float(known.information[one]) for one in above if one in has)
        whole = sum(float(known.information[one]) for one in has)
        assert scores[disease] == pytest.approx(shared / whole**PIVOT, rel=1e-4)


def test_information_is_that_of_hpo3(hpo) -> None:
    known = hpo()._known
    for row in range(0, len(known.term_ids), 997):
        term = the_ontology().get_hpo_object(f"HP:{known.term_ids[row]:07d}")
        if term.information_content.omim:
            assert known.information[row] == pytest.approx(term.information_content.omim, abs=5e-3)


# --- index


def test_the_index_is_built_once_and_loaded_again(building, labels, patients) -> None:
    assert building.done > 8000
    assert [name.split("-")[0] for name in building.folders] == ["bm25", "hpo"]
    counts: list[int] = []
    context = Context(labels=labels, cache=building.cache, advance=counts.append)
    again = built(context, method="fusion").label_scores(patients)
    assert counts == []
    np.testing.assert_array_equal(building.scores, again)
    assert {path.name for path in building.cache.iterdir()} >= set(building.folders)


def test_a_damaged_index_is_built_again(hpoa, labels, patients, tmp_path) -> None:
    context = Context(labels=labels, cache=tmp_path / "c")
    first = built(context, phenotype_hpoa=hpoa).label_scores(patients)
    for damaged in ("hpo-*/holder.npy", "bm25-*/data.csc.index.npy"):
        (path,) = context.cache.glob(damaged)
        whole = path.read_bytes()
        for content in (b"\x93NUMPY", whole[:-1] + bytes([whole[-1] ^ 1])):
            path.write_bytes(content)
            np.testing.assert_array_equal(first, built(context, phenotype_hpoa=hpoa).label_scores(patients))
            assert path.read_bytes() == whole


def test_another_release_gets_another_index(hpoa, labels, tmp_path, monkeypatch) -> None:
    context = Context(labels=labels, cache=tmp_path / "c")
    built(context, phenotype_hpoa=hpoa)
    monkeypatch.setattr(knowledge, "identity", lambda: {"hpo3": "99.0"})
    built(context, phenotype_hpoa=hpoa)
    assert sorted(path.name.split("-")[0] for path in context.cache.iterdir()) == ["bm25", "bm25", "hpo", "hpo"]


def test_another_file_of_annotations_gets_another_index(hpoa, labels, tmp_path) -> None:
    context = Context(labels=labels, cache=tmp_path / "c")
    before = built(context, phenotype_hpoa=hpoa)
    hpoa.write_text(hpoa.read_text(encoding="utf-8").replace("Marfan syndrome", "Angelman syndrome"), encoding="utf-8")
    after = built(context, phenotype_hpoa=hpoa)
    assert before._known.diseases != after._known.diseases


def test_a_release_that_is_not_installed_is_refused(context) -> None:
    built(context, release=knowledge.release())
    with pytest.raises(ConfigError, match=r"asks for HPO 1999-01-01, but the installed hpo3 holds 20\d\d"):
        built(context, release="1999-01-01")


def test_nothing_is_left_where_building_fails(labels, tmp_path) -> None:
    broken = tmp_path / "phenotype.hpoa"
    broken.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(DataError):
        built(Context(labels=labels, cache=tmp_path / "cache"), phenotype_hpoa=broken)
    assert list((tmp_path / "cache").iterdir()) == []


# --- files of HPO

HEADER = "\t".join(("database_id", "disease_name", "qualifier", "hpo_id", "reference", "evidence", "onset",
                    "frequency", "sex", "modifier", "aspect", "biocuration"))  # fmt: skip


def row(omim: str, name: str, term: str, frequency: str = "", qualifier: str = "", aspect: str = "P") -> str:
    return "\t".join((omim, name, qualifier, term, "PMID:1", "PCS", "", frequency, "", "", aspect, "HPO:x"))


@pytest.fixture
def hpoa(tmp_path: Path) -> Path:
    rows = [
        row("OMIM:1", "Alphan disease", "HP:0001166", "9/10"),  # arachnodactyly
        row("OMIM:1", "Alphan disease", "HP:0001166", "1/10"),
        row("OMIM:1", "Alphan disease", "HP:0001250", "HP:0040284"),  # seizure
        row("OMIM:1", "Alphan disease", "HP:0000006", aspect="I"),
        row("OMIM:2", "Marfan syndrome", "HP:0001166", "10%"),
        row("OMIM:2", "Marfan syndrome", "HP:0001083", "", "NOT"),  # ectopia lentis
        row("OMIM:2", "Marfan syndrome", "HP:0001250"),
        row("ORPHA:3", "Angelman syndrome", "HP:0001250"),
    ]
    path = tmp_path / "phenotype.hpoa"
    path.write_text("\n".join(["#description: made for a test", HEADER, *rows, ""]), encoding="utf-8")
    return path


def test_a_file_of_annotations_brings_diseases_and_frequencies(hpoa, labels, tmp_path) -> None:
    retriever = built(Context(labels=labels, cache=tmp_path / "c"), method="phenotype", phenotype_hpoa=hpoa)
    known = retriever._known
    assert list(known.diseases) == ["Alphan disease", "Marfan syndrome"]
    told = {name: retriever._told(disease, None) for disease, name in enumerate(known.diseases)}
    assert told["Alphan disease"] == "Alphan disease. Phenotypes: Arachnodactyly (90%), Seizure (3%)."
    assert "Ectopia lentis" not in told["Marfan syndrome"]
    scores = retriever.label_scores([Sample("s", "test", text="Arachnodactyly")])
    assert scores is not None
    assert scores[0, labels.index("Angelman syndrome")] == -np.inf


def test_how_often_a_phenotype_occurs_counts(labels, tmp_path) -> None:
    path = tmp_path / "phenotype.hpoa"
    rows = [row("OMIM:1", "Alphan disease", "HP:0001166", "90%"), row("OMIM:2", "Marfan syndrome", "HP:0001166", "10%")]
    rows += [row(f"OMIM:{n}", "Marfan syndrome", "HP:0001250", "50%") for n in (1, 2, 3)]
    path.write_text("\n".join([HEADER, *rows]), encoding="utf-8")
    retriever = built(Context(labels=labels, cache=tmp_path / "c"), method="phenotype", phenotype_hpoa=path)
    scores = phenotype_scores(
        retriever._known, [n for n, (name, _) in enumerate(retriever._known.names) if name == "Arachnodactyly"]
    )
    assert scores[0] > 2 * scores[1]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\taspect\n1\t2\n", "no columns 'database_id' and .* and 'frequency' .available: a, aspect."),
        (f"{HEADER}\nOMIM:1\tx\n", "phenotype.hpoa:2: 2 cells"),
        (f"{HEADER}\n{row('OMIM:x', 'n', 'HP:0001166')}\n", "phenotype.hpoa:2: the disease has no OMIM number"),
        (f"{HEADER}\n{row('OMIM:1', 'n', 'HP:0001166', 'often')}\n", "phenotype.hpoa:2: the frequency"),
        (f"{HEADER}\n{row('ORPHA:1', 'n', 'HP:0001166')}\n", "holds no disease of OMIM"),
    ],
)
def test_bad_files_of_annotations_are_refused(content, message, labels, tmp_path) -> None:
    path = tmp_path / "phenotype.hpoa"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        built(Context(labels=labels, cache=tmp_path / "c"), phenotype_hpoa=path)


def test_a_file_that_is_not_there_is_named(context) -> None:
    with pytest.raises(ConfigError, match=r"there is no file nowhere\.hpoa"):
        built(context, phenotype_hpoa=Path("nowhere.hpoa"))


OBO = """format-version: 1.2

[Term]
id: HP:0001250
name: Seizure
synonym: "Fits \\"of\\" kinds" EXACT layperson []
synonym: "Electric storm" NARROW []
synonym: "Episode" RELATED []

[Typedef]
id: part_of
synonym: "nothing" EXACT []
"""
GRAPH = """{"graphs": [{"nodes": [{"id": "http://purl.obolibrary.org/obo/HP_0001250", "meta": {"synonyms": [
{"pred": "hasExactSynonym", "val": "Electric storm"}, {"pred": "hasRelatedSynonym", "val": "Episode"}]}},
{"id": "http://purl.obolibrary.org/obo/UBERON_1"}]}]}"""


@pytest.mark.parametrize(("name", "content"), [("hp.obo", OBO), ("hp.json", GRAPH)])
def test_synonyms_of_a_named_file_are_found(name, content, hpo, context, tmp_path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    samples = [Sample("s", "test", text="An electric storm"), Sample("t", "test", text="An episode")]
    assert hpo(method="phenotype").retrieve(samples) == [(), ()]
    found = built(context, method="phenotype", synonyms=tmp_path / name).retrieve(samples)
    assert found[0]
    assert not found[1]


@pytest.mark.parametrize(("name", "content"), [("hp.obo", "nothing"), ("hp.json", "[1]"), ("hp.json", "{")])
def test_bad_files_of_synonyms_are_refused(name, content, context, tmp_path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"name hp\.obo|fetch hp\.json"):
        built(context, method="phenotype", synonyms=tmp_path / name)


def test_results_do_not_depend_on_the_samples_beside(hpo, patients) -> None:
    retriever = hpo()
    whole = retriever.label_scores(patients)
    one = retriever.label_scores([replace(patients[1], id="x")])
    assert whole is not None
    assert one is not None
    np.testing.assert_allclose(whole[1], one[0])
    assert math.isfinite(float(one[0, 0]))
