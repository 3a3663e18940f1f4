"""Source `phenopackets`: what is read, what is counted, and the sentences for what is not as it must be."""

import json
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from mint_core.errors import DataError, MintError
from mint_core.plugin import Unreadable
from mint_core.testing import TASK_CHECKS
from mint_gestalt.sources import phenopackets
from mint_gestalt.sources.ages import from_duration
from mint_gestalt.sources.cases import publication_of
from mint_gestalt.sources.options import RareDiseaseOptions
from mint_gestalt.task import RareDisease

STORE = Path(__file__).parents[3].parent / "shared" / "data" / "rare_disease" / "phenopackets.zip"


def read(place: Path, **options):
    return phenopackets.read(place, RareDiseaseOptions(source="phenopackets", data=place, **options))


def case_of(write, packet, **options):
    return read(write(packet), **options).cases[0]


def refusal(place: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(place, **options)
    return str(caught.value)


# --- what is read


def test_a_patient(write, packet):
    case = case_of(write, packet())
    assert case.text == "Sex female, age 3 years 6 months. Phenotypes: Short philtrum, Seizure."
    assert (case.id, case.group, case.publication) == ("PMID_1_a", "PMID:1", "PMID:1")
    assert (case.disease_ids, case.disease_names) == (("OMIM:900001",), ("Alphan syndrome",))
    assert case.privileged == {"gene": "GENEA1"}


def test_who_the_patient_is_reaches_the_report_alone(hospital):
    data = RareDisease(RareDiseaseOptions(source="phenopackets", data=hospital)).load()
    assert data.subgroups == ("sex", "age")  # the folder is often the gene, so it is reported where it is named
    sample = data.samples[0]
    assert sample.subgroups == {"sex": "female", "age": "3 years 6 months", "cohort": "cohort"}
    assert sample.for_student("text").subgroups == sample.for_teacher().subgroups == {}


def test_excluded_features_are_absent_and_counted(write, packet):
    features = [
        {"type": {"id": "HP:0000322", "label": "Short philtrum"}, "excluded": True},
        {"type": {"id": "HP:0001250", "label": "Seizure"}, "excluded": False},
    ]
    reading = read(write(packet(phenotypicFeatures=features)))
    assert reading.cases[0].text.endswith("Phenotypes: Seizure.")
    assert reading.facts["excluded features, not told"] == 1


def test_a_patient_with_nothing_but_excluded_features_is_counted(write, packet):
    features = [{"type": {"id": "HP:0001250", "label": "Seizure"}, "excluded": True}]
    reading = read(write(packet(phenotypicFeatures=features)))
    assert reading.cases[0].text == "Sex female, age 3 years 6 months. No phenotypes recorded."
    assert reading.facts["without a phenotype"] == 1


def test_obsolete_ids_are_replaced_and_each_term_stands_once(write, packet):
    features = [{"type": {"id": term}} for term in ("HP:0000057", "HP:0008665", "HP:0001250")]
    reading = read(write(packet(phenotypicFeatures=features)))
    assert reading.cases[0].text.endswith("Phenotypes: Clitoral hypertrophy, Seizure.")
    assert reading.facts["obsolete HPO ids replaced"] == 1


def test_unknown_ids_are_counted_or_refused(write, packet):
    features = [{"type": {"id": term}} for term in ("HP:9999999", "HP:12", "Seizure", "HP:0001250")]
    store = write(packet(phenotypicFeatures=features))
    reading = read(store)
    assert reading.cases[0].text.endswith("Phenotypes: Seizure.")
    assert reading.facts["HPO ids left out, the ontology does not know them"] == 3
    assert "PMID_1_a.json: 'HP:9999999' is no term of HPO" in refusal(store, unknown_terms="refuse")


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        ("P4Y6M", "4 years 6 months"),
        ("P1Y", "1 year"),
        ("P18M", "1 year 6 months"),
        ("P3W", "3 weeks"),
        ("P2M10D", "2 months 10 days"),
        ("P4Y0M3D", "4 years 3 days"),
        ("P0.5Y", "6 months"),
        ("P0D", "newborn"),
        ("PT12H", "newborn"),
    ],
)
def test_ages_as_durations(duration, words):
    assert from_duration(duration) == words


