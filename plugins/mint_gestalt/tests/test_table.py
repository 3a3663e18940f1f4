"""Sources `csv` and `jsonl`: clinical notes, their columns, and the sentences for what is not as it must be."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mint_core.errors import ConfigError, DataError
from mint_core.testing import TASK_CHECKS
from mint_gestalt.sources import notes
from mint_gestalt.sources.options import RareDiseaseOptions
from mint_gestalt.task import RareDisease

NOTES = Path(__file__).parents[3].parent / "shared" / "data" / "rare_disease" / "clinical_notes.jsonl"
HEAD = "id,text,label,gene\n"


def read(path: Path, **options):
    return notes.read(path, RareDiseaseOptions(source="csv", data=path, **options))


def load(path: Path, **options):
    return RareDisease(RareDisease.Config(source="csv", data=path, **options)).load()


def refusal(path: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **options)
    return str(caught.value)


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "notes.csv", encoding: str = "utf-8") -> Path:
        (tmp_path / name).write_bytes(text.encode(encoding))
        return tmp_path / name

    return write


@pytest.fixture
def ward(write):
    rows = [f"n{i},note number {i},{'Alpha' if i % 2 else 'Beta'} disease,GEN{i % 2}" for i in range(20)]
    return write(HEAD + "\n".join(rows))


# --- what is read


@pytest.mark.parametrize("check", TASK_CHECKS)
def test_the_task_keeps_its_contract(check, ward):
    check(RareDisease(RareDisease.Config(source="csv", data=ward)))


def test_further_columns_reach_the_report_alone(write):
    """Those that mint reads as something else, and privileged ones, are none of them; empty cells are not known."""
    path = write("id,text,label,gene,SEX,ward\na,a note,Alpha,GEN1,f,\nb,another,Beta,GEN2,,north\n")
    reading = read(path)
    assert [case.subgroups for case in reading.cases] == [{"SEX": "f"}, {"ward": "north"}]
    assert reading.subgroups == ("SEX",)  # a usual one; the ward is reported where the user names it


@pytest.mark.parametrize(("delimiter", "name"), [(",", "n.csv"), (";", "n.csv"), ("\t", "n.csv"), ("\t", "n.tsv")])
def test_delimiters_and_a_byte_order_mark(write, delimiter, name):
    rows = [("id", "text", "label"), ("a", '"tall, and ""loud"""', "Alpha; ALP")]
    if delimiter == ";":
        rows[1] = (*rows[1][:2], '"Alpha; ALP"')
    path = write("\n".join(delimiter.join(row) for row in rows), name, "utf-8-sig")
    case = read(path).cases[0]
    assert (case.id, case.text, case.disease_names) == ("a", 'tall, and "loud"', ("Alpha", "ALP"))


def test_json_lines(write):
    lines = [
        {"id": 7, "text": "two\nlines", "label": "Alpha", "gene": None, "other": 1},
        {"id": 8, "text": "b", "label": "B"},
    ]
    reading = read(write("\n".join(map(json.dumps, lines)), "n.jsonl"))
    assert [(case.id, case.text) for case in reading.cases] == [("7", "two\nlines"), ("8", "b")]
    assert reading.facts == {"rows read": 2, "patients read": 2, "without gene": 2}


@pytest.mark.parametrize("name", ["notes.json", "notes.txt"])
def test_json_lines_under_other_names(write, name):
    assert read(write('{"text": "x", "label": "A"}', name)).cases[0].text == "x"


@pytest.mark.parametrize(
    "text", ['[{"text": "x", "label": "A"}]', '[\n{"text": "x", "label": "A"}\n]', '{\n"text": 1}']
)
def test_json_that_is_no_lines(write, text):
    path = write(text, "n.jsonl")
    assert "n.jsonl, line 1 is n" in refusal(path)
    assert "write one object per line" in refusal(path)


def test_a_table_may_begin_with_an_empty_line(write):
    assert [case.id for case in read(write("\n\ntext,label\nx,A\n")).cases] == ["notes.csv, row 4"]
    assert "has no columns 'text' and 'label' (available: none)" in refusal(write(",,\n,,\n"))


