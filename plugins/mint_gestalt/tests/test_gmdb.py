"""Source `gmdb`: the metadata table with its crops, the published splits, GestaltMML's inference table."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mint_core.errors import ConfigError, DataError
from mint_core.splits import check_samples
from mint_core.testing import TASK_CHECKS
from mint_gestalt.sources import gmdb
from mint_gestalt.sources.options import RareDiseaseOptions
from mint_gestalt.task import RareDisease

COLUMNS = (
    "image_id",
    "patient_id",
    "filename",
    "gene_names",
    "disorder_names",
    "omim_ids",
    "present_features",
    "absent_features",
    "age_year",
    "age_month",
    "gender",
    "ethnicity_category",
    "internal_syndrome_id",
    "internal_syndrome_name",
    "pmid",
)
FIRST = {
    "image_id": 1, "patient_id": 11, "filename": "1.png", "gene_names": "KMT2D", "omim_ids": "147920",
    "present_features": "HP:0000637;HP:0001510", "absent_features": "HP:0001250", "age_year": "3.0", "age_month": "6.0",
    "gender": "male", "ethnicity_category": "European", "internal_syndrome_id": "1.0",
    "internal_syndrome_name": "KABUKI SYNDROME; KS", "pmid": "",
}  # fmt: skip


def row(**changes) -> dict:
    return {**FIRST, **changes}


def read(place: Path, **options):
    return gmdb.read(place, RareDiseaseOptions(source="gmdb", data=place, **options))


def refusal(place: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(place, **options)
    return str(caught.value)


@pytest.fixture
def write(tmp_path):
    """Writes the table and a crop per row, and returns the folder."""

    def write(*rows: dict, crops: str = "crops/{}_aligned.jpg", name: str = "image_metadata_v1.0.9.tsv") -> Path:
        root = tmp_path / "gmdb"
        lines = ["\t".join(COLUMNS)]
        for number, one in enumerate(rows):
            lines.append("\t".join(str(one.get(column, "")) for column in COLUMNS))
            path = root / crops.format(one["image_id"])
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        (root / name).write_text("\n".join(lines), encoding="utf-8")
        return root

    return write


@pytest.fixture
def database(write) -> Path:
    """Three syndromes, five patients each, two faces per patient."""
    syndromes = {"1.0": "KABUKI SYNDROME; KS", "2.0": "Noonan syndrome", "7.0": "Cornelia de Lange syndrome"}
    rows = [
        row(
            image_id=100 * k + 2 * patient + face,
            patient_id=10 * k + patient,
            internal_syndrome_id=number,
            internal_syndrome_name=name,
            omim_ids="",
        )
        for k, (number, name) in enumerate(syndromes.items(), 1)
        for patient in range(5)
        for face in range(2)
    ]
    return write(*rows)


@pytest.mark.parametrize("check", TASK_CHECKS)
def test_the_task_keeps_its_contract(check, database):
    check(RareDisease(RareDisease.Config(source="gmdb", data=database)))


def test_a_face_with_its_facts(write):
    place = write(row())
    reading = read(place)
    case = reading.cases[0]
    assert case.text == (
        "Sex male, age 3 years 6 months, ethnicity European. Phenotypes: Long palpebral fissure, Growth delay."
    )
    assert case.privileged == {"gene": "KMT2D"}
    assert (case.id, case.patient, case.group) == ("1", "patient 11", "patient 11")
    assert case.disease_names == ("KABUKI SYNDROME", "KS")
    assert case.disease_ids == ("GMDB:1", "OMIM:147920")
    assert case.image.path == place / "crops" / "1_aligned.jpg"


def test_the_student_never_gets_the_face(database):
    task = RareDisease(RareDisease.Config(source="gmdb", data=database))
    for sample in task.load().samples:
        assert sample.image is not None
        assert task.inference_prompt(sample.for_student("text"), 2).image is None


def test_all_faces_of_a_patient_stay_together(database):
    data = RareDisease(RareDisease.Config(source="gmdb", data=database, test_fraction=0.4)).load()
    sides = {}
    for sample in data.samples:
        sides.setdefault(sample.group, set()).add(sample.split)
    assert len(sides) == 15
    assert all(len(splits) == 1 for splits in sides.values())
    assert data.facts["patients read"] == 15
    assert data.facts["rows read"] == 30


@pytest.mark.parametrize("cell", ["['KMT2D', 'KDM6A']", "KMT2D;KDM6A", "KMT2D / KDM6A"])
def test_a_list_of_genes(write, cell):
    assert read(write(row(gene_names=cell))).cases[0].privileged == {"gene": "KMT2D, KDM6A"}


def test_labels_are_given_to_patients_not_to_faces(write):
    names = {1: "KABUKI SYNDROME", 2: "Noonan syndrome"}
    rows = [
        row(image_id=3 * patient + face, patient_id=patient, internal_syndrome_id=k, internal_syndrome_name=names[k])
        for patient in range(8)
        for face in range(3)
        for k in [1 + patient % 2]
    ]
    options = {"data": write(*rows), "labelled": 3, "test_fraction": 0.25}
    data = RareDisease(RareDisease.Config(source="gmdb", **options)).load()
    known = {}
    for sample in data.split("train"):
        known.setdefault(sample.group, set()).add(sample.label is not None)
    assert sorted(known.values(), key=str) == [{False}] * 3 + [{True}] * 3
    assert data.facts["training patients with a label"] == 3
    assert data.facts["training patients whose label was taken"] == 3


def test_external_faces_that_were_trained_on_can_be_dropped(database, tmp_path):
    shutil.copytree(database, tmp_path / "again")
    options = {"source": "gmdb", "data": database, "external": tmp_path / "again", "external_name": "again"}
    data = RareDisease(RareDisease.Config(**options, duplicates="drop")).load()
    check_samples(data.samples, data.labels)
    others = {sample.id for sample in data.samples if sample.cohort}
    assert others == {f"again/{sample.id}" for sample in data.split("test") if not sample.cohort}


def test_publications_join_patients(write):
    rows = [
        row(image_id=i, patient_id=patient, pmid=pmid)
        for i, (patient, pmid) in enumerate([(1, "55"), (2, "55"), (1, "")])
    ]
    assert {case.group for case in read(write(*rows), group_by="publication").cases} == {"PMID:55"}


def test_cohorts_are_folders_of_phenopackets(database):
    with pytest.raises(ConfigError, match="take patient or publication here"):
        read(database, group_by="cohort")


def test_missing_facts_and_several_omim_ids(write):
    empty = row(
        gender="unknown", age_year="nan", age_month="", ethnicity_category="Unknown", present_features="NaN",
        gene_names="", omim_ids="147920, PS241550",
    )  # fmt: skip
    reading = read(write(empty))
    assert reading.cases[0].text == "No phenotypes recorded."
    assert reading.cases[0].disease_ids == ("GMDB:1",)
    assert {"without a phenotype", "without an age", "without a sex", "without a gene"} <= set(reading.facts)


def test_crops_may_carry_the_name_in_the_table_or_lie_beside_it(write):
    place = write(row(filename="1.jpg"), crops="{}.jpg")
    assert read(place).cases[0].image.path == place / "1.jpg"


def test_images_are_named_when_they_are_missing(write, tmp_path):
    place = write(row())
    (tmp_path / "empty").mkdir()
    assert "row 2: the image does not exist in empty" in refusal(place, image_folder=tmp_path / "empty")


def tables(root: Path, **ids: str) -> Path:
    for name, text in ids.items():
        (root / f"gmdb_{name}_images_v1.0.9.csv").write_text(text)
    return root


def test_published_splits(database):
    gallery = "image_id,label\n" + "\n".join(f"{100 * k + i},{k}" for k in (1, 2) for i in range(6))
    test = "image_id,label\n" + "\n".join(f"{100 * k + i},{k}" for k in (1, 2) for i in range(6, 10))
    tables(database, frequent_gallery=gallery, frequent_test=test)
    tables(database, rare_gallery="image_id,split\n300,1\n301,2\n", rare_test="image_id,split\n302,1\n303,2\n")
    data = RareDisease(RareDisease.Config(source="gmdb", data=database, gmdb_splits="published")).load()
    assert {s.id for s in data.split("test")} == {"106", "107", "108", "109", "206", "207", "208", "209", "302"}
    assert len(data.split("train")) == 13
    assert data.facts["images left out, the published tables do not name them"] == 8


def test_published_splits_that_are_missing_or_contradict_themselves(database):
    assert "holds no *_gallery_images*.csv" in refusal(database, gmdb_splits="published")
    tables(database, frequent_gallery="image_id\n100\n", frequent_test="image_id\n100\n")
    assert "image '100' stands in a gallery table and in a test table" in refusal(database, gmdb_splits="published")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image_id": "", "filename": "1.png"}, "row 2: the image id is empty"),
        ({"age_year": "PRIVATE"}, "row 2: the age is no number"),
        ({"age_year": "-3"}, "row 2: the age is no number"),
        ({"age_month": "inf"}, "row 2: the age is no number"),
        ({"internal_syndrome_id": "PRIVATE"}, "a column that must hold numbers holds words"),
    ],
)
def test_bad_rows(write, changes, sentence):
    said = refusal(write(row(**changes)))
    assert sentence in said
    assert "PRIVATE" not in said


def test_unknown_terms_are_named(write):
    place = write(row(present_features="HP:9999999;HP:0001510"))
    assert "'HP:9999999' is no term of HPO" in refusal(place, unknown_terms="refuse")
    assert read(place).facts["HPO ids left out, the ontology does not know them"] == 1


def test_the_metadata_must_be_clear(tmp_path, write):
    assert "There is nothing at" in refusal(tmp_path / "absent")
    place = write(row())
    (place / "other_metadata.csv").write_text("x")
    assert "holds 2 tables that could be the metadata" in refusal(place)
    assert len(read(place / "image_metadata_v1.0.9.tsv").cases) == 1


def test_needed_columns(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("image_id,file\n1,a.png\n")
    said = refusal(path)
    assert "has no columns 'filename' and 'present_features' (or 'texts'); did you mean 'file'?" in said
    assert "--set task.columns.image=NAME --set task.columns.phenotypes=NAME" in said
    path.write_text("image_id,filename\n1,a.png\n")
    assert "has no column 'present_features' (or 'texts') (available: filename, image_id)" in refusal(path)


def test_who_the_patient_is_reaches_the_report_alone(write):
    reading = read(write(row(), row(image_id=2, patient_id=12, gender="", age_year="", age_month="")))
    assert reading.subgroups == ("sex", "age", "ethnicity")
    first, second = (case.subgroups for case in reading.cases)
    assert {key: first[key] for key in reading.subgroups} == {
        "sex": "male", "age": "3 years 6 months", "ethnicity": "European"
    }  # fmt: skip
    assert (second.get("sex"), second.get("age")) == (None, None)


# --- the inference table of GestaltMML

TABLE = ",image_id,filename,texts{}\n0,461,461_aligned.jpg,Sex male Age 3 years 6 months Growth delay{}\n"


@pytest.fixture
def inference(tmp_path):
    def inference(text: str) -> Path:
        Image.new("RGB", (8, 8)).save(tmp_path / "461_aligned.jpg")
        (tmp_path / "GestaltMML_input.csv").write_text(text)
        return tmp_path / "GestaltMML_input.csv"

    return inference


def test_the_inference_table(inference):
    reading = read(inference(TABLE.format("", "")))
    case = reading.cases[0]
    assert case.text == "Sex male Age 3 years 6 months Growth delay"
    assert case.image.path.name == "461_aligned.jpg"
    assert case.disease_names == ()
    assert reading.facts == {"rows read": 1, "patients read": 1, "without a disease, for training only": 1}


def test_the_inference_table_with_diseases(inference):
    path = inference(TABLE.format(",disease", ",Growth delay syndrome"))
    assert read(path, columns={"label": "disease"}).cases[0].disease_names == ("Growth delay syndrome",)


def test_the_inference_table_alone_has_nothing_to_rank(inference):
    path = inference(TABLE.format("", ""))
    with pytest.raises(DataError, match="No patient has a disease, so there is nothing to rank"):
        RareDisease(RareDisease.Config(source="gmdb", data=path)).load()