@pytest.mark.parametrize("duration", ["", "P", "4Y", "P-4Y", "P4X", "4 years"])
def test_what_is_no_duration(duration):
    with pytest.raises(DataError, match="not an ISO-8601 duration"):
        from_duration(duration)


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ({"ageRange": {"start": {"iso8601duration": "P4Y"}, "end": {"iso8601duration": "P6Y"}}}, "4 years to 6 years"),
        ({"gestationalAge": {"weeks": 22, "days": 2}}, "22 weeks 2 days of gestation"),
        ({"ontologyClass": {"id": "HP:0003593", "label": "Infantile onset"}}, "infantile"),
        ({"ontologyClass": {"id": "NCIT:C16731", "label": "Newborn"}}, "newborn"),
    ],
)
def test_other_ages(write, packet, time, words):
    subject = {"id": "a", "sex": "MALE", "timeAtLastEncounter": time}
    assert case_of(write, packet(subject=subject)).text.startswith(f"Sex male, age {words}. ")


@pytest.mark.parametrize(
    "subject",
    [{"id": "a"}, {"id": "a", "sex": "UNKNOWN_SEX", "timeAtLastEncounter": {"timestamp": "2020-01-01T00:00:00Z"}}],
)
def test_missing_facts_are_left_out_and_counted(write, packet, subject):
    reading = read(write(packet(subject=subject, interpretations=[])))
    assert reading.cases[0].text == "Phenotypes: Short philtrum, Seizure."
    assert reading.cases[0].privileged == {}
    assert [reading.facts[f"without {what}"] for what in ("a sex", "an age", "a gene")] == [1, 1, 1]


def test_fields_are_parted_as_the_options_say(write, packet):
    case = case_of(write, packet(), student_fields=("age", "gene"), privileged=("sex", "phenotypes"))
    assert case.text == "Age 3 years 6 months, gene GENEA1."
    assert case.privileged == {"sex": "female", "phenotypes": "Short philtrum, Seizure"}


def test_only_causal_genes_count(write, packet):
    one = packet()
    genomic = one["interpretations"][0]["diagnosis"]["genomicInterpretations"]
    genomic.append({"interpretationStatus": "REJECTED", "gene": {"valueId": "HGNC:2", "symbol": "GENEX9"}})
    genomic.append({"interpretationStatus": "CONTRIBUTORY", "gene": {"valueId": "HGNC:3", "symbol": "GENEY8"}})
    assert case_of(write, one).privileged == {"gene": "GENEA1, GENEY8"}


def test_genes_of_another_disease_that_was_looked_for_in_vain_do_not_count(write, packet):
    one, other = packet(), packet(disease="OMIM:900002")["interpretations"][0]
    one["interpretations"].append({**other, "progressStatus": "UNSOLVED"})
    assert case_of(write, one).privileged == {"gene": "GENEA1"}
    one["interpretations"][1]["progressStatus"] = "SOLVED"
    assert case_of(write, one).privileged == {"gene": "GENEA1, GENEB2"}
    one["interpretations"] = [{**one["interpretations"][0], "progressStatus": "UNSOLVED"}]
    assert case_of(write, one).privileged == {"gene": "GENEA1"}


def test_subjects_that_are_called_proband_are_not_one_patient(write, packet):
    unpublished = {"metaData": {"phenopacketSchemaVersion": "2.0"}}
    store = write(
        *(packet(f"own_{i}", subject={"id": "Proband" if i < 3 else "II-1"}, **unpublished) for i in range(5))
    )
    assert [case.patient for case in read(store).cases] == ["own_0", "own_1", "own_2", "cohort/II-1", "cohort/II-1"]


def test_excluded_diseases_do_not_count(write, packet):
    ruled_out = {"term": {"id": "OMIM:900002", "label": "Betan syndrome"}, "excluded": True}
    named = packet()
    named["diseases"].append(ruled_out)
    assert case_of(write, named).disease_ids == ("OMIM:900001",)
    assert case_of(write, packet("PMID_0_b", diseases=[])).disease_ids == ("OMIM:900001",)  # from the interpretation


def test_groups(write, packet):
    subject = {"id": "II-1"}
    store = write(packet("PMID_1_a", subject=subject), packet("PMID_2_b", subject=subject), cohort="KMT2D")
    groups = {
        by: [case.group for case in read(store, group_by=by).cases] for by in ("publication", "patient", "cohort")
    }
    assert groups["publication"] == ["PMID:1", "PMID:2"]
    assert groups["patient"] == ["PMID:1/II-1", "PMID:2/II-1"]
    assert groups["cohort"] == ["KMT2D", "KMT2D"]