def test_a_note_too_long_for_csv(write):
    assert "mend the quotes there or, if a cell is that long, write the table as .jsonl" in refusal(
        write(f"text,label\n{'long ' * 30_000},A\n")
    )


def test_cohorts_are_folders_of_phenopackets(ward):
    with pytest.raises(ConfigError, match="take patient or publication here"):
        read(ward, group_by="cohort")


def test_columns_can_be_renamed(write):
    path = write("note,disease,omim,pmid\ntall,Alpha,OMIM:1,PMID_5_II.2\n")
    columns = {"text": "note", "label": "disease", "disease_id": "omim", "publication": "pmid"}
    case = read(path, columns=columns).cases[0]
    assert (case.text, case.disease_names, case.disease_ids) == ("tall", ("Alpha",), ("OMIM:1",))
    assert case.publication == case.group == "PMID:5"
    assert case.id == "notes.csv, row 2"


def test_groups_and_splits_as_given(write):
    rows = ["a,x,A,f1,train,p1", "b,y,B,f1,training,p2", "c,z,A,f2,test,p3", "d,z,B,f2,TEST,p3"]
    path = write("id,text,label,group,split,patient\n" + "\n".join(rows))
    data = load(path)
    assert [(s.id, s.group, s.split) for s in data.samples] == [
        ("a", "f1", "train"), ("b", "f1", "train"), ("c", "f2", "test"), ("d", "f2", "test")
    ]  # fmt: skip
    assert "splits as given" in data.source
    assert [case.group for case in read(path, group_by="patient").cases] == ["p1", "p2", "p3", "p3"]


def test_privileged_columns(ward):
    sample = load(ward, privileged=("gene",)).samples[1]
    assert sample.privileged == {"gene": "GEN1"}
    assert load(ward, privileged=()).samples[1].privileged == {}


def test_rows_without_a_label_are_for_training(write):
    rows = ["a,x,A", "b,y,", "c,z,B", "d,u,A", "e,v,B"]
    data = load(write("id,text,label\n" + "\n".join(rows)), test_fraction=0.4)
    blind = [sample for sample in data.samples if sample.label is None]
    assert [(sample.id, sample.split) for sample in blind] == [("b", "train")]
    assert data.facts["without a disease, for training only"] == 1


def test_faces_beside_notes(write, tmp_path):
    (tmp_path / "faces").mkdir()
    for i in range(4):
        Image.fromarray(np.full((4, 4, 3), i * 9, np.uint8)).save(tmp_path / "faces" / f"{i}.png")
    rows = [f"p{i},note,{'AB'[i % 2]},{i}.png,{'train' if i < 2 else 'test'}" for i in range(4)]
    path = write("id,text,label,image,split\n" + "\n".join(rows))
    data = load(path, image_folder=tmp_path / "faces")
    assert data.samples[3].image.open().getpixel((0, 0)) == (27, 27, 27)
    assert "does not exist" in refusal(path)


@pytest.mark.parametrize("image", ["../secret.png", "/etc/hostname", "C:\\x.png"])
def test_faces_must_lie_in_their_folder(write, tmp_path, image):
    (tmp_path.parent / "secret.png").write_bytes(b"x")
    said = refusal(write(f"id,text,label,image\na,x,A,{image}\n"))
    assert "notes.csv, row 2: the image lies outside" in said
    assert "secret" not in said


def test_a_face_must_be_an_image(write, tmp_path):
    (tmp_path / "f.png").write_text("<html>")
    path = write("id,text,label,image\na,x,A,f.png\nb,y,B,\n")
    assert "is a web page, not an image" in refusal(path)
    assert [case.id for case in read(path, on_error="skip").cases] == ["b"]


# --- what must not be read by the student


def leaky(write, **options):
    rows = [f"p{i},A boy with GENX1 (not GENX12) and alpha-disease.,Alpha disease,GENX1" for i in range(3)]
    rows += [f"q{i},A girl with freckles.,Beta; BB,GENY2" for i in range(3)]
    return load(write(HEAD + "\n".join(rows)), test_fraction=0.34, **options)


