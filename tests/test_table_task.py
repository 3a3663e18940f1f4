"""The built-in task `table`: a task described by a config alone."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mint_core.errors import ConfigError, DataError
from mint_core.interfaces import Context, Unreadable
from mint_core.plugin import ManifestTask
from mint_core.plugins import registry
from mint_core.tasks.checks import check_label_column
from mint_core.tasks.table import TableTask
from mint_core.testing import TASK_CHECKS
from mint_core.types import LabelSpace

HISTOLOGY = Path(__file__).parents[2] / "shared" / "data" / "histology"
LABELS = ("Effusion", "Normal", "Pneumonia")


def made(data: Path | str, **options):
    return TableTask(TableTask.Config(data=data, **options))


def refusal(data: Path, **options) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        made(data, **options).load()
    return str(caught.value)


def rows(n: int = 12) -> list[dict]:
    return [
        {
            "id": f"p{i}",
            "note": f"Visit {i}, cough for {i} days.",
            "age": 40 + i,
            "sex": "fm"[i % 2],
            "finding": LABELS[i % 3],
            "patient": f"g{i // 3}",
            "split": "test" if i >= 9 else "train",
            "gene": f"KMT{i}D",
        }
        for i in range(n)
    ]


def lines(path: Path, content: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def delimited(path: Path, content: list[dict], mark: str = ",") -> Path:
    path.write_text("\n".join(mark.join(map(str, row)) for row in [content[0], *(one.values() for one in content)]))
    return path


NOTES = {"source": "jsonl", "columns": {"text": "note", "label": "finding", "group": "patient"}}


@pytest.fixture(scope="module")
def xrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of 16 bits with notes, two folders down."""
    root = tmp_path_factory.mktemp("xrays")
    (root / "images").mkdir()
    content = rows()
    for number, row in enumerate(content):
        values = np.random.default_rng(number).integers(0, 65536, (8, 8), np.uint16)
        Image.fromarray(values).save(root / "images" / f"{number}.png")
        row["file"] = f"images/{number}.png"
    delimited(root / "xrays.csv", [{k: str(v).replace(",", "") for k, v in row.items()} for row in content])
    return root / "xrays.csv"


IMAGES = {"source": "csv", "columns": {"image": "file", "label": "finding", "group": "patient"}}


# --- what is read


def test_notes_from_json_lines(tmp_path):
    task = made(
        lines(tmp_path / "n.jsonl", rows()),
        **NOTES, role="a radiologist", question="Name the {n} most likely findings.", header="FINDINGS:",
        template="{age} years, {sex}: {note}", privileged=("gene",), named_in_text="mask",
    )  # fmt: skip
    data = task.load()
    first = data.samples[0]
    assert first.text == "40 years, f: Visit 0, cough for 0 days."
    assert (first.id, first.split, first.label, first.group) == ("p0", "train", "Effusion", "g0")
    assert first.privileged == {"gene": "KMT0D"} and "gene" not in first.subgroups
    assert data.labels.names == LABELS and task.list_length(3) == 2
    short, full = task.training_prompt(first, 2), task.inference_prompt(first, 2)
    assert short.messages[0].content == "You are a radiologist. Keep to the format."
    assert short.messages[1].content == f"{first.text}\nName the 2 most likely findings."
    assert full.messages[1].content.endswith("Format:\nFINDINGS:\n1. <name>\n2. <name>")
    assert "KMT" not in first.for_student("text").text + str(first.for_student("text").privileged)