def test_publications_come_from_references_or_the_id(write, packet):
    about = {"phenopacketSchemaVersion": "2.0"}
    unpublished = {**about, "externalReferences": []}
    other = {**about, "externalReferences": [{"id": "DOI:10.1/x"}, {"id": "PMID:77"}]}
    store = write(
        packet("PMID_5_a", metaData=unpublished),
        packet("own_6_b", metaData=unpublished),
        packet("own_7_c", metaData=other),
    )
    reading = read(store)
    assert [case.publication for case in reading.cases] == ["PMID:5", None, "PMID:77"]
    assert reading.facts["without a publication, grouped by patient"] == 1


@pytest.mark.parametrize(
    "reference",
    [
        "PMID_10874631_II.2",
        "pmid: 10874631",
        "10874631",
        "10874631.0",
        "https://pubmed.ncbi.nlm.nih.gov/10874631/",
        "http://www.ncbi.nlm.nih.gov/pubmed/10874631?x=1",
        "pubmed.ncbi.nlm.nih.gov/10874631",
    ],
)
def test_spellings_of_a_publication(reference):
    assert publication_of(reference) == "PMID:10874631"


def test_other_publications_stay_as_they_are():
    assert [publication_of(name) for name in ("DOI:10.1/x", "Lee 2020", " ")] == ["DOI:10.1/x", "Lee 2020", None]


def test_snake_case_numbers_and_nulls_of_protobuf(write, packet):
    one = packet(
        subject={"id": 7, "sex": 2, "time_at_last_encounter": {"age": {"iso8601duration": "P2Y"}}}, diseases=None
    )
    one["phenotypic_features"] = one.pop("phenotypicFeatures")
    assert case_of(write, one).text == "Sex male, age 2 years. Phenotypes: Short philtrum, Seizure."


# --- archives and folders


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def content(packet) -> bytes:
    return json.dumps(packet).encode()


def test_a_zip_archive_reads_as_its_folder_does(hospital, tmp_path):
    files = {p.relative_to(hospital).as_posix(): p.read_bytes() for p in hospital.rglob("*.json")}
    packed = read(zipped(tmp_path / "store.zip", files))
    loose = read(hospital)
    assert packed.cases == loose.cases
    assert packed.facts == loose.facts
    assert len(packed.cases) == 40


def test_other_files_are_counted_never_dropped_in_silence(write, packet, tmp_path):
    store = write(packet())
    (store / "README.md").write_text("about")
    (store / "._PMID.json").write_text("leftover")
    assert read(store).facts["files of other kinds, not read"] == 2
    files = {"a/1.json": content(packet()), "__MACOSX/a/1.json": b"x", "LICENSE": b"x"}
    assert read(zipped(tmp_path / "s.zip", files)).facts["files of other kinds, not read"] == 2


def test_nothing_of_an_archive_is_written_anywhere(packet, tmp_path):
    inside = tmp_path / "data"
    inside.mkdir()
    store = zipped(
        inside / "store.zip", {"../../evil.json": content(packet()), "/etc/evil.json": content(packet("PMID_2_b"))}
    )
    assert len(read(store).cases) == 2
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["data", "store.zip"]


def test_zip_bombs_are_refused_unread(tmp_path, monkeypatch):
    store = zipped(tmp_path / "bomb.zip", {"bomb.json": b" " * (phenopackets.MAX_BYTES + 1)})
    assert store.stat().st_size < 100_000
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("the bomb was opened"))
    assert refusal(store).startswith("bomb.json is larger than 16 MiB")


def test_a_bomb_that_lies_about_its_size_is_refused(tmp_path, monkeypatch):
    store = zipped(tmp_path / "bomb.zip", {"bomb.json": b" " * 5000})
    raw = bytearray(store.read_bytes())
    central = raw.index(b"PK\x01\x02")
    raw[central + 24 : central + 28] = (10).to_bytes(4, "little")
    store.write_bytes(raw)
    monkeypatch.setattr(phenopackets, "MAX_BYTES", 1000)
    assert "bomb.json" in refusal(store)


def test_links_must_stay_in_the_folder(write, packet, tmp_path):
    store = write(packet())
    (tmp_path / "secret.json").write_bytes(content(packet("PMID_9_z")))
    (store / "cohort" / "link.json").symlink_to(tmp_path / "secret.json")
    assert refusal(store) == "cohort/link.json is a link that leaves the data folder; copy the file into the folder."