def test_genes_and_diseases_named_in_a_note_are_masked(write):
    data = leaky(write)
    texts = {sample.id[0]: sample.text for sample in data.samples}
    assert texts["q"] == "A girl with freckles."
    assert texts["p"] == "A boy with [gene] (not GENX12) and [disease]."
    assert data.facts["texts that held a privileged value"] == 3
    assert data.facts["texts that named the disease"] == 3


def test_names_of_the_disease_are_masked_whatever_their_case(write):
    rows = [f"p{i},Suspected ALPHA DISEASE or AlpD?,Alpha disease; ALPD,GENX1" for i in range(3)]
    rows += [f"q{i},Alpha disease was ruled out.,Beta; BB,GENY2" for i in range(3)]
    data = load(write(HEAD + "\n".join(rows)), test_fraction=0.34)
    assert {sample.text for sample in data.samples} == {
        "Suspected [disease] or [disease]?",
        "Alpha disease was ruled out.",
    }
    assert data.facts["texts that named the disease"] == 3


def texts_of(write, text, label, gene, **options):
    """The distinct texts of three patients with this note, beside three of another disease."""
    rows = [f'p{i},"{text}","{label}","{gene}"' for i in range(3)]
    rows += [f"q{i},A girl with freckles.,Beta,GENY2" for i in range(3)]
    data = load(write(HEAD + "\n".join(rows)), test_fraction=0.34, **options)
    return {sample.text for sample in data.samples if sample.id[0] == "p"}, data.facts


def test_a_disease_that_is_named_after_its_gene_is_masked_as_a_whole(write):
    text = "Known SCN2A-related encephalopathy, SCN2A confirmed."
    texts, facts = texts_of(write, text, "SCN2A-related encephalopathy", "SCN2A")
    assert texts == {"Known [disease], [gene] confirmed."}
    assert facts["texts that named the disease"] == 3
    assert facts["texts that held a privileged value"] == 3


@pytest.mark.parametrize(
    ("gene", "text", "read"),
    [
        ("KMT2D,KDM6A", "KMT2D or KDM6A?", "[gene] or [gene]?"),
        ("KMT2D; KDM6A", "KMT2D or KDM6A?", "[gene] or [gene]?"),
        ("KMT2D/KDM6A|TTN", "KMT2D, KDM6A, TTN", "[gene], [gene], [gene]"),
        ("KMT2D KDM6A", "KDM6A and KMT2D", "[gene] and [gene]"),
        ("kmt2d", "The KMT2D_variant", "The [gene]_variant"),
        ("KMT2D", "kmt2d was read", "[gene] was read"),
        ("AR", "AR, as far as we are told", "[gene], as far as we are told"),  # short ones stand for much else
    ],
)
def test_every_gene_of_a_cell_is_masked_in_any_case(write, gene, text, read):
    assert texts_of(write, text, "Alpha disease", gene)[0] == {read}


@pytest.mark.parametrize(
    ("label", "text", "read"),
    [
        ("Kabuki syndrome 1", "Kabuki syndrome, or Kabuki syndrome 1", "[disease], or [disease]"),
        ("DEE 112", "a boy with DEE", "a boy with [disease]"),
        ("ALPHA DISEASE, TYPE 2A", "an alpha disease", "an [disease]"),
        ("Alpha disease type IV; AD4", "an Alpha disease, AD4", "an [disease], [disease]"),
        ("Haemophilia A", "with haemophilia", "with [disease]"),
        ("Alpha disease with tics", "Alpha disease", "[disease]"),
    ],
)
def test_the_name_of_a_disease_is_masked_without_its_number_or_kind_too(write, label, text, read):
    assert texts_of(write, text, label, "GENX1")[0] == {read}


def test_a_patient_whose_label_was_taken_is_masked_like_the_others(write):
    given = ("Alpha disease; ALPHX0", "Beta disease; BETX0")
    rows = [
        f"p{i},A girl with {'ALPHX0' if i % 2 else 'BETX0'}.,{'Alpha' if i % 2 else 'Beta'} disease" for i in range(20)
    ]
    data = load(write("id,text,label\n" + "\n".join(rows)), labels=given, labelled=4)
    assert {sample.text for sample in data.samples} == {"A girl with [disease]."}
    assert sum(sample.label is None for sample in data.samples) == 12