def test_every_kind_of_table_gives_the_same_samples(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset, DatasetDict

    content = [{key: str(value).replace(",", ";") for key, value in row.items()} for row in rows()]
    pq.write_table(pa.Table.from_pylist(content), tmp_path / "a.parquet")
    Dataset.from_list(content).save_to_disk(str(tmp_path / "saved"))
    parts = {
        name: Dataset.from_list(
            [{k: v for k, v in row.items() if k != "split"} for row in content if row["split"] == name]
        )
        for name in ("train", "test")
    }
    DatasetDict(parts).save_to_disk(str(tmp_path / "parts"))
    places = {
        "csv": delimited(tmp_path / "a.csv", content),
        "tsv": delimited(tmp_path / "a.tsv", content, "\t"),
        "jsonl": lines(tmp_path / "a.jsonl", content),
        "parquet": tmp_path / "a.parquet",
        "datasets": tmp_path / "saved",
        "datasets parts": tmp_path / "parts",
    }
    found = {}
    for name, place in places.items():
        options = {**NOTES, "source": name.split()[0]}
        task = made(place, **options)
        assert task.recognises(place, task.config) == (options["source"],)
        found[name] = sorted(task.load().samples, key=lambda sample: sample.id)
    assert all(samples == found["csv"] for samples in found.values()), found
    assert len(found["csv"]) == 12


def test_images_with_their_notes(xrays):
    task = made(xrays, **IMAGES | {"columns": IMAGES["columns"] | {"text": "note"}}, modality="image+text")
    blind = task.load().samples[3].for_student("image+text")
    for prompt in (task.training_prompt(blind, 2), task.inference_prompt(blind, 2)):
        assert prompt.image == blind.image and blind.text in prompt.messages[1].content
    grey = np.asarray(blind.image.open())
    deep = np.asarray(Image.open(blind.image.path)).astype(int)
    np.testing.assert_array_equal(grey[..., 0], (deep + 128) // 257)


def test_the_teacher_of_a_text_student_sees_the_image(xrays):
    task = made(xrays, source="csv", columns={**IMAGES["columns"], "text": "note"})
    sample = task.load().samples[0]
    assert sample.image is not None and sample.for_student("text").image is None
    assert task.inference_prompt(sample, 2).image is None


@pytest.mark.parametrize("modality", ["text", "image", "image+text"])
@pytest.mark.parametrize("clause", TASK_CHECKS, ids=lambda check: check.__name__)
def test_the_clauses_of_a_task(xrays, modality, clause):
    columns = IMAGES["columns"] | ({} if modality == "image" else {"text": "note"})
    clause(made(xrays, source="csv", columns=columns, modality=modality))


def test_a_dataset_whose_images_stand_in_its_cells(xrays, tmp_path):
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import Image as ImageFeature

    content = [
        {"image": str(xrays.parent / "images" / f"{i}.png"), "label": i % 3, "patient": f"g{i // 3}"} for i in range(12)
    ]
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=list(LABELS)), "patient": Value("string")})
    Dataset.from_list(content, features).save_to_disk(str(tmp_path / "saved"))
    task = made(tmp_path / "saved", source="datasets", modality="image", columns={"group": "patient"})
    samples = {sample.id: sample for sample in task.load().samples}
    assert samples["saved, row 2"].label == "Normal"
    plain = {s.id: s for s in made(xrays, **IMAGES, modality="image").load().samples}
    for number in (0, 7):
        mine, other = samples[f"saved, row {number + 1}"], plain[f"p{number}"]
        assert mine.image.key == other.image.key
        np.testing.assert_array_equal(np.asarray(mine.image.open()), np.asarray(other.image.open()))


def test_rows_without_a_label_are_trained_on(tmp_path):
    content = [{key: value for key, value in row.items() if key != "split"} for row in rows(24)]
    content[4]["finding"] = float("nan")
    data = made(lines(tmp_path / "n.jsonl", content), **NOTES).load()
    unlabelled = [sample for sample in data.samples if sample.label is None]
    assert [(sample.id, sample.split) for sample in unlabelled] == [("p4", "train")]


def test_labels_by_another_name_and_from_a_file_with_aliases(tmp_path):
    content = rows()
    for place, row in enumerate(content):
        row["finding"] = place % 3
    path = lines(tmp_path / "n.jsonl", content)
    named = made(path, **NOTES, label_map={0: "Effusion", 1: "Normal", 2: "Pneumonia"}).load()
    assert [sample.label for sample in named.samples[:3]] == ["Effusion", "Normal", "Pneumonia"]
    (tmp_path / "labels.txt").write_text("Pneumonia; 2\nNormal; 1\nEffusion; 0\n")
    listed = made(path, **NOTES, labels=tmp_path / "labels.txt").load()
    assert listed.labels.names == ("Pneumonia", "Normal", "Effusion")
    assert [sample.label for sample in listed.samples] == [sample.label for sample in named.samples]
    assert made(path, **NOTES, numbers_are_names=True).load().labels.names == ("0", "1", "2")