def test_linked_folders_are_refused_not_passed_over(write, packet, tmp_path):
    store, real = write(packet()), write(packet("PMID_9_z"), folder="real")
    (store / "sub").symlink_to(real)
    assert refusal(store) == "sub is a linked folder, which mint does not follow; copy it into the data folder."
    (store / "sub").rename(store / ".sub")
    assert len(read(store).cases) == 1


def test_files_in_hidden_folders_are_leftovers(write, packet, tmp_path):
    store = write(packet())
    (store / ".ipynb_checkpoints").mkdir()
    (store / ".ipynb_checkpoints" / "copy.json").write_bytes(content(packet()))
    assert read(store).facts["files of other kinds, not read"] == 1
    packed = zipped(tmp_path / "s.zip", {"a/1.json": content(packet()), ".git/2.json": content(packet())})
    assert len(read(packed).cases) == 1


@pytest.mark.parametrize("kind", ["zip", "folder", "missing", "text"])
def test_nothing_to_read(tmp_path, kind):
    place = tmp_path / "store"
    if kind == "zip":
        zipped(place, {})
    elif kind == "folder":
        place.mkdir()
    elif kind == "text":
        place.write_text("hello")
    expected = "holds no .json file" if kind in ("zip", "folder") else "is no folder, zip archive or .json file"
    assert expected in refusal(place)


def test_a_damaged_archive_names_the_file(tmp_path, packet):
    store = zipped(tmp_path / "store.zip", {"a.json": content(packet())})
    raw = bytearray(store.read_bytes())
    raw[60:80] = bytes(20)
    store.write_bytes(raw)
    assert refusal(store) == "a.json is damaged inside the archive; fetch the archive again."


def test_a_damaged_directory_of_an_archive(tmp_path, packet):
    store = zipped(tmp_path / "store.zip", {"a.json": content(packet()), "b.json": content(packet("PMID_2_b"))})
    raw = bytearray(store.read_bytes())
    central = raw.rindex(b"PK\x01\x02")
    raw[central : central + 4] = b"\0\0\0\0"
    store.write_bytes(raw)
    assert refusal(store) == f"{store} is a damaged zip archive; fetch it again."


# --- malformed packets

PRIVATE = "a word about the patient"
OTHER = {"id": "OMIM:900002", "label": PRIVATE}
MALFORMED = {
    "no disease": ({"diseases": [], "interpretations": []}, "no disease that is not excluded"),
    "two diseases": (
        {"diseases": [{"term": {"id": "OMIM:900001", "label": PRIVATE}}, {"term": OTHER}]},
        "2 diseases (OMIM:900001, OMIM:900002)",
    ),
    "schema version 1": ({"metaData": {"phenopacketSchemaVersion": "1.0.0"}}, "another schema version than 2"),
    "no schema version": ({"metaData": {}}, "names no metaData.phenopacketSchemaVersion"),
    "no type": ({"phenotypicFeatures": [{"description": PRIVATE}]}, "at phenotypicFeatures.0.type: Field required"),
    "wrong type": ({"phenotypicFeatures": PRIVATE}, "no phenopacket at phenotypicFeatures"),
    "bad age": (
        {"subject": {"id": "a", "timeAtLastEncounter": {"age": {"iso8601duration": PRIVATE}}}},
        "an age is not an ISO-8601 duration",
    ),
    "impossible age": (
        {"subject": {"id": "a", "timeAtLastEncounter": {"gestationalAge": {"weeks": 10**400}}}},
        "at subject.timeAtLastEncounter.gestationalAge.weeks",
    ),
    "empty id": ({"id": ""}, "no phenopacket at id"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_packets_are_named_and_fatal_or_skipped(write, packet, case):
    changes, sentence = MALFORMED[case]
    store = write(packet("PMID_1_good"))
    (store / "cohort" / "bad.json").write_bytes(content(packet("PMID_2_bad", **changes)))
    said = refusal(store)
    assert said.startswith("cohort/bad.json")
    assert sentence in said
    assert PRIVATE not in said
    reading = read(store, on_error="skip")
    assert [case.id for case in reading.cases] == ["PMID_1_good"]
    assert reading.facts["files or rows skipped as malformed"] == reading.facts["skipped: cohort/bad.json"] == 1
    assert reading.facts["files read"] == 2


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"{", "bad.json is not valid JSON"),
        (b"\xff\xfe\x00", "bad.json is not valid JSON"),
        (b"", "bad.json is not valid JSON"),
        (b"[" * 100_000, "bad.json is not valid JSON"),
        (b"[]", "bad.json is no phenopacket"),
        (b'{"proband": {}, "pedigree": {}}', "is a family or a cohort, not one patient"),
    ],
)
def test_files_that_are_no_packets(write, packet, raw, sentence):
    store = write(packet("PMID_1_good"))
    (store / "bad.json").write_bytes(raw)
    assert sentence in refusal(store)
    assert len(read(store, on_error="skip").cases) == 1