def test_such_notes_can_be_dropped_or_refused(write):
    data = leaky(write, named_in_text="drop")
    assert {sample.id[0] for sample in data.samples} == {"q"}
    assert data.facts["left out for what their text held"] == 3
    with pytest.raises(DataError) as caught:
        leaky(write, named_in_text="refuse")
    assert "the text holds a privileged value, which the student may not read" in str(caught.value)
    assert "GENX1" not in str(caught.value)


@pytest.mark.parametrize("options", [{"privileged": ("label",)}, {"privileged": ("dx",), "columns": {"label": "dx"}}])
def test_the_answer_cannot_be_privileged(write, options):
    with pytest.raises(ConfigError, match="is the answer; take it out"):
        read(write("id,text,label,dx\na,x,A,B\n"), **options)


def test_privileged_columns_must_be_there_when_they_are_asked_for(write):
    path = write("id,text,label,gene\na,x,A,KMT2D\n")
    said = refusal(path, privileged=["genes"])
    assert "notes.csv has no column 'genes'; did you mean 'gene'?" in said
    assert "name the right one with --set task.privileged=" in said
    assert len(read(write("id,text,label\na,x,A\n")).cases) == 1  # the default is asked for by nobody
    wider = write("id,text,label,hgvs\na,x,A,c.1A>G\n", "h.csv")
    elsewhere = write("text,label\nx,A\n", "e.csv")  # a second data set may lack it
    options = RareDiseaseOptions(source="csv", data=wider, external=elsewhere, privileged=["hgvs"])
    assert notes.read(wider, options).cases[0].privileged == {"hgvs": "c.1A>G"}
    assert notes.read(elsewhere, options).facts["without hgvs"] == 1


def test_fields_of_mint_cannot_be_privileged(write):
    path = write("id,text,diagnosis,label\na,x,A,Alpha disease\n")
    with pytest.raises(ConfigError, match="names 'label', which mint reads as a field of its own"):
        read(path, columns={"label": "diagnosis"}, privileged=["label"])


# --- one patient in several rows


def test_a_patient_of_several_rows_is_never_torn_apart(write):
    """The publication, or the group, stands in one row of each patient only."""
    rows = [f"note {i} {k},{'AB'[i % 2]},p{i},{i // 2 if k else ''}" for i in range(24) for k in range(2)]
    for column, prefix in (("publication", "PMID:"), ("group", "")):
        path = write(f"text,label,patient,{column}\n" + "\n".join(rows))
        for case in read(path).cases:
            assert case.group == f"{prefix}{int(case.patient[1:]) // 2}"
        for seed in range(3):
            sides = {}
            for sample in load(path, sample_seed=seed).samples:
                sides.setdefault(sample.text.split()[1], set()).add(sample.split)
            assert len(sides) == 24
            assert all(len(splits) == 1 for splits in sides.values())


def test_groups_that_a_patient_ties_together_are_one(write):
    rows = ["p1,g3", "p1,g2", "p2,g3", "p3,g2", "p4,g4", "p2,g1"]
    path = write("text,label,patient,group\n" + "\n".join(f"x,A,{row}" for row in rows))
    assert [case.group for case in read(path).cases] == ["g1", "g1", "g1", "g1", "g4", "g1"]
    assert [case.group for case in read(path, group_by="patient").cases] == ["p1", "p1", "p2", "p3", "p4", "p2"]


def test_a_patient_in_two_splits_is_refused(write):
    path = write("text,label,patient,group,split\nx,A,p1,g1,train\ny,A,p1,g2,test\n")
    assert refusal(path) == (
        "notes.csv, row 3: patient 'p1' is in split 'test' here and in 'train' in notes.csv, row 2; put all rows of a "
        "patient into one split."
    )


# --- what is refused

