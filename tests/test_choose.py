"""Which task, source and teacher a config means: they follow from the data; what does not fit is refused."""

import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import mint_core
from mint_core.answering import setting
from mint_core.config import resolve
from mint_core.errors import ConfigError, ContractError, DataError, MintError
from mint_core.interfaces import Teacher
from mint_core.plugins import registry

PACKET = {"id": "p", "subject": {"id": "s"}, "phenotypicFeatures": [], "metaData": {}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small stand-ins of all that the sources of both tasks read, and of what none does."""
    root = tmp_path_factory.mktemp("data")
    for name in ("patches/Colon/1.png", "patches/Lung/2.png", "split/train/Colon/a.png", "flat/a.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    for name in ("fold1", "Fold 2/images/fold2"):
        (root / "pannuke" / name).mkdir(parents=True)
        (root / "pannuke" / name / "images.npy").touch()
    tables = {
        "manifest.csv": "image,label\na.png,Colon\n",
        "semicolon.csv": "image;label\na.png;Colon\n",
        "listed/manifest.csv": "label,image\nColon,a.png\n",
        "notes.csv": "id,text,label\n1,tall,Marfan syndrome\n",
        "notes.tsv": "id\ttext\tlabel\n1\ttall\tMarfan syndrome\n",
        "notes.jsonl": '{"text": "tall"}\n{"text": "tall", "label": "Marfan syndrome"}\n',
        "own.jsonl": '{"clinical_note": "tall", "label": "Marfan syndrome"}\n',
        "gmdb/image_metadata_v1.tsv": "image_id\tfilename\tpresent_features\n1\ta.jpg\tHP:0001250\n",
        "faces.csv": "text,label,image\ntall,Marfan syndrome,a.png\n",
        "odd.csv": "a,b\n1,2\n",
        "empty.csv": "",
        "packets/deep/a.json": json.dumps(PACKET),
        "others/a.json": '{"hello": 1}',
        "half.json": '{"id": ',
    }
    for name, content in tables.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    with zipfile.ZipFile(root / "packets.zip", "w") as archive:
        archive.writestr("a.json", json.dumps(PACKET))
    return root


@pytest.mark.parametrize(
    ("name", "task", "source"),
    [
        ("patches", "tissue-type", "folder"),
        ("split", "tissue-type", "folder"),
        ("manifest.csv", "tissue-type", "folder"),
        ("semicolon.csv", "tissue-type", "folder"),
        ("listed", "tissue-type", "folder"),
        ("pannuke", "tissue-type", "pannuke"),
        ("notes.csv", "rare-disease", "csv"),
        ("notes.tsv", "rare-disease", "csv"),
        ("notes.jsonl", "rare-disease", "jsonl"),
        ("gmdb", "rare-disease", "gmdb"),
        ("gmdb/image_metadata_v1.tsv", "rare-disease", "gmdb"),
        ("packets", "rare-disease", "phenopackets"),
        ("packets.zip", "rare-disease", "phenopackets"),
        ("packets/deep/a.json", "rare-disease", "phenopackets"),
    ],
)
def test_task_and_source_follow_from_the_data(data: Path, name: str, task: str, source: str) -> None:
    found = resolve({"task": {"data": str(data / name)}}, registry())
    assert (found.task.name, found.task.config.source) == (task, source)
    assert any(source in note for note in found.notes)
    named = resolve({"task": {"name": task, "data": data / name}}, registry())
    assert named.dump() == found.dump()
    again = resolve(found.dump(), registry())
    assert (again.dump(), again.notes) == (found.dump(), ())


def test_columns_that_the_user_names_count(data: Path) -> None:
    task = {"data": str(data / "own.jsonl"), "columns": {"text": "clinical_note"}}
    assert resolve({"task": task}, registry()).task.config.source == "jsonl"
    task = {"data": str(data / "odd.csv"), "image_column": "a", "label_column": "b"}
    assert resolve({"teacher": "plip", "task": task}, registry()).task.config.source == "folder"


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ({"task": {"name": "rare-disease", "data": "odd.csv"}}, ("--source (phenopackets, gmdb, csv, jsonl)",)),
        ({"task": {"name": "rare-disease", "data": "half.json"}}, ("No source of rare-disease recognises",)),
        ({"task": {"name": "rare-disease", "data": "others"}}, ("No source of rare-disease recognises",)),
        ({"task": {"name": "tissue-type", "data": "flat"}}, ("--source (pannuke, folder)",)),
        ({"task": {"name": "tissue-type", "data": "empty.csv"}}, ("--source (pannuke, folder)",)),
        (
            {"teacher": "plip", "task": {"data": "packets.zip"}},
            ("--source (pannuke, folder)", "of the task rare-disease"),
        ),
        ({"task": {"data": "faces.csv"}}, ("Which task?", "rare-disease, tissue-type")),
        ({"task": {"data": "odd.csv"}}, ("Which task?",)),
        ({"task": {"name": "tissue-type", "source": "simulated", "data": "patches"}}, ("reads no data", "folder")),
        ({"task": {"name": "tissue-type", "source": "csv"}}, ("source of the task rare-disease", "pannuke and folder")),
        ({"task": {"source": "fodler"}}, ("did you mean 'folder'",)),
    ],
)
def test_what_is_not_clear_is_asked_with_what_there_is(data: Path, user: dict, words: tuple[str, ...]) -> None:
    task = {**user["task"]}
    if "data" in task:
        task["data"] = str(data / task["data"])
    with pytest.raises(ConfigError) as error:
        resolve({**user, "task": task}, registry())
    assert all(word in str(error.value) for word in words), str(error.value)


def test_data_that_are_not_there_train_nothing(mint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way to a config: flags, --set, a file, Python, and every command that makes one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mint.yaml").write_text("task: {name: tissue-type, data: nowhere}\n")
    ways = [
        ("run", "--teacher", "plip", "--data", "nowhere"),
        ("label", "--teacher", "plip", "--set", "task.data=nowhere"),
        ("run", "--config", "mint.yaml"),
        ("compare", "--teacher", "plip", "--aligners", "base,orpo", "--data", "nowhere"),
        ("compare", "--teacher", "plip", "--row", "a=orpo:task.data=nowhere"),
        ("sweep", "--teacher", "plip", "--aor", "5/5", "--data", "nowhere"),
        ("plan", "--teacher", "plip", "--data", "nowhere"),
        ("config", "show", "--resolved", "--data", "nowhere"),
        ("predict", "--endpoint", "http://localhost:1/v1", "--model", "m", "--input", "x", "--data", "nowhere"),
    ]
    for arguments in ways:
        answer = mint(*arguments)
        assert (answer.code, "nothing at nowhere" in answer.err) == (4, True), (arguments, answer.err)
    with pytest.raises(DataError, match="nothing at nowhere"):
        mint_core.run(task={"name": "rare-disease", "data": "nowhere"})
    assert not (tmp_path / "runs").exists()


def test_a_task_with_one_reader_reads_with_it(install_plugin, tmp_path: Path) -> None:
    install_plugin("mint-toy", "toy_choose", Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8"))
    (tmp_path / "records").touch()
    user = {"task": {"name": "toy", "data": str(tmp_path / "records")}, "student": "x"}
    assert resolve(user, registry()).task.config.source == "file"


@pytest.mark.parametrize(
    ("user", "task", "teacher"),
    [
        ({"teacher": "regression"}, "rare-disease", "regression"),
        ({"teacher": "gestalt"}, "rare-disease", "gestalt"),
        ({"retriever": "hpo"}, "rare-disease", "gestalt"),
        ({"task": {"source": "pannuke", "data": "."}}, "tissue-type", "plip"),
    ],
)
def test_the_task_follows_from_what_serves_it(user: dict, task: str, teacher: str) -> None:
    found = resolve(user, registry())
    assert (found.task.name, found.teacher.name) == (task, teacher)


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        (
            {"task": "tissue-type", "teacher": "gestalt"},
            "for tissue-type there are clip, ensemble, features, file, plip and vlm",
        ),
        (
            {"task": "rare-disease", "teacher": "plip"},
            "for rare-disease there are ensemble, features, file, gestalt, regression and vlm",
        ),
        ({"teacher": "plip", "retriever": "hpo"}, "reads images"),
        ({"teacher": "plip", "task": {"source": "phenopackets", "data": "."}}, "a source of the task rare-disease"),
    ],
)
def test_a_wrong_pairing_is_refused_at_once(user: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        resolve(user, registry())


MINE = """
import numpy as np
from mint_core.plugin import Metric, Teacher, hookimpl

class Free(Teacher):
    name = "free"

    def log_probs(self, samples):
        return np.log(np.full((len(samples), len(self.labels)), 1 / len(self.labels), np.float32))

class Narrow(Free):
    name = "narrow"
    tasks = ("toy",)

class Sighted(Free):
    name = "sighted"
    reads = ("image",)

class OfToys(Metric):
    name = "of-toys"
    tasks = ("toy",)

    def score(self, sample):
        return 1.0

@hookimpl
def mint_teachers():
    return [Free, Narrow, Sighted]

@hookimpl
def mint_metrics():
    return [OfToys]
"""


def test_a_stranger_that_declares_nothing_serves_every_task(install_plugin) -> None:
    install_plugin("mint-mine", "mine_choose", MINE)
    components = registry()
    for task in ("tissue-type", "rare-disease"):
        found = resolve({"task": task, "teacher": "free"}, components)
        assert found.teacher.name == "free"
        assert "of-toys" not in found.metrics
        with pytest.raises(
            ConfigError, match=r"'narrow' serves toy, not .* there are .*ensemble, features, file, free"
        ):
            resolve({"task": task, "teacher": "narrow"}, components)
        with pytest.raises(ConfigError, match="metric 'of-toys' serves toy"):
            resolve({"task": task, "metrics": ["hfa", "of-toys"]}, components)


def test_a_teacher_without_what_it_reads_is_refused_before_anything_is_computed(install_plugin, tmp_path: Path) -> None:
    install_plugin("mint-toy", "toy_choose", Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8"))
    install_plugin("mint-mine", "mine_choose", MINE)
    with pytest.raises(MintError, match=r"teacher 'sighted' reads an image of every sample.* none") as error:
        mint_core.run(task="toy", teacher="sighted", student="any", out=str(tmp_path / "runs"))
    assert "for toy there are ensemble, features, file, free, narrow, oracle, regression and vlm" in str(error.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("answer", ["'file'", "('fiel',)", "[]"])
def test_a_task_that_recognises_something_else_is_named(install_plugin, tmp_path: Path, answer: str) -> None:
    own = f"""    @classmethod
    def recognises(cls, place, config):
        return {answer}

    def list_length("""
    toy = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8").replace("    def list_length(", own, 1)
    install_plugin("mint-toy", "toy_choose", toy)
    with pytest.raises(ContractError, match="`recognises` of the task 'toy'"):
        resolve({"task": {"name": "toy", "data": str(tmp_path)}, "student": "x"}, registry())


@pytest.mark.parametrize("declared", ["tasks = 'toy'", "reads = ('smell',)", "reads = 'text'"])
def test_what_is_declared_in_another_form_is_told_at_discovery(install_plugin, declared: str) -> None:
    body = MINE.replace('tasks = ("toy",)\n\nclass Sighted', f"{declared}\n\nclass Sighted", 1)
    install_plugin("mint-mine", "mine_choose", body)
    assert [broken.distribution for broken in registry().broken] == ["mint-mine"]
    assert Teacher.reads == ()


@pytest.mark.parametrize(
    ("given", "decode"),
    [
        ({}, "constrained"),
        ({"predict": {"decode": "free"}}, "free"),
        ({"predict": {"decode": "score"}}, "score"),
        ({"predict": {"engine": "vllm"}}, "free"),
        ({"student": {"model": "some/student"}}, "free"),
    ],
)
def test_the_embedded_student_on_ones_own_labels_writes_known_labels_only(tmp_path, given, decode) -> None:
    (tmp_path / "notes.csv").write_text("id,text,label\n1,a,Flu\n")
    task = {"name": "rare-disease", "source": "csv", "data": str(tmp_path / "notes.csv")}
    found = resolve({"task": task, **given}, registry())
    assert found.config.predict.decode == decode
    assert any("constrained decoding" in note for note in found.notes) == (not given)
    assert resolve({"task": "rare-disease"}, registry()).config.predict.decode == "free"


def test_a_section_that_is_no_mapping_is_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match="predict"):
        resolve({"task": "rare-disease", "predict": 3}, registry())


@pytest.mark.parametrize(
    ("simulated", "user", "decode"),
    [
        (False, {}, "constrained"),
        (False, {"student": {"device": "cpu"}}, "constrained"),
        (False, {"predict": {"decode": "free"}}, "free"),
        (False, {"student": {"model": "some/student"}}, "free"),
        (False, {"predict": {"engine": "vllm"}}, "free"),
        (True, {}, "free"),
    ],
)
def test_new_samples_are_decoded_as_the_run_did(simulated: bool, user: dict, decode: str) -> None:
    record = SimpleNamespace(student=SimpleNamespace(model="embedded"), simulated=simulated)
    assert setting._predict(user, record).decode == decode