def test_several_columns_without_a_template(tmp_path):
    columns = {**NOTES["columns"], "text": ("sex", "note")}
    content = rows()
    del content[0]["sex"]
    data = made(lines(tmp_path / "n.jsonl", content), source="jsonl", columns=columns).load()
    assert [s.text for s in data.samples[:2]] == [
        "note: Visit 0, cough for 0 days.",
        "sex: m\nnote: Visit 1, cough for 1 days.",
    ]
    assert data.facts["without sex"] == 1


# --- what the student may not read


@pytest.mark.parametrize(
    ("named_in_text", "text", "left"),
    [
        ("mask", "[label] or [label] since [gene] was found.", 12),
        ("keep", "Pneumonias or EFFUSION since KMT0D was found.", 12),
        ("drop", None, 11),
    ],
)
def test_names_of_all_labels_and_privileged_values_are_masked(tmp_path, named_in_text, text, left):
    content = rows()
    content[0]["note"] = "Pneumonias or EFFUSION since KMT0D was found."
    path = lines(tmp_path / "n.jsonl", content)
    data = made(path, **NOTES, privileged=("gene",), named_in_text=named_in_text).load()
    assert len(data.samples) == left
    assert text is None or data.samples[0].text == text
    assert "line 1: the text holds the name of a label" in refusal(path, **NOTES, named_in_text="refuse")


def test_new_texts_are_worded_as_in_training(tmp_path):
    new = lines(tmp_path / "new.jsonl", [{"id": "a", "note": "An effusion, perhaps."}, {"id": "b"}, {"note": ["x"]}])
    labels = LabelSpace(LABELS)
    task = TableTask(TableTask.Config(**NOTES, data=new), Context(labels=labels))
    found = list(task.read_inputs(new, Counter()))
    assert found[0].text == "An [label], perhaps."
    assert [isinstance(one, Unreadable) for one in found] == [False, True, True]
    unnamed = lines(tmp_path / "unnamed.jsonl", [{"note": "A cough."}])
    assert [one.id for one in task.read_inputs(unnamed, Counter())] == ["unnamed.jsonl, line 1"]  # as `load` calls it
    assert "holds a nested value" in found[2].reason


def test_new_images_of_a_folder_and_with_texts(xrays):
    task = made(xrays, **IMAGES, modality="image")
    assert len(list(task.read_inputs(xrays.parent / "images", Counter()))) == 12
    both = made(xrays, source="csv", columns={**IMAGES["columns"], "text": "note"}, modality="image+text")
    found = list(both.read_inputs(xrays, Counter()))
    assert len(found) == 12 and all(one.image is not None and one.text for one in found)
    with pytest.raises(DataError, match="write the texts into one"):
        list(both.read_inputs(xrays.parent / "images", Counter()))


# --- what is refused