BAD_ROWS = {
    "empty text": ("b,,A,G", "row 3: the text is empty"),
    "empty id": (",x,A,G", "row 3: the id is empty"),
    "ragged": ("b,PRIVATE", "row 3: 2 cells under 4 column names"),
    "too long": ("b,x,A,G,PRIVATE", "row 3: 5 cells under 4 column names"),
    "same id": ("a,PRIVATE,A,G", "row 3: the id 'a' belongs to notes.csv, row 2 already"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_are_named_and_fatal_or_skipped(write, case):
    row, sentence = BAD_ROWS[case]
    path = write(f"{HEAD}a,good,A,G\n{row}\n")
    said = refusal(path)
    assert sentence in said
    assert "PRIVATE" not in said
    reading = read(path, on_error="skip")
    assert [case.id for case in reading.cases] == ["a"]
    assert reading.facts["files or rows skipped as malformed"] == reading.facts["skipped: notes.csv, row 3"] == 1


def test_of_many_bad_rows_the_first_are_named(write):
    path = write(f"{HEAD}a,good,A,G\n" + "PRIVATE\n" * 40)
    facts = read(path, on_error="skip").facts
    assert facts["files or rows skipped as malformed"] == 40
    assert [fact for fact in facts if fact.startswith("skipped: ")] == [
        f"skipped: notes.csv, row {number}" for number in range(3, 19)
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 2 is not valid JSON"),
        ("3", "line 2 is no JSON object"),
        ('{"text": "PRIVATE \\ud83d", "label": "A"}', "line 2 holds half a character"),
        ('{"text": ["PRIVATE"], "label": "A"}', "line 2: 'text' holds a nested value"),
    ],
)
def test_bad_lines(write, line, sentence):
    path = write('{"text": "x", "label": "A"}\n' + line, "n.jsonl")
    assert sentence in refusal(path)
    assert "PRIVATE" not in refusal(path)
    assert len(read(path, on_error="skip").cases) == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty; it needs a row of column names, and one row per sample"),
        ("id,note,label\na,x,A\n", "has no column 'text'"),
        ("id,text,text,label\na,x,y,A\n", "has two columns 'text'"),
        ('id,text,label\na,"x,A\n', "mend the quotes there"),
        ("id,text,label,split\na,x,A,dev\n", "row 2: split 'dev' is not known"),
        ("id,text,label,split\na,x,,test\n", "row 2: the label is empty in split 'test'"),
    ],
)
def test_bad_tables(write, text, sentence):
    assert sentence in refusal(write(text))


def test_a_renamed_column_that_is_not_there(write):
    path = write("id,note,label\na,x,A\n")
    assert "has no column 'nte'; did you mean 'note'?" in refusal(path, columns={"text": "nte"})
    with pytest.raises(ConfigError, match="there is no field 'txt'; did you mean 'text'"):
        read(path, columns={"txt": "note"})


def test_all_missing_columns_are_named_at_once_with_those_that_there_are(write):
    path = write("id,note,diagnosis\na,x,A\n")
    said = refusal(path, columns={"patient": "who"}, privileged=["genes"])
    assert "has no columns 'who' and 'text' and 'label' and 'genes'" in said
    assert "(available: diagnosis, id, note)" in said
    for remedy in ("task.columns.text=NAME", "task.columns.label=NAME", "task.columns.patient=NAME", "task.privileged"):
        assert f"--set {remedy}" in said
    assert "has no columns 'text' and 'label' (available: a, b)" in refusal(write('{"a": 1, "b": 2}', "n.jsonl"))


def test_a_first_row_of_texts_is_not_quoted(write):
    for row in ("PRIVATE boy of three years who cannot hear,Alpha", "p17,PRIVATE", "PRIVATE", "17,PRIVATE tall"):
        said = refusal(write(f"{row}\nanother note,Beta\n"))
        assert "its first row does not look like names of columns, and is not shown" in said
        assert "PRIVATE" not in said and "Alpha" not in said


