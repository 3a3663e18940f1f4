"""The retriever documents: files, labels, leaks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from mint_core.errors import ConfigError, DataError
from mint_core.interfaces import Context
from mint_core.testing import RETRIEVER_CHECKS
from mint_core.types import LabelSpace, Sample
from mint_rag.documents import Documents, DocumentsConfig
from mint_rag.reading import read

ROOT = Path(__file__).parents[3]
SUMMARIES = ROOT / ".." / "shared" / "data" / "rare_disease" / "omim_summaries.json"
TEXTS = {
    "Marfan syndrome": "Tall patients with long fingers, a wide aorta and a dislocated lens.",
    "KABUKI SYNDROME": "Long palpebral fissures with everted lower eyelids; short stature.",
    "Something else": "Nothing that the label space knows: red fingers.",
}
LONG = "The patient is a boy of three years with long fingers and a dislocated lens seen at birth."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "documents"
    place.mkdir()
    (place / "summaries.json").write_text(json.dumps(TEXTS), encoding="utf-8")
    return place


@pytest.fixture
def build(labels, tmp_path):
    def build(place: Path, **options: object) -> Documents:
        retriever = Documents(DocumentsConfig(path=place, **options))  # type: ignore[arg-type]
        retriever.context = Context(labels=labels, cache=tmp_path / "cache")
        retriever.build()
        return retriever

    return build


def patient(text: str, name: str = "p", split: str = "test") -> Sample:
    return Sample(name, split, text=text)  # type: ignore[arg-type]


@pytest.mark.parametrize("check", RETRIEVER_CHECKS)
def test_contract(check, build, folder, patients, labels) -> None:
    check(build(folder), patients, labels)


def test_a_mapping_of_names_to_texts(build, folder, labels) -> None:
    retriever = build(folder)
    (found,) = retriever.retrieve([patient("long fingers, dislocated lens")])
    assert [(passage.source, passage.label) for passage in found] == [
        ("summaries.json#Marfan syndrome", "Marfan syndrome"),
        ("summaries.json#Something else", None),
        ("summaries.json#KABUKI SYNDROME", "Kabuki syndrome 1"),
    ]
    assert found[0].text == f"Marfan syndrome. {TEXTS['Marfan syndrome']}"
    scores = retriever.label_scores([patient("fingers")])
    assert scores is not None
    assert scores[0, 0] > 0
    assert scores[0, 1] == 0  # of Kabuki syndrome 1 a passage tells, but it has no word of the text
    assert (scores[0, 2:] == -np.inf).all()


def test_a_passage_tells_of_the_label_that_its_name_means(tmp_path, folder) -> None:
    retriever = Documents(DocumentsConfig(path=folder))
    retriever.context = Context(
        labels=LabelSpace(("Kabuki syndrome", "Marfan syndrome, type 1")), cache=tmp_path / "cache"
    )
    retriever.build()
    found = retriever.retrieve([patient("fissures fingers")])[0]
    assert {passage.label for passage in found} == {"Kabuki syndrome", "Marfan syndrome, type 1", None}


def test_labels_are_not_ranked_where_no_passage_tells_of_one(build, tmp_path) -> None:
    path = tmp_path / "passages.txt"
    path.write_text("Long fingers.", encoding="utf-8")
    retriever = build(path)
    assert retriever.label_scores([patient("long fingers")]) is None
    assert retriever.retrieve([patient("nothing in common")]) == [()]


def test_lines_with_ids_and_labels(build, tmp_path) -> None:
    path = tmp_path / "passages.jsonl"
    records = [
        {"id": "a", "text": "long fingers", "label": "Marfan syndrome"},
        {"text": "musty odour", "title": "Phenylketonuria"},
        {"id": 7, "text": "laughter", "name": "Angelman syndrome"},
    ]
    path.write_text("\n".join(map(json.dumps, records)) + "\n\n", encoding="utf-8")
    found = read(path, None, "fail").documents
    assert [(document.id, document.names[0]) for document in found] == [
        ("a", "Marfan syndrome"),
        ("passages.jsonl:2", "Phenylketonuria"),
        ("7", "Angelman syndrome"),
    ]
    scores = build(path).label_scores([patient("a musty odor")])  # the other spelling is found too
    assert scores is not None
    assert np.isfinite(scores).tolist() == [[True, False, True, True, False]]
    assert scores[0].argmax() == 2


def test_text_and_markdown_are_split_at_blank_lines(tmp_path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "kabuki_syndrome_1.txt").write_text(
        "one " * 20 + "\n\n" + "two " * 20 + "\n \n" + "three " * 60, encoding="utf-8"
    )
    (tmp_path / "m.md").write_text("# Marfan syndrome #\n\nLong fingers.", encoding="utf-8")
    (tmp_path / ".hidden.txt").write_text("no", encoding="utf-8")
    (tmp_path / "table.csv").write_text("no", encoding="utf-8")
    (tmp_path / "empty.txt").write_text("  \n", encoding="utf-8")
    split = read(tmp_path, 170, "fail").documents
    assert [document.id for document in split] == [
        *(f"below/kabuki_syndrome_1.txt#{number}" for number in (1, 2, 3, 4)),
        "m.md",
    ]
    assert max(len(document.text) for document in split) <= 170
    assert split[0].text.count("one") == split[0].text.count("two") == 20
    assert sum(document.text.count("three") for document in split) == 60
    assert split[0].names == ("kabuki syndrome 1",)
    assert split[-1].names == ("Marfan syndrome", "m")
    assert len(read(tmp_path, None, "fail").documents) == 2


@pytest.mark.parametrize(
    ("content", "count"),
    [
        ([{"text": "a", "label": "x"}, {"text": "b"}], 2),
        ([{"Marfan syndrome": "a"}, {"Kabuki syndrome": "b", "More": "c"}], 3),
        ({"Marfan syndrome": {"text": "a", "id": "own"}}, 1),
        ({"text": "a", "title": "x"}, 1),
    ],
)
def test_shapes_of_json(content, count, tmp_path) -> None:
    (tmp_path / "p.json").write_text(json.dumps(content), encoding="utf-8")
    assert len(read(tmp_path, None, "fail").documents) == count


# --- bad input

LINES = '{"text": "good"}\nnot json\n{"text": ""}\n{"text": "fine", "label": 3}\n[1]\n{"text": "last", "id": {}}\n'


def test_broken_lines_are_named_and_refused_or_skipped(build, tmp_path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(LINES, encoding="utf-8")
    with pytest.raises(DataError, match=r"^p\.jsonl:2: the line is not JSON; mend it, or leave") as error:
        build(path)
    assert "not json" not in str(error.value)
    retriever = build(path, on_error="skip")
    assert retriever.skipped == tuple(f"p.jsonl:{line}" for line in (2, 3, 4, 5, 6))
    assert len(retriever._documents) == 1
    told = retriever.describe()
    assert (told["passages searched"], told["broken, left out"]) == (1, 5)
    assert told["the first of them"].startswith("p.jsonl:2, p.jsonl:3")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.json", '{\n"a": "x",\n}', r"p\.json:3: the file is not JSON"),
        ("p.json", "3", r"p\.json: the file holds neither"),
        ("p.json", '{"a": "x", "b": 1}', r"p\.json, entry 2: the passage is no object"),
        ("p.jsonl", '{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}', r"p\.jsonl:2: its id is that of p\.jsonl:1"),
        ("p.txt", b"\xff\xfe\x00", r"p\.txt: the file cannot be read as UTF-8"),
        ("p.csv", "a", "no folder and no file that ends in .txt"),
        ("p.txt", "", "holds no passage; put files that end in"),
    ],
)
def test_bad_files_are_named(name, content, message, tmp_path) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read(path, None, "fail")


def test_nothing_but_broken_passages_is_an_error(tmp_path) -> None:
    (tmp_path / "p.jsonl").write_text("x\ny\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"Every passage of .* is broken, the first at p\.jsonl:1"):
        read(tmp_path, None, "skip")


def test_an_empty_folder_is_one_clear_sentence(build, tmp_path) -> None:
    place = tmp_path / "empty"
    place.mkdir()
    with pytest.raises(DataError, match=r"empty holds no passage; put files that end in \.txt, \.md, \.jsonl, \.json"):
        build(place)


def test_a_path_is_asked_for_before_anything_runs(build, tmp_path) -> None:
    with pytest.raises(ValidationError, match="path"):  # the core makes a sentence of it
        DocumentsConfig.model_validate({})
    with pytest.raises(DataError, match=r"nowhere is no folder.*check retriever\.path"):
        build(tmp_path / "nowhere")


# --- leaks


def test_a_passage_that_holds_a_whole_patient_is_refused(build, tmp_path) -> None:
    path = tmp_path / "p.txt"
    path.write_text(f"Case 3.\n{LONG.upper().replace(' with ', chr(10) + 'with ')} He is well.", encoding="utf-8")
    retriever = build(path)
    with pytest.raises(DataError, match=r"1 samples to be predicted stand in the documents: 'p9' in p\.txt") as error:
        retriever.retrieve([patient("other words"), patient(LONG, "p9")])
    assert "fingers" not in str(error.value)
    with pytest.raises(DataError, match="'p9'"):
        retriever.label_scores([patient(LONG, "p9")])
    assert retriever.retrieve([patient(LONG + " And a scar.", "p8"), patient(LONG, "p7", "train")])


def test_a_passage_with_the_id_of_a_patient_is_refused(build, tmp_path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "PMID_1", "text": "x"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"'PMID_1' in p\.jsonl:1"):
        build(path).retrieve([patient("other", "PMID_1")])


def test_many_leaks_are_counted_and_some_named(build, tmp_path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(json.dumps({"id": f"s{n}", "text": "x"}) for n in range(9)), encoding="utf-8")
    with pytest.raises(DataError, match=r"^9 samples .*'s4' in p\.jsonl:5, and 4 more; take"):
        build(path).retrieve([patient("t", f"s{n}") for n in range(9)])


def test_a_short_text_may_stand_in_a_textbook(build, folder) -> None:
    assert build(folder).retrieve([patient("long fingers")])[0]


# --- LlamaIndex

NODE = {"id_": "n1", "embedding": None, "metadata": {"title": "Marfan syndrome"}, "text": "Long fingers.",
        "class_name": "TextNode"}  # fmt: skip
OLD = {"doc_id": "n2", "extra_info": {"name": "Angelman syndrome"}, "text": "Laughter.", "embedding": None}
NEW = {"id_": "n3", "metadata": {}, "text_resource": {"text": "A resource."}, "class_name": "Node"}
IMAGE = {"id_": "n4", "metadata": {}, "text_resource": None, "class_name": "Node"}


def store(place: Path, nodes: dict[str, object]) -> Path:
    place.mkdir()
    content = {
        "docstore/metadata": {},
        "docstore/data": {k: {"__data__": v, "__type__": "1"} for k, v in nodes.items()},
    }
    (place / "docstore.json").write_text(json.dumps(content), encoding="utf-8")
    (place / "default__vector_store.json").write_text("{}", encoding="utf-8")
    return place


def test_a_llama_index_folder_is_read_without_llama_index(build, tmp_path) -> None:
    place = store(tmp_path / "index", {"n1": NODE, "n2": OLD, "n3": NEW, "n4": IMAGE})
    retriever = build(place)
    assert [(document.id, document.names) for document in retriever._documents] == [
        ("n1", ("Marfan syndrome",)),
        ("n2", ("Angelman syndrome",)),
        ("n3", ()),
    ]
    (found,) = retriever.retrieve([patient("much laughter")])
    assert (found[0].source, found[0].label) == ("n2", "Angelman syndrome")


def test_an_unknown_layout_names_the_extra(build, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_index", None)
    monkeypatch.setitem(sys.modules, "llama_index.core.storage.docstore", None)
    with pytest.raises(ConfigError, match=r"pip install 'mint-rag\[llamaindex\]'"):
        build(store(tmp_path / "index", {"n": {"content": "x"}}))
    (tmp_path / "index" / "docstore.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"docstore\.json is not JSON"):
        build(tmp_path / "index")


# --- real summaries


@pytest.mark.skipif(not SUMMARIES.is_file(), reason="the summaries of GestaltMML are not here (../shared/data)")
def test_the_summaries_of_gestaltmml(tmp_path) -> None:
    labels = LabelSpace(("Ehlers-Danlos syndrome, vascular type", "Frias syndrome", "Alphan disease"))
    retriever = Documents(DocumentsConfig(path=SUMMARIES))
    retriever.context = Context(labels=labels, cache=tmp_path)
    retriever.build()
    assert len(retriever._documents) == 736
    asked = [patient("acrogeric skin, bowel rupture, bleeding after minor trauma", "s1")]
    scores = retriever.label_scores(asked)
    assert scores is not None
    assert scores[0].argmax() == 0
    assert np.isfinite(scores).tolist() == [[True, True, False]]
    assert retriever.retrieve(asked)[0][0].label == labels.names[0]


@pytest.mark.parametrize("nothing", ["NaN", '"nan"', '"<NA>"', "null"])
def test_nothing_in_a_record_is_no_name_and_no_text(tmp_path, nothing):
    lines = [f'{{"text": "Tall.", "label": {nothing}, "title": {nothing}, "id": {nothing}}}', f'{{"text": {nothing}}}']
    path = tmp_path / "passages.jsonl"
    path.write_text("\n".join(lines))
    reading = read(path, None, "skip")
    assert [(one.id, one.names, one.title) for one in reading.documents] == [("passages.jsonl:1", (), None)]
    assert reading.skipped == ("passages.jsonl:2",)