def test_a_byte_order_mark_does_no_harm(tmp_path, packet):
    (tmp_path / "one.json").write_bytes(b"\xef\xbb\xbf" + content(packet()))
    assert len(read(tmp_path / "one.json").cases) == 1


def test_duplicate_ids_name_both_files(write, packet):
    write(packet("PMID_1_a"), cohort="a")
    store = write(packet("PMID_1_a"), cohort="b")
    assert refusal(store) == (
        "b/PMID_1_a.json: the id 'PMID_1_a' belongs to a/PMID_1_a.json already; give every patient an id of its own."
    )
    assert len(read(store, on_error="skip").cases) == 1


def test_a_folder_of_nothing_but_malformed_files_is_an_error_even_when_skipping(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    assert refusal(tmp_path, on_error="skip").startswith("Every file or row is malformed; the first: bad.json is not")


# --- the task


@pytest.mark.parametrize("check", TASK_CHECKS)
def test_the_task_keeps_its_contract(check, hospital):
    check(RareDisease(RareDisease.Config(source="phenopackets", data=hospital)))


@pytest.mark.skipif(not STORE.is_file(), reason="the phenopacket store does not lie in ../shared/data")
def test_the_phenopacket_store_is_read_to_the_last_file():
    reading = read(STORE)
    assert reading.facts["files read"] == reading.facts["patients read"] == len(reading.cases) == 8014
    assert reading.facts["without a phenotype"] == 3
    assert reading.facts["without an age"] == 1995
    assert reading.facts["without a sex"] == 656
    assert reading.facts["excluded features, not told"] == 103_059
    assert len({case.disease_ids for case in reading.cases}) == 685
    assert {case.publication is not None for case in reading.cases} == {True}


def test_whatever_is_wrong_in_a_packet_is_read_or_said_in_a_sentence(write, packet):
    """Cut off anywhere, or with any value replaced: never another exception than mint's own."""
    whole = packet()
    broken = [content(whole)[:length] for length in range(0, len(content(whole)), 37)]
    for odd in (None, True, -1, 1e300, 10**400, "", "PRIVATE \u0000", [], {}, [[]], {"id": {}}):
        broken += [content(changed) for changed in replaced(whole, odd)]
    store = write(packet("PMID_1_good"))
    said = []
    for raw in broken:
        (store / "odd.json").write_bytes(raw)
        try:
            read(store)
        except MintError as error:
            said.append(str(error))
    assert len(said) > 200
    assert not [sentence for sentence in said if "PRIVATE" in sentence]


def replaced(value, odd):
    """The same JSON value with one of its parts replaced, for every part."""
    yield odd
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        for changed in replaced(part, odd):
            copy = value.copy()
            copy[key] = changed
            yield copy


# --- ids, names and spellings


def features(*written):
    return [{"type": {"id": one, **({"label": label} if label else {})}} for one, label in written]


def test_merged_ids_and_other_spellings_are_told(write, packet):
    ids = ("HP:0001303", "HP_0001166", "hp:0000322", " HP:0000637 ", "http://purl.obolibrary.org/obo/HP_0001263")
    reading = read(write(packet(phenotypicFeatures=features(*((one, "x") for one in ids)))))
    told = "Seizure, Arachnodactyly, Short philtrum, Long palpebral fissure, Global developmental delay."
    assert reading.cases[0].text.endswith(f"Phenotypes: {told}")
    assert not [fact for fact in reading.facts if "left out" in fact]


def test_an_unknown_id_is_told_by_its_own_label(write, packet):
    store = write(packet(phenotypicFeatures=features(("HP:9999999", "Striped\nhair"), ("HP:9999998", "SEIZURE"))))
    reading = read(store)
    assert reading.cases[0].text.endswith("Phenotypes: Striped hair, Seizure.")
    assert reading.facts["HPO ids that the ontology does not know, told by their own label"] == 2
    assert "'HP:9999999' is no term of HPO" in refusal(store, unknown_terms="refuse")


def test_a_label_of_its_own_does_not_name_the_disease(write, packet):
    named = features(("HP:9999999", "Alphan syndrome habitus"))
    packets = [packet(f"PMID_{i}_a", phenotypicFeatures=named) for i in range(4)]
    packets += [packet(f"PMID_{i}_b", "OMIM:900002") for i in range(4)]
    data = RareDisease(RareDisease.Config(source="phenopackets", data=write(*packets))).load()
    texts = [sample.text for sample in data.samples if sample.label == "Alphan syndrome"]
    assert len(texts) == 4
    assert all("[disease] habitus" in text for text in texts)


@pytest.mark.parametrize("term", ["HP:0000006", "HP:0003593", "HP:0040283", "HP:0012825", "HP:0031797"])
def test_inheritance_onset_and_modifiers_are_no_phenotypes(write, packet, term):
    reading = read(write(packet(phenotypicFeatures=features((term, "x"), ("HP:0001250", "")))))
    assert reading.cases[0].text.endswith("Phenotypes: Seizure.")
    assert reading.facts["terms left out, they are no phenotypes (inheritance, onset and the like)"] == 1


@pytest.mark.parametrize("unknown_terms", ["label", "drop"])
def test_a_patient_who_lost_all_terms_is_named_and_not_answered(write, packet, unknown_terms):
    lost = packet("PMID_2_lost", phenotypicFeatures=features(("HP:9999999", "x"), ("HP:9999998", "")))
    store = write(packet("PMID_1_good"), lost)
    assert "PMID_2_lost.json: HPO" in refusal(store, unknown_terms=unknown_terms)
    assert "knows none of the patient's 2 phenotypes" in refusal(store, unknown_terms=unknown_terms)
    facts = read(store, unknown_terms=unknown_terms, on_error="skip").facts
    assert facts["skipped: cohort/PMID_2_lost.json"] == 1
    task = RareDisease(RareDisease.Config(source="phenopackets", data=store, unknown_terms=unknown_terms))
    good, bad = task.read_inputs(store, Counter())
    assert good.text.endswith("Phenotypes: Short philtrum, Seizure.")
    assert isinstance(bad, Unreadable)
    assert "knows none of the patient's 2 phenotypes" in bad.reason


def disease(*terms):
    return [{"term": {"id": one, "label": label}} for one, label in terms]


@pytest.mark.parametrize(
    "terms",
    [
        [("OMIM:154700", "Marfan syndrome"), ("ORPHA:558", "Marfan syndrome")],
        [
            ("MONDO:0007947", "marfan syndrome"),
            ("OMIM:154700", "Marfan syndrome"),
            ("ORPHA:558", "Marfan\u2019s syndrome"),
        ],
        [("Orphanet:558", ""), ("omim:154700", "Marfan syndrome")],
        [("OMIM:154700", ""), ("OMIM_154700", "Marfan syndrome")],
    ],
)
def test_one_disease_under_several_ids_is_one(write, packet, terms):
    case = case_of(write, packet(diseases=disease(*terms)))
    assert case.disease_ids[0] == "OMIM:154700"
    assert case.disease_names == ("Marfan syndrome",)


@pytest.mark.parametrize(
    "terms",
    [
        [("OMIM:154700", "Marfan syndrome"), ("ORPHA:1", "Another syndrome")],
        [("OMIM:1", "Same"), ("OMIM:2", "Same")],
        [("OMIM:154700", "Marfan syndrome"), ("MONDO:0000001", "")],
    ],
)
def test_two_diseases_stay_two(write, packet, terms):
    assert "2 diseases" in refusal(write(packet(diseases=disease(*terms))))


def test_ids_that_a_packet_ties_together_are_one_disease_everywhere(write, packet):
    both = disease(("OMIM:900001", "Alphan syndrome"), ("ORPHA:9000001", "Alphan syndrome"))
    packets = [packet("PMID_1_a", diseases=both)]
    packets += [packet(f"PMID_{i}_a", diseases=disease(("ORPHA:9000001", "Alphan disease"))) for i in range(2, 6)]
    packets += [packet(f"PMID_{i}_b", "OMIM:900002") for i in range(6, 9)]
    data = RareDisease(RareDisease.Config(source="phenopackets", data=write(*packets))).load()
    assert data.labels.names == ("Alphan disease", "Betan syndrome")
    assert sum(sample.label == "Alphan disease" for sample in data.samples) == 5


@pytest.mark.parametrize("label", ["", "OMIM:154700", "omim:154700"])
def test_an_id_without_a_label_gets_the_name_that_omim_gives_it(write, packet, label):
    assert case_of(write, packet(diseases=disease(("OMIM:154700", label)))).disease_names == ("Marfan syndrome",)


def test_an_id_that_nobody_names_stands_for_the_name_and_is_counted(write, packet):
    reading = read(write(packet(diseases=disease(("OMIM:900009", "")))))
    assert reading.cases[0].disease_names == ("OMIM:900009",)
    assert reading.facts["diseases named by nobody, their id stands for them"] == 1


# --- messages and fields that mint does not understand


@pytest.mark.parametrize("key", ["proband", "relatives", "pedigree", "members"])
def test_families_and_cohorts_are_refused_though_they_have_an_id(write, packet, key):
    store = write({"id": "FAM-1", key: [packet()], "metaData": {"phenopacketSchemaVersion": "2.0"}})
    assert "FAM-1.json is a family or a cohort, not one patient" in refusal(store)
    (one,) = RareDisease(RareDisease.Config(source="phenopackets", data=store)).read_inputs(store, Counter())
    assert isinstance(one, Unreadable)
    assert "split it into phenopackets of single patients" in one.reason


def test_a_list_of_packets_is_refused(tmp_path, packet):
    path = tmp_path / "all.json"
    path.write_text(json.dumps([packet("PMID_1_a"), packet("PMID_2_b")]))
    assert "all.json is a family or a cohort" in refusal(path)


@pytest.mark.parametrize(
    ("place", "field"),
    [
        (("phenotypicFeatures", 0), "negated"), (("phenotypicFeatures", 0), "absent"),
        (("phenotypicFeatures", 0), "Excluded"), (("phenotypicFeatures", 0, "type"), "negated"),
        (("diseases", 0), "negated"), (("diseases", 0, "term"), "status"), (("subject",), "ageAtCollection"),
        ((), "genes"), ((), "phenotypicfeatures"), (("interpretations", 0), "resolutionStatus"),
        (("interpretations", 0, "diagnosis"), "excluded"),
        (("interpretations", 0, "diagnosis", "genomicInterpretations", 0), "status"),
    ],
)  # fmt: skip
def test_an_unknown_field_is_refused_with_file_and_place(write, packet, place, field):
    one = packet()
    part = one
    for step in place:
        part = part[step]
    part[field] = True
    said = refusal(write(packet("PMID_2_good"), one))
    path = ".".join(map(str, (*place, field)))
    assert f"cohort/PMID_1_a.json: the field {path} is not one of phenopackets of version 2" in said


def test_all_fields_of_the_schema_are_accepted(write, packet):
    one = packet(measurements=[{}], biosamples=[], medical_actions=[], files=[])
    one["subject"] |= {"alternateIds": ["x"], "dateOfBirth": "2020-01-01T00:00:00Z", "vitalStatus": {}, "gender": {}}
    one["subject"] |= {"karyotypic_sex": "XX", "taxonomy": {"id": "NCBITaxon:9606"}}
    one["phenotypicFeatures"][0] |= {"description": "", "severity": {}, "modifiers": [], "onset": {}, "evidence": []}
    one["phenotypicFeatures"][0] |= {"resolution": {}, "excluded": None}
    one["diseases"][0] |= {"onset": {}, "diseaseStage": [], "primarySite": {}, "laterality": {}, "resolution": {}}
    one["diseases"][0] |= {"clinicalTnmFinding": []}
    assert case_of(write, one).text.endswith("Phenotypes: Short philtrum, Seizure.")


def test_a_field_that_stands_twice_is_refused(write, packet):
    store = write(packet())
    path = store / "cohort" / "PMID_1_a.json"
    begins = '{"type": {"id": "HP:0000322"'
    path.write_text(path.read_text().replace(begins, '{"excluded": true, "excluded": false, ' + begins[1:]))
    assert "PMID_1_a.json: the field 'excluded' stands twice in one place" in refusal(store)


def test_one_field_in_both_spellings_of_protobuf_stands_twice(write, packet):
    store = write(packet(phenotypic_features=[]))
    assert "the field 'phenotypicFeatures' stands twice in one place" in refusal(store)