@pytest.mark.parametrize("nothing", ['""', "null", '"  "', "NaN"])
def test_an_empty_text_is_no_missing_column(write, nothing):
    path = write(f'{{"id": "a", "text": {nothing}, "label": "A"}}\n', "n.jsonl")
    assert "line 1: the text is empty; fill it or delete the row" in refusal(path)
    task = RareDisease(RareDisease.Config(source="jsonl", data=path))
    (bad,) = task.read_inputs(path, Counter())
    assert "line 1: the text is empty" in bad.reason
    unlabelled = write(f'{{"id": "a", "text": "tall", "label": {nothing}, "gene": {nothing}}}\n', "l.jsonl")
    assert read(unlabelled, privileged=["gene"]).facts["without a disease, for training only"] == 1


def test_not_a_table(tmp_path, write):
    assert "is a folder" in refusal(tmp_path)
    assert "cannot be read" in refusal(tmp_path / "absent.csv")
    assert "is not UTF-8 text" in refusal(write("id,text,label\na,ä,A\n", encoding="latin-1"))


@pytest.mark.skipif(not NOTES.is_file(), reason="the clinical notes do not lie in ../shared/data")
def test_the_published_notes():
    columns = {
        "text": "clinical_note",
        "label": "disease",
        "disease_id": "omim_id",
        "id": "pmid",
        "publication": "pmid",
    }
    options = {"columns": columns, "min_patients": 1, "min_groups": 1}
    with pytest.warns(UserWarning, match="of 153 texts that were looked at hold something like the name"):
        data = RareDisease(RareDisease.Config(source="jsonl", data=NOTES, **options)).load()
    assert len(data.samples) == 609
    assert len({case.publication for case in read(NOTES, columns=columns).cases}) < 609
    assert not [s.id for s in data.samples for gene in s.privileged.values() if f" {gene} " in s.text]
    assert data.facts["texts that held a privileged value"] == 40
    assert data.facts["texts that named the disease"] == 147
    assert data.facts["names of the disease in them"] == 197


# --- labels that are nearly one


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize(
    ("one", "other"),
    [("HER2+ cancer", "HER2- cancer"), ("del 5q-", "del 5q"), ("T <5", "T >5"), ("HER2\u2212", "HER2+")],
)
def test_labels_that_differ_in_a_sign_are_refused_with_both_names(write, one, other, ids):
    rows = [f"{i},note {i},{(one, other, 'Else')[i % 3]},{f'X:{i % 3}' if ids else ''}" for i in range(12)]
    path = write("id,text,label,disease_id\n" + "\n".join(rows))
    with pytest.raises(DataError, match="differ in punctuation only") as caught:
        load(path)
    assert f"'{one}'" in str(caught.value) and f"'{other}'" in str(caught.value)


def test_names_of_one_id_that_differ_in_a_sign_are_refused(write):
    rows = [f"{i},note {i},{('HER2+', 'HER2-', 'Else')[i % 3]},X:{i % 3 // 2}" for i in range(12)]
    with pytest.raises(DataError, match=r"'HER2.' and 'HER2.' differ in punctuation only"):
        load(write("id,text,label,disease_id\n" + "\n".join(rows)))


def test_a_label_is_not_found_under_a_name_with_another_sign(write):
    path = write("id,text,label\n" + "\n".join(f"{i},note {i},{('HER2+', 'Else')[i % 2]}" for i in range(12)))
    with pytest.raises(DataError, match=r"notes.csv, row 2. The diseases 'HER2\+' and 'HER2-' differ"):
        load(path, labels=("HER2-", "Else"))
    other = write("id,text,label\nz,another note,HER2-\n", name="other.csv")
    with pytest.raises(DataError, match="'HER2-' and 'HER2\\+' differ in punctuation only"):
        load(path, external=other)


def test_composed_and_decomposed_spellings_are_one_label(write):
    names = ("M\u00e9ni\u00e8re disease", "Me\u0301nie\u0300re disease", "Usher syndrome")
    data = load(write("id,text,label\n" + "\n".join(f"{i},note {i},{names[i % 3]}" for i in range(12))))
    assert data.labels.names == ("M\u00e9ni\u00e8re disease", "Usher syndrome")


