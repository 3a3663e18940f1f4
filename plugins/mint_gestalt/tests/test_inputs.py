"""New patients: read as in training, and blind for what nobody knows of them."""

import json
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from mint_core.errors import ConfigError, DataError
from mint_core.interfaces import Unreadable
from mint_core.types import Sample
from mint_gestalt.task import RareDisease

STORE = Path(__file__).parents[3].parent / "shared" / "data" / "rare_disease" / "phenopackets.zip"


def read(place: Path, facts: Counter | None = None, **options):
    options = {"source": "phenopackets", "data": place, **options}
    task = RareDisease(RareDisease.Config(**options))
    return list(task.read_inputs(place, Counter() if facts is None else facts))


def refusal(place: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(place, **options)
    return str(caught.value)


def texts(found) -> dict[str, str]:
    return {sample.id: sample.text for sample in found}


# --- phenopackets


def test_new_patients_read_as_in_training(hospital: Path) -> None:
    task = RareDisease(RareDisease.Config(source="phenopackets", data=hospital))
    found = read(hospital)
    assert texts(found) == texts(task.load().samples)
    assert all((one.label, one.privileged, one.image) == (None, {}, None) for one in found)
    for sample in found:
        assert task.inference_prompt(sample, 2) == task.inference_prompt(sample.for_student("text"), 2)


def test_the_answer_in_a_packet_is_not_looked_at(write, packet) -> None:
    known = read(write(packet(), folder="known"))
    unknown = packet(diseases=[], interpretations=[])
    two = packet(diseases=[{"term": {"id": f"OMIM:{number}", "label": "x"}} for number in (1, 2)])
    assert read(write(unknown, folder="unknown")) == known
    assert read(write(two, folder="two")) == known
    assert known[0].text == "Sex female, age 3 years 6 months. Phenotypes: Short philtrum, Seizure."


def test_a_gene_is_read_where_the_student_may_read_it(write, packet) -> None:
    fields = {"student_fields": ("sex", "gene"), "privileged": ()}
    with_disease = read(write(packet(), folder="a"), **fields)
    without = read(write(packet(diseases=[]), folder="b"), **fields)
    assert [one.text for one in (*with_disease, *without)] == ["Sex female, gene GENEA1."] * 2
    assert "GENEA1" not in read(write(packet(), folder="c"))[0].text


def test_an_archive_reads_like_its_folder(hospital: Path, tmp_path: Path) -> None:
    packed = tmp_path / "new.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in hospital.rglob("*.json"):
            archive.write(path, path.relative_to(hospital).as_posix())
    assert read(packed) == read(hospital)
    single = next(iter(sorted(hospital.rglob("*.json"))))
    assert [one.id for one in read(single)] == [single.stem]


def test_a_malformed_packet_is_named_and_the_others_are_read(write, packet) -> None:
    store = write(packet("PMID_1_a"), packet("PMID_2_b"))
    (store / "cohort" / "PMID_1_b.json").write_text("{")
    (store / "cohort" / "PMID_1_c.json").write_text(json.dumps({"id": "x", "metaData": {}, "subject": "SECRET"}))
    (store / "notes.txt").write_text("not read")
    facts: Counter[str] = Counter()
    found = read(store, facts)
    assert [one.id for one in found] == ["PMID_1_a", "cohort/PMID_1_b.json", "cohort/PMID_1_c.json", "PMID_2_b"]
    broken, wrong = found[1:3]
    assert isinstance(broken, Unreadable)
    assert "not valid JSON" in broken.reason
    assert "--on-error skip" in wrong.reason
    assert "SECRET" not in wrong.reason
    assert facts["files of other kinds, not read"] == 1


def test_what_is_left_out_of_a_patient_is_counted(write, packet) -> None:
    features = [{"type": {"id": "HP:9999999"}}, {"type": {"id": "HP:0001250"}}]
    facts: Counter[str] = Counter()
    assert read(write(packet(phenotypicFeatures=features)), facts)[0].text.endswith("Phenotypes: Seizure.")
    assert facts["HPO ids left out, the ontology does not know them"] == 1


@pytest.mark.skipif(not STORE.is_file(), reason="the phenopackets of shared/data are not here")
def test_real_packets() -> None:
    found = read(STORE)
    samples = [one for one in found if isinstance(one, Sample)]
    assert len(samples) > 5000
    assert all(sample.text for sample in samples)


# --- tables


def test_a_table_gives_ids_and_texts_and_nothing_else(tmp_path: Path) -> None:
    table = tmp_path / "notes.csv"
    table.write_text("id,text,label,gene,image\na,Short philtrum.,Alphan syndrome,GENEA1,nowhere.png\nb,Seizure.,,,\n")
    assert read(table, source="csv") == [
        Sample("a", "test", text="Short philtrum."),
        Sample("b", "test", text="Seizure."),
    ]


def test_columns_are_renamed_as_in_training_and_those_of_the_answer_may_be_missing(tmp_path: Path) -> None:
    lines = tmp_path / "notes.jsonl"
    lines.write_text('{"note": "Seizure.", "id": 7}\n{"note": null, "id": 8}\n{"note": "x"}\n{"\n')
    columns = {"text": "note", "label": "diagnosis"}
    found = read(lines, source="jsonl", columns=columns)
    assert found[0] == Sample("7", "test", text="Seizure.")
    assert [type(one) for one in found[1:]] == [Unreadable] * 3
    assert [one.reason.partition(";")[0].partition(": ")[2] or one.reason for one in found[1:3]] == [
        "the text is empty",
        "the id is empty",
    ]
    assert "--set task.columns.text=NAME" in refusal(lines, source="jsonl")


def test_rows_without_ids_are_called_by_their_place(tmp_path: Path) -> None:
    table = tmp_path / "notes.tsv"
    table.write_text("text\nSeizure.\nShort philtrum.\n")
    assert [one.id for one in read(table)] == ["notes.tsv, row 2", "notes.tsv, row 3"]


def test_what_cannot_be_read_at_all(tmp_path: Path) -> None:
    (tmp_path / "letter.docx").write_text("x")
    assert "check the path after --input" in refusal(tmp_path / "nowhere.csv")
    assert "no folder, zip archive or .json" in refusal(tmp_path / "letter.docx")
    assert "holds no .json file" in refusal(tmp_path)
    with pytest.raises(ConfigError):
        RareDisease(RareDisease.Config(source="phenopackets"))