def changed(**cells):
    return [
        {**row, **{key: value(row) if callable(value) else value for key, value in cells.items()}} for row in rows()
    ]


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        (rows(), {"columns": {"text": "notes", "label": "finding"}}, "no column 'notes'; did you mean 'note'?"),
        (rows(), {"columns": {"text": "note", "label": "findings"}}, "--set task.columns.label=NAME"),
        (rows(), {"columns": {"txt": "note"}}, "there is no field 'txt'; did you mean 'text'?"),
        (rows(), {"columns": {"label": ("finding", "note")}}, "task.columns.label takes one column"),
        (changed(finding=3), {}, "holds numbers (3), and mint ranks names"),
        (changed(finding=lambda row: row["id"]) * 1, {"labels": ("A", "B")}, "is not in the label space"),
        (changed(finding=float("nan"), split="train"), {}, "No sample has a label"),
        (changed(finding=["a"]), {}, "'finding' holds a nested value"),
        (changed(note=None), {}, "the text is empty"),
        (changed(finding="x" * 200), {}, "labels of up to 200 characters, which look like texts"),
        (changed(split="dev"), {}, "split 'dev' is not known"),
        (changed(id="p"), {}, "id 'p' stands in line 1 already"),
        (rows(), {"privileged": ("note",)}, "'note' is part of the text and stands in task.privileged"),
        (rows(), {"privileged": ("finding",)}, "which is the answer"),
        (rows(), {"privileged": ("patient",)}, "which mint reads as a field of its own"),
        (rows(), {"privileged": ("genes",)}, "no column 'genes'; did you mean 'gene'?"),
        (rows(), {"template": "{age} {nots}"}, "no column 'nots'; did you mean 'note'?"),
        (rows(), {"template": "{age.real}: {note}"}, "no column 'age.real'"),
        (rows(), {"template": "{note"}, "task.template: expected '}'"),
        (rows(), {"template": "{note!r}"}, "must be a column's name and nothing else"),
        (rows(), {"modality": "image", "columns": {"text": "note"}}, "The student reads images alone"),
        (rows(), {"modality": "image", "columns": {"label": "finding"}}, "no column 'image'"),
        (rows(), {"source": "csv", "data": "."}, "is a folder; name the file"),
        (rows(), {"source": "datasets", "data": "no/where/near"}, "There is nothing at no/where/near"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused_in_one_sentence(tmp_path, content, options, sentence):
    options = {**NOTES, "data": lines(tmp_path / "n.jsonl", content), **options}
    said = refusal(**options)
    assert sentence in said and "\n" not in said, said


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        (
            Counter(f"a{i}" for i in range(30_000)),
            "30,000 different labels in 30,000 rows, which looks like a column",
        ),
        (Counter({f"a{i}": 99 for i in range(20_001)}), "20,001 different labels in 1,980,099 rows"),
        (Counter({f"a{i}": 2 for i in range(500)}), None),
        (Counter({"a": 1, "b": 1}), None),
    ],
)
def test_a_column_of_ids_is_no_column_of_labels(counts, sentence):
    if sentence is None:
        check_label_column(counts, "case", TableTask.Config())
        return
    with pytest.raises(DataError, match=sentence):
        check_label_column(counts, "case", TableTask.Config())


def test_a_dataset_of_the_hub_that_cannot_be_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = refusal("some-lab/some-x-rays", source="datasets", revision="abc")
    assert "'some-lab/some-x-rays' at revision abc is not here and cannot be fetched" in said and "\n" not in said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"question": "Which?"}, "write {n} where the number of labels stands"),
        ({"header": "Findings"}, "ends with a colon"),
        ({"modality": "sound"}, "task 'table'"),
    ],
)
def test_words_that_no_prompt_can_be_made_of(mint, options, sentence, tmp_path):
    path = lines(tmp_path / "n.jsonl", rows())
    given = [part for key, value in options.items() for part in ("--set", f"task.{key}={value}")]
    answer = mint("config", "show", "--task", "table", "--data", path, *given)
    assert (answer.code, sentence in answer.err) == (2, True), answer.err


# --- beside the special tasks


def test_it_is_chosen_by_name_alone():
    from mint_core.config.choose import completed

    tasks = {"csv": "train.csv", "folder": "patches"}
    assert "table" in registry().names("task")
    for source in tasks:
        try:
            found = completed({"task": {"source": source}, "teacher": {"name": "file"}}, registry()).user["task"][
                "name"
            ]
        except ConfigError:
            continue
        assert found != "table"


@pytest.mark.parametrize("real", [False, True])
def test_the_histology_manifest_gives_the_samples_of_tissue_type(tmp_path, real):
    tissue = pytest.importorskip("mint_plip.task").TissueType
    place = HISTOLOGY
    if real and not (HISTOLOGY / "manifest.csv").is_file():
        pytest.skip("the histology images do not lie in ../shared/data")
    if not real:
        place = tmp_path
        content = [
            {
                "image": f"{i}.png",
                "label": ("colon", "lung")[i % 2],
                "group": f"g{i // 2}",
                "split": "test" if i > 7 else "train",
            }
            for i in range(12)
        ]
        for i in range(12):
            Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
        delimited(tmp_path / "manifest.csv", content)
    special = tissue(tissue.Config(source="folder", data=place, check_images=False)).load()
    mine = made(place / "manifest.csv", source="csv", modality="image", check_images=False).load()
    assert mine.samples == special.samples and mine.labels == special.labels