@pytest.mark.parametrize("mark", ["\n", "\r\n", "\t", "\x0b", "\x1b", "\x85", "\u2028"])
def test_a_label_with_a_break_is_squeezed(write, mark):
    names = (f"Alpha{mark}disease", "Beta disease")
    lines = [json.dumps({"id": str(i), "text": f"note {i}", "label": names[i % 2]}) for i in range(12)]
    assert load(write("\n".join(lines), name="notes.jsonl")).labels.names == ("Alpha disease", "Beta disease")
    inside = " " if "\n" in mark else mark
    listed = write(f"Alpha{inside}disease\r\nBeta disease\n", name="names.txt")
    data = load(write("\n".join(lines), name="notes.jsonl"), labels=listed)
    assert data.labels.names == ("Alpha disease", "Beta disease")


# --- cells where nothing is known


@pytest.mark.parametrize("nothing", ["NaN", "null", '"nan"', '"NaN"', '"<NA>"', '""', "Infinity", '"#N/A"'])
def test_nothing_in_json_lines_becomes_no_gene_no_patient_and_no_disease(write, nothing):
    lines = [
        f'{{"id": "n{i}", "text": "note {i}", "label": {label}, "gene": {nothing}, "patient": {nothing}}}'
        for i, label in enumerate([*['"Alpha"'] * 6, *['"Beta"'] * 6, nothing, nothing])
    ]
    data = load(write("\n".join(lines), name="notes.jsonl"))
    assert data.labels.names == ("Alpha", "Beta")
    assert data.facts["without a disease, for training only"] == 2
    assert data.facts["without gene"] == 14
    assert data.facts["patients read"] == 14
    text = write(f'{{"id": "a", "text": {nothing}, "label": "Alpha"}}\n', name="text.jsonl")
    assert "text" in refusal(text)


def r_table(nothing: str) -> str:
    rows = [f"{i},n{i},note {i},{label},{nothing}" for i, label in enumerate([*"ABABABAB", nothing, nothing], 1)]
    return '"","id","text","label","gene"\n' + "\n".join(rows)


@pytest.mark.parametrize("nothing", ["NA", "N/A", "NULL", "None", "-", "."])
def test_the_words_for_nothing_are_missing_where_the_user_says_so(write, nothing):
    path = write(r_table(nothing))
    data = load(path, missing=(nothing,))
    assert data.labels.names == ("A", "B")
    assert {key for sample in data.samples for key in sample.privileged} == set()
    with pytest.warns(UserWarning, match="10 cells of 'gene'") as caught:
        data = load(path)
    assert len(caught) == 1
    assert "--set task.missing=" in str(caught[0].message)


@pytest.mark.parametrize("nothing", ["NaN", "nan", "<NA>", "#N/A"])
def test_what_programs_write_for_nothing_is_missing_in_csv(write, nothing):
    assert load(write(r_table(nothing))).labels.names == ("A", "B")


def test_row_names_of_r_are_passed_over(write):
    path = write('"id","text","label"\n"1","a","tall","A"\n"2","b","short","B"\n')
    assert [(case.id, case.text, case.disease_names) for case in read(path).cases] == [
        ("a", "tall", ("A",)),
        ("b", "short", ("B",)),
    ]


def test_nothing_in_a_file_of_names_is_no_alias(write, ward):
    names = write("name,aliases,id\nAlpha disease,NaN,nan\nBeta disease,NaN,\n,x,\nnan,y,\n", name="names.csv")
    data = load(ward, labels=names)
    assert data.labels.names == ("Alpha disease", "Beta disease")
    assert not any(data.labels.aliases)
    words = write("name,aliases,id\nAlpha disease,NA,NA\nBeta disease,NA,NA\n", name="r.csv")
    assert not any(load(ward, labels=words, missing=("NA",)).labels.aliases)


def test_new_notes_without_a_text_are_named_and_not_answered(write):
    path = write('{"id": "a", "text": NaN}\n{"id": "b", "text": "tall"}\n', name="new.jsonl")
    bad, good = RareDisease(RareDisease.Config(source="jsonl", data=path)).read_inputs(path, Counter())
    assert "line 1: the text is empty" in bad.reason
    assert good.text == "tall"
