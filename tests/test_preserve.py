"""`mint preserve`: general ability before and after, on a tiny student and tasks of two items."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

import mint_core
from mint_core.errors import ConfigError, DataError, MintError
from mint_core.preservation.harness import load_tasks
from mint_core.preservation.local import correct_share, local_tasks, with_data
from mint_core.preservation.results import read_preserved
from mint_core.preservation.wanted import Wanted

pytest.importorskip("lm_eval", reason="general ability needs the extra preserve")

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
ITEMS = {
    "gsm8k_test": [{"question": f"What is {n} + 1?", "answer": f"It is {n + 1}.\n#### {n + 1}"} for n in (1, 2)],
    "gsm8k_fewshot": [{"question": f"What is {n} + 0?", "answer": f"#### {n}"} for n in range(6)],
    "hellaswag_val": [{"context": "The liver", "endings": ["is a gland.", "Skin", "Colon"], "label": 0}] * 2,
    "mmlu_medical_test": [
        {"subject": "anatomy", "question": f"Which {n}?", "choices": ["Skin", "Liver", "Colon", "Kidney"], "answer": n}
        for n in (1, 2)
    ],
    "pubmedqa_test": [{"context": "A patch.", "question": "Is it skin?", "answer": one} for one in ("yes", "maybe")],
    "truthfulqa": [
        {
            "question": "What is skin?",
            "best_answer": "An organ",
            "correct_answers": ["An organ", "A tissue"],
            "incorrect_answers": ["A bone"],
        },
        {"question": "What is bone?", "best_answer": "A", "correct_answers": ["A"], "incorrect_answers": ["B", "C"]},
    ],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("general")
    for name, items in ITEMS.items():
        (place / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return place


@pytest.fixture
def toy(install_plugin, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """A run on the toy plugin, whose adapter changes nothing: its learning rate is almost zero."""
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    aligner = {"name": "orpo", "epochs": 1, "warmup": 0, "lora_rank": 2, "batch_size": 8}
    student = {"model": str(folder), "device": "cpu"}
    return {"task": "toy", "student": student, "out": str(tmp_path / "runs"), "name": "t", "aligner": aligner}


def zero(adapter: Path) -> None:
    """Makes an adapter of nothing of a trained one, and seals it anew."""
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: value * 0 for name, value in weights.items()}, adapter / "adapter_model.safetensors")


def test_base_against_a_zero_adapter_differs_by_nothing_and_the_run_says_so(mint, toy, data, tmp_path: Path) -> None:
    how = ("--aligners", "base,orpo", "--seeds", 1, "--preserve", "local_truthfulqa_mc2", "--preserve-data", data)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(toy))
    compared = mint("compare", "--config", tmp_path / "c.yaml", *how)
    assert compared.code == 0, compared.err
    found = json.loads((tmp_path / "runs" / "t" / "compare.json").read_text())
    base, orpo = (row["tasks"]["local_truthfulqa_mc2"] for row in found["preserved"]["rows"])
    assert "difference" not in base
    assert orpo["difference"]["n"] == base["n"] == 2
    assert orpo["difference"]["mean"] == pytest.approx(orpo["mean"] - base["mean"]) != 0  # the adapter answers
    assert found["config"]["compare"]["preserve"]["suite"] == ["local_truthfulqa_mc2"]
    assert "local_truthfulqa_mc2 (n = 2)" in (tmp_path / "runs" / "t" / "compare.md").read_text()
    assert len(list((tmp_path / "runs" / ".cache" / "preserve").glob("*.json"))) == 2  # the base is asked once

    run = tmp_path / "runs" / "t" / "orpo-seed0"
    assert "local_truthfulqa_mc2" in (run / "report.html").read_text()
    again = mint("run", "--config", run / "run.json")
    assert again.code == 0, again.err
    assert again.err.count("complete, reused") == 6
    zero(run / "adapter")
    suite = "local_mmlu_medical,local_truthfulqa_mc2,local_gsm8k"
    said = mint("preserve", run, "--suite", suite, "--data", data, "--shots", 1)
    assert said.code == 0, said.err
    content = json.loads((run / "preserve.json").read_text())
    assert [row["task"] for row in content["rows"]] == suite.split(",")
    for row in content["rows"]:
        assert row["difference"]["mean"] == 0
        assert row["difference"]["ties"] == row["n"] == row["base"]["n"] == 2
        assert row["base"] == row["aligned"]
    assert content["rows"][0]["shots"] == [0]  # a task's own 0 stands
    assert content["rows"][2]["shots"] == [1]
    assert 0 < content["rows"][1]["base"]["mean"] < 1
    assert "aligned - base (paired)" in said.out
    assert "--limit" not in said.out

    card = (run / "adapter" / "README.md").read_text()
    assert card.count("## General ability") == 1
    assert "local_mmlu_medical" in card
    page = (run / "report.html").read_text()
    assert "General ability" in page
    assert "<svg" in page.partition("General ability</h2>")[2].partition("<h2")[0]
    assert "local_gsm8k" in (run / "preserve.svg").read_text()
    assert "What is 1" not in "".join(one.read_text() for one in (tmp_path / "runs" / ".cache").rglob("*.json"))

    # Measured again with a limit, every output says so, and what is about another adapter is not shown.
    limited = mint("preserve", run, "--suite", "local_mmlu_medical", "--data", data, "--limit", 1)
    assert limited.code == 0, limited.err
    told = "ONLY 1 ITEMS OF EACH TASK, DRAWN AT RANDOM (--limit)"
    card = (run / "adapter" / "README.md").read_text()
    assert card.count("## General ability") == card.count(told) == 1
    assert "report is as it was" not in limited.err, limited.err
    for place in (run / "report.html", run / "preserve.svg"):
        assert told in place.read_text()
    assert told in limited.out
    assert "1 of 2" in limited.out
    assert read_preserved(run, run / "adapter") is not None
    whole = (run / "preserve.json").read_text()
    for damaged in ("{", "[]", '{"rows": 1}', whole.replace('"shots"', '"other"')):
        (run / "preserve.json").write_text(damaged)
        assert read_preserved(run, run / "adapter") is None
    (run / "preserve.json").write_text(whole)
    (run / "adapter" / "adapter_model.safetensors").write_bytes(b"another")
    assert read_preserved(run, run / "adapter") is None
    assert mint("align", "--config", run / "run.json").code == 0  # the adapter is made again
    assert not list(run.glob("preserve.*"))


def test_a_task_that_is_done_is_not_asked_again_and_a_damaged_value_is(folder, data, tmp_path, monkeypatch) -> None:
    from mint_core.preservation import harness

    asked = []
    real = harness.Model.ask

    def ask(self, task, wanted, *, adapter):
        if len(asked) == 1 and stop:
            raise KeyboardInterrupt
        asked.append(task.name)
        return real(self, task, wanted, adapter=adapter)

    monkeypatch.setattr(harness.Model, "ask", ask)
    how = {
        "student": {"model": str(folder), "device": "cpu"},
        "suite": ("local_mmlu_medical", "local_hellaswag"),
        "data": data,
        "out": tmp_path,
    }
    stop = True
    with pytest.raises(KeyboardInterrupt):
        mint_core.preserve(**how)
    stop = False
    first = mint_core.preserve(**how)
    assert asked == ["local_mmlu_medical", "local_hellaswag"]  # the first was kept before the interruption
    assert first.content["adapter"] is None
    assert "aligned" not in first.content["rows"][0]
    assert first.path == tmp_path / f"preserve-{folder.name}"
    asked.clear()
    assert mint_core.preserve(**how).content == first.content
    assert asked == []
    for kept in (tmp_path / ".cache" / "preserve").glob("*.json"):
        if '"task": "local_hellaswag"' in kept.read_text():
            kept.write_text(kept.read_text().replace("1.0", "0.0").replace("0.5", "0.0") + " ")
    assert mint_core.preserve(**how).content == first.content
    assert asked == ["local_hellaswag"]
    asked.clear()
    mint_core.preserve(**how, limit=1)
    assert len(asked) == 2  # other items


def test_tasks_of_ones_own_come_from_a_folder_that_is_named(folder: Path, data: Path, tmp_path: Path) -> None:
    own = tmp_path / "tasks"
    own.mkdir()
    (own / "own.yaml").write_text(
        yaml.safe_dump(
            {
                "task": "own_two",
                "custom_dataset": "CODE",
                "output_type": "multiple_choice",
                "test_split": "test",
                "doc_to_text": "{{q}}",
                "doc_to_choice": ["yes", "no"],
                "doc_to_target": "a",
                "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
            }
        ).replace("CODE", "!function code.items")
    )
    (own / "code.py").write_text(
        "import datasets\n\ndef items(**_):\n"
        "    rows = [{'q': 'Is it skin?', 'a': 'yes'}, {'q': 'Is it bone?', 'a': 'no'}]\n"
        "    return datasets.DatasetDict({'test': datasets.Dataset.from_list(rows)})\n"
    )
    student = {"model": str(folder), "device": "cpu"}
    made = mint_core.preserve(student=student, suite="own_two", include_path=own, out=tmp_path)
    assert [(row["task"], row["n"], row["metric"]) for row in made.content["rows"]] == [("own_two", 2, "acc")]
    with pytest.raises(ConfigError, match="is no folder"):
        mint_core.preserve(student=student, suite="own_two", include_path=tmp_path / "none", out=tmp_path)


def test_what_is_not_known_or_not_there_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    def refused(**how) -> MintError:
        with pytest.raises(MintError) as error:
            mint_core.preserve(student={"model": str(folder), "device": "cpu"}, out=tmp_path, **how)
        assert "\n" not in str(error.value)
        return error.value

    unknown = refused(suite="hellaswagg")
    assert isinstance(unknown, ConfigError)
    assert "knows no task 'hellaswagg'; did you mean 'hellaswag'?" in str(unknown)
    absent = refused(suite="hellaswag")
    assert isinstance(absent, DataError)
    assert "hf download --repo-type dataset Rowan/hellaswag" in str(absent)
    assert isinstance(refused(suite="h6"), DataError)
    assert "has no task for SEED-Bench" in str(refused(suite="seed-bench"))
    assert "--data FOLDER" in str(refused(suite="local"))
    assert "--name takes letters" in str(refused(suite="local", name="../x"))
    with pytest.raises(ConfigError, match="one of the two"):
        mint_core.preserve(suite="local")
    with pytest.raises(ConfigError, match=r"no run\.json"):
        mint_core.preserve(tmp_path, suite="local")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "Line 3 of .* is no JSON"),
        ("[1]", "Line 3 of .*: `context` must be a text"),
        ('{"context": "c", "endings": ["a", "b"], "label": 2}', "`label` must be position of endings"),
        ('{"context": "c", "endings": [], "label": 0}', "`endings` must be a list of texts"),
        ('{"context": 1, "endings": ["a", "b"], "label": 0}', "`context` must be a text"),
    ],
)
def test_a_damaged_line_is_named(data: Path, tmp_path: Path, line: str, told: str) -> None:
    place = shutil.copy(data / "hellaswag_val.jsonl", tmp_path / "mine.jsonl")
    with Path(place).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(DataError, match=told):
        with_data("local_hellaswag", [f"hellaswag_val={place}"])


def test_files_are_found_by_name_and_missing_ones_named(data: Path, tmp_path: Path) -> None:
    assert len(local_tasks()) == 6
    assert list(local_tasks())[-1] == "local_gsm8k"
    with pytest.raises(DataError, match=r"needs hellaswag_val\.jsonl, which is not in"):
        with_data("local_hellaswag", [str(tmp_path)])
    with pytest.raises(ConfigError, match="'hellaswagval' is no file of a local task; did you mean 'hellaswag_val'"):
        with_data("local_hellaswag", ["hellaswagval=x"])
    (tmp_path / "pubmedqa_test.jsonl").write_text("\n")
    with pytest.raises(DataError, match="holds no item"):
        with_data("local_pubmedqa", [str(tmp_path)])


def test_the_share_of_the_correct_answers() -> None:
    # Likelihoods 1/2, 1/4 (correct) and 1/4 (false): (1/2 + 1/4) / 1 = 3/4.
    from math import log

    doc = {"correct_answers": ["a", "b"]}
    assert correct_share(doc, [(log(0.5), True), (log(0.25), False), (log(0.25), False)])["acc"] == pytest.approx(0.75)


def test_a_limit_draws_items_of_a_sorted_file(folder: Path, data: Path, tmp_path: Path) -> None:
    """The first twenty answers are all "yes": the first ten items would be asked about one answer alone."""
    answers = ["yes"] * 20 + ["no"] * 20
    items = [{"context": "A patch.", "question": f"Is it {n}?", "answer": one} for n, one in enumerate(answers)]
    place = tmp_path / "sorted"
    shutil.copytree(data, place)
    (place / "pubmedqa_test.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    how = {"suite": ("local_pubmedqa",), "data": (str(place),), "limit": 10}
    (asked,) = load_tasks(Wanted(**how))
    assert (asked.asked, asked.total) == (10, 40)
    assert {request.doc["answer"] for request in asked.task.instances} == {"yes", "no"}
    student = {"model": str(folder), "device": "cpu"}
    (row,) = mint_core.preserve(student=student, out=tmp_path, **how).content["rows"]
    assert row["n"] == 10