def test_a_task_of_ones_own_says_its_words_and_nothing_else(xrays):
    class ChestXRay(ManifestTask):
        """A chest X-ray in, findings out."""

        name = "chest-x-ray"
        role = "a radiologist"
        question = "Name the {n} most likely findings of this chest X-ray."
        header = "LIKELY_FINDINGS:"
        modality = "image"
        default_teacher = "features"
        columns = {"image": "file", "label": "finding", "group": "patient"}  # noqa: RUF012

    task = ChestXRay(ChestXRay.Config(source="csv", data=xrays))
    assert task.load().samples == made(xrays, **IMAGES, modality="image").load().samples
    assert "this chest X-ray" in task.training_prompt(task.load().samples[0], 2).messages[1].content


# --- many rows


@pytest.fixture
def many(monkeypatch):
    """A dozen rows are many, and are written into a file."""
    monkeypatch.setattr("mint_core.tasks.entries._IN_MEMORY", 3)
    monkeypatch.setattr("mint_core.tasks.entries._BATCH", 2)


def test_many_rows_are_the_same_samples_from_a_file(xrays, tmp_path, monkeypatch):
    columns = {**IMAGES["columns"], "text": "note"}
    options = TableTask.Config(source="csv", data=xrays, columns=columns, modality="image+text", privileged=("gene",))
    few = TableTask(options, Context(cache=tmp_path / "few")).load()
    assert not (tmp_path / "few").exists()
    monkeypatch.setattr("mint_core.tasks.entries._IN_MEMORY", 3)
    monkeypatch.setattr("mint_core.tasks.entries._BATCH", 2)
    data = TableTask(options, Context(cache=tmp_path / "many")).load()
    assert list(data.samples) == list(few.samples) == [data.samples[i] for i in range(12)]
    assert data.samples[-2:] == few.samples[10:] == list(few.samples)[10:] and data.samples[5:2] == []
    assert data.samples[8:1:-3] == [few.samples[i] for i in (8, 5, 2)] and data.subgroups == few.subgroups == (
        "sex",
        "age",
    )
    assert not any((tmp_path / "many").iterdir()), "what holds patients' texts has no name"
    with pytest.raises(IndexError):
        data.samples[12]


def test_a_key_is_made_once_though_samples_do_not_stay(xrays, tmp_path, many, monkeypatch):
    import pickle

    from mint_core.images import FileImage

    task = TableTask(TableTask.Config(source="csv", data=xrays, **{"columns": IMAGES["columns"], "modality": "image"}))
    task.context = Context(cache=tmp_path)
    samples = task.load().samples
    keys = [sample.image.key for sample in samples]
    assert keys[3] == FileImage(samples[3].image.path).key
    assert pickle.loads(pickle.dumps(samples[3].image)) == samples[3].image  # noqa: S301
    monkeypatch.setattr("hashlib.file_digest", None)
    assert [sample.image.key for sample in samples] == keys


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (changed(split=lambda row: "test" if row["id"] == "p1" else "train"), "Group 'g0' has samples in 'train' and"),
        (changed(split="train"), "The splits 'val' and 'test' have 0 samples"),
        (changed(id=lambda row: "p7" if row["id"] == "p3" else row["id"]), "line 8: id 'p7' stands in line 4 already"),
    ],
)  # fmt: skip
def test_leaks_between_many_rows_are_found(tmp_path, many, content, sentence):
    task = TableTask(TableTask.Config(**NOTES, data=lines(tmp_path / "n.jsonl", content)), Context(cache=tmp_path))
    with pytest.raises(DataError) as caught:
        task.load()
    assert sentence in str(caught.value)


def test_a_config_alone_gives_rankings(tmp_path, mint, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "n.jsonl", rows())
    (tmp_path / "notes.yaml").write_text(
        "task: {name: table, source: jsonl, data: n.jsonl, columns: {text: note, label: finding, group: patient}}\n"
        "teacher: {name: file, path: readers.csv}\n"
    )
    readers = [f"p{i},{','.join('.8' if i % 3 == place else '.1' for place in range(3))}" for i in range(12)]
    (tmp_path / "readers.csv").write_text("\n".join([f"id,{','.join(LABELS)}", *readers]))
    answer = mint("label", "--config", "notes.yaml", "--name", "notes")
    assert answer.code == 0, answer.err
    facts = json.loads((tmp_path / "runs" / "notes" / "rankings" / "teacher.json").read_text())
    assert facts["top_1"]["test"]["top_1"] == 1.0, facts
