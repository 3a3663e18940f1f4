"""`mint predict`: new samples from a real adapter of a real run, and from a real HTTP server."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import mint_core
from mint_core.answering import endpoint
from mint_core.answering.formats import Csv, JsonLines, Written
from mint_core.answering.outcome import Outcome
from mint_core.answering.page import Heading, HtmlPage
from mint_core.answering.record import read_record
from mint_core.answering.standard_input import as_file
from mint_core.errors import ModelError
from mint_core.files import digest_of_path
from mint_core.retrieval import fusion
from mint_core.students.adapter import adapter_config
from mint_core.types import LabelSpace
from tests.servers import LIST, Server, says
from tests.tiny_students import LABELS, build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
SECRET = "SECRET-PATIENT-TEXT"  # noqa: S105 - no password
NOTES = [{"id": f"n{i}", "text": f"{SECRET} of note {i}"} for i in range(6)]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def adapter(install_plugin, run_folder: Path) -> Path:
    """Of one toy run, made by the first test that needs it."""
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    if not (run_folder / "runs" / "t").exists():
        patients = [
            {"id": f"p{i}", "split": "train" if i % 3 else "test", "label": LABELS[i % 6], "group": None}
            for i in range(24)
        ]
        (run_folder / "patients.json").write_text(json.dumps(patients))
        data = str(run_folder / "patients.json")
        mint_core.run(
            {
                "task": {"name": "toy", "secret": "patient", "source": "file", "data": data},
                "student": {"model": str(build("llama", run_folder / "llama"))},
                "out": str(run_folder / "runs"),
                "name": "t",
                "aligner": {"name": "orpo", "epochs": 3, "warmup": 0, "lora_rank": 8, "learning_rate": 5e-3},
            },
            until="align",
        )
    return run_folder / "runs" / "t" / "adapter"


def write(path: Path, notes: list[dict]) -> Path:
    path.write_text("".join(json.dumps(note) + "\n" for note in notes))
    return path


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return write(tmp_path / "notes.jsonl", NOTES)


@pytest.fixture
def predict(mint, adapter: Path, notes: Path):
    """The command on the toy's adapter and notes."""

    def call(*options: object, source: Path = notes):
        return mint("predict", "--adapter", adapter, "--input", source, "--device", "cpu", *options)

    return call


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# --- the adapter's folder


def test_the_adapter_says_what_it_needs_and_stays_a_plain_peft_folder(adapter: Path, run_folder: Path) -> None:
    from peft import PeftConfig

    assert PeftConfig.from_pretrained(str(adapter)).peft_type == "LORA"
    record = read_record(adapter)
    assert (record.format, record.task.name, record.header) == (1, "toy", "MOST_LIKELY_TISSUE:")
    assert (record.labels, record.n, record.simulated) == (LABELS, 2, True)
    assert record.student.model == str((run_folder / "llama").resolve())
    assert "data" not in record.task.config  # a path says where somebody's patients lie
    content = (adapter / "mint.json").read_text()
    assert str(run_folder / "patients") not in content
    assert '"p1"' not in content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds no mint.json"),
        ("{", "cannot be read"),
        ('{"format": 99}', "install a newer mint-core"),
        ('{"format": 1}', "is damaged at mint"),
        ("[]", "is damaged"),
    ],
)
def test_an_adapter_without_a_sound_record_is_one_sentence(
    mint, adapter: Path, notes: Path, tmp_path: Path, content, said: str
) -> None:
    copy = shutil.copytree(adapter, tmp_path / "copy")
    (copy / "mint.json").unlink()
    if content is not None:
        (copy / "mint.json").write_text(content)
    answer = mint("predict", "--adapter", copy, "--input", notes)
    assert (answer.code, said in answer.err) == (6, True), answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json", "mint.json"])
def test_an_adapter_that_was_changed_is_refused_or_named(
    mint, adapter: Path, notes: Path, tmp_path: Path, file: str
) -> None:
    """One byte of the weights, one option, one letter of a label; the card is for people."""
    changed = shutil.copytree(adapter, tmp_path / "copy")
    (changed / "README.md").write_text("mine")
    assert mint("predict", "--adapter", changed, "--input", notes).code == 0
    data = bytearray((changed / file).read_bytes())
    if file == "adapter_model.safetensors":
        data[-5] ^= 1
    else:
        data = data.replace(b'"Colon"', b'"Cokon"').replace(b'"lora_dropout": 0.05', b'"lora_dropout": 0.06')
    assert bytes(data) != (changed / file).read_bytes()
    (changed / file).write_bytes(data)
    answer = mint("predict", "--adapter", changed, "--input", notes)
    assert (answer.code, f"{file} in {changed} is not as the training left it" in answer.err) == (6, True), answer.err
    assert answer.out == ""
    answer = mint("predict", "--adapter", changed, "--input", notes, "--allow-changed")
    assert (answer.code, answer.err.count("is not as the training left it")) == (0, 1), answer.err


def test_a_run_or_nothing_at_all_in_place_of_an_adapter(mint, adapter: Path, notes: Path, tmp_path: Path) -> None:
    run = mint("predict", "--adapter", adapter.parent, "--input", notes)
    assert (run.code, f"give --adapter {adapter}" in run.err) == (6, True)
    assert mint("predict", "--adapter", tmp_path / "nowhere", "--input", notes).code == 6


def test_a_folder_that_holds_adapters_is_called_by_its_name(mint, adapter: Path, notes: Path, tmp_path: Path) -> None:
    made = [shutil.copytree(adapter, tmp_path / "cmp" / row / "adapter") for row in ("orpo-seed0", "sft-seed0")]
    whole, runs = tmp_path / "cmp", tmp_path
    for said, folder, name in (("a comparison", whole, "compare.json"), ("a sweep", whole, "sweep.json")):
        (folder / name).write_text("{}")
        answer = mint("predict", "--adapter", folder, "--input", notes)
        assert (answer.code, f"{folder} is {said}, not an adapter" in answer.err) == (6, True), answer.err
        assert all(str(path) in answer.err for path in made) and "move" not in answer.err
        (folder / name).unlink()
    answer = mint("predict", "--adapter", runs, "--input", notes)
    assert "is a folder of runs, not an adapter" in answer.err and str(made[0]) in answer.err
    with pytest.raises(ModelError, match=r"give one of these with --set aligner\.sft_adapter"):
        adapter_config(whole)
    (tmp_path / "empty").mkdir()
    answer = mint("predict", "--adapter", tmp_path / "empty", "--input", notes)
    assert (answer.code, "is no adapter: it holds no mint.json" in answer.err) == (6, True), answer.err
    assert "move" not in answer.err


@pytest.mark.parametrize("other", [{"hidden_size": 64}, {"num_hidden_layers": 1}])
def test_a_student_of_other_sizes_is_refused(predict, adapter: Path, tmp_path: Path, other: dict) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = shutil.copytree(read_record(adapter).student.model, tmp_path / "other")
    config = LlamaConfig.from_pretrained(folder)
    config.update(other)
    LlamaForCausalLM(config).save_pretrained(folder)
    answer = predict("--student", folder)
    assert (answer.code, "does not fit this student" in answer.err) == (6, True), answer.err


def test_a_student_of_other_weights_is_named(predict, adapter: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    other = shutil.copytree(read_record(adapter).student.model, tmp_path / "other")
    same = predict("--student", other)
    assert (same.code, "not, file by file" in same.err) == (0, False)
    model = AutoModelForCausalLM.from_pretrained(other)
    with torch.no_grad():
        model.lm_head.weight.mul_(1.5)
    model.save_pretrained(other)
    answer = predict("--student", other)
    assert (answer.code, "not, file by file" in answer.err) == (0, True)


# --- answers


def test_free_answers_are_those_of_the_stage(predict, adapter: Path, notes: Path) -> None:
    from mint_core.answering.generate import generate
    from mint_core.config import StudentConfig
    from mint_core.plugins import registry
    from mint_core.students.adapter import load_adapter
    from mint_core.students.encoding import StudentCounter, response_budget
    from mint_core.students.load import load_student
    from mint_core.students.prompts import parse_response
    from mint_core.types import Sample

    answer = predict("--response")
    assert answer.code == 0, answer.err
    assert "simulated" in answer.err
    assert "notes read: 6" in answer.err
    records = lines(answer.out)
    assert [record["id"] for record in records] == [note["id"] for note in NOTES]

    student = load_student(StudentConfig(model=read_record(adapter).student.model, device="cpu"))
    task = registry().get("task", "toy").component()
    prompts = {n["id"]: task.inference_prompt(Sample(n["id"], "test", text=n["text"]), 2) for n in NOTES}
    budget = response_budget(StudentCounter(student), task.header, LabelSpace(LABELS), 2)
    model = load_adapter(student.model, adapter)
    expected = dict(generate(student, prompts, max_new_tokens=budget, batch_size=32, model=model))
    assert {record["id"]: record["response"] for record in records} == expected
    for record in records:
        assert tuple(record["labels"]) == parse_response(record["response"], task.header).labels
        assert record["probabilities"] is record["normalised_probabilities"] is record["missing_mass"] is None
        assert record["abstained"] is False


def test_scores_rank_the_whole_space_and_the_threshold_abstains(predict) -> None:
    records = lines(predict("--decode", "score", "--top", 100).out)
    for record in records:
        assert sorted(record["labels"]) == sorted(LABELS)
        assert record["known"] == record["labels"]
        assert record["probabilities"] == sorted(record["probabilities"], reverse=True)
        assert 0 < sum(record["probabilities"]) <= 1.001
        assert sum(record["normalised_probabilities"]) == pytest.approx(1, abs=1e-4)
        assert record["missing_mass"] == pytest.approx(1 - sum(record["probabilities"]), abs=1e-4)
        ratios = np.divide(record["normalised_probabilities"], record["probabilities"])
        assert ratios == pytest.approx(ratios[0], rel=1e-3) and ratios[0] >= 1
    best = sorted(record["probabilities"][0] for record in records)
    middle = (best[2] + best[3]) / 2
    assert best[2] < best[3]
    judged = lines(predict("--decode", "score", "--threshold", middle).out)
    assert [len(record["labels"]) for record in judged] == [2] * 6
    assert sum(record["abstained"] for record in judged) == 3
    for record, whole in zip(judged, records, strict=True):
        assert record["abstained"] == (whole["probabilities"][0] < middle)


@pytest.mark.parametrize("options", [("--threshold", 0.5), ("--top", 3)])
def test_what_needs_scores_is_refused_without_them(predict, options) -> None:
    answer = predict(*options)
    assert (answer.code, "--decode score" in answer.err) == (2, True)


def test_the_texts_stay_out_unless_asked_for(predict, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = predict("--output", out / "a.jsonl")
    assert answer.code == 0, answer.err
    for path in out.iterdir():
        assert SECRET not in path.read_text(), path
    assert SECRET not in answer.err + answer.out
    asked = predict("--echo-text")
    assert [record["input"] for record in lines(asked.out)] == [note["text"] for note in NOTES]


def test_options_of_the_task_can_be_changed_and_others_not(predict) -> None:
    assert predict("--set", "task.n=3", "--decode", "score").out.count('"n_listed": 3') == 6
    unknown = predict("--set", "task.colour=red")
    assert (unknown.code, "colour" in unknown.err) == (2, True)
    other = predict("--set", "aligner.epochs=3")
    assert (other.code, "'aligner'" in other.err) == (2, True)


def test_the_stage_is_still_there_and_the_old_command_says_where(mint, adapter: Path, notes: Path) -> None:
    answer = mint("predict", "--input", notes)
    assert (answer.code, "mint run --until predict" in answer.err) == (2, True)
    assert "predict" in mint("run", "--help").out
    assert "\n  mint predict --adapter runs/NAME/adapter --input notes.jsonl" in mint("predict", "--help").out


def test_a_task_that_reads_no_new_samples_says_so(mint, adapter: Path, notes: Path, monkeypatch) -> None:
    from mint_core.interfaces import Task
    from mint_core.plugins import registry

    monkeypatch.delattr(registry().get("task", "toy").component, "read_inputs")
    assert Task.read_inputs.__doc__
    answer = mint("predict", "--adapter", adapter, "--input", notes)
    assert (answer.code, "cannot read new samples" in answer.err) == (2, True)


def test_constrained_answers_are_distinct_known_labels(predict) -> None:
    answer = predict("--decode", "constrained", "--set", "task.n=4")
    assert answer.code == 0, answer.err
    for record in lines(answer.out):
        assert (len(record["labels"]), record["n_listed"], record["well_formed"]) == (4, 4, True)
        assert set(record["labels"]) < set(LABELS)


def test_scores_can_be_compared_per_token(predict) -> None:
    plain = lines(predict("--decode", "score", "--top", 9).out)
    answer = predict("--decode", "score", "--top", 9, "--set", "predict.normalise=tokens")
    assert answer.code == 0, answer.err
    for one, two in zip(plain, lines(answer.out), strict=True):
        assert dict(zip(one["labels"], one["log_probs"], strict=True)) == dict(
            zip(two["labels"], two["log_probs"], strict=True)
        )
    assert plain != lines(answer.out)
    wrong = predict("--set", "predict.colour=red")
    assert (wrong.code, "Unknown key 'colour' in predict" in wrong.err) == (2, True)


def test_a_name_that_is_nearly_right_is_recognised_as_top_n_does(serve, ask) -> None:
    server = serve(says("MOST_LIKELY_TISSUE:\n1. Kidny\n2. Something else"))
    records = lines(ask(server).out)
    assert records[0]["labels"] == ["Kidny", "Something else"]
    assert records[0]["known"] == ["Kidney", None]


def test_an_index_is_kept_where_the_runs_are(predict, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = predict("--retriever", "echo", "--out", tmp_path / "elsewhere")
    assert answer.code == 0, answer.err
    assert (tmp_path / "elsewhere" / ".cache").is_dir()
    assert not (tmp_path / "runs").exists()


NUMBERED = [{"id": f"n{i}", "text": f"patient p{i}"} for i in range(6)]
FUSED = ("--retriever", "library", "--set", "retrieval.tokens=0")


def test_rankings_are_combined_with_the_retrievers(predict, adapter: Path, tmp_path: Path, monkeypatch) -> None:
    """The toy's retriever holds label i for the best of note i, then those after it."""
    monkeypatch.chdir(tmp_path)
    taught = fusion.mask(read_record(adapter).taught, LabelSpace(LABELS))
    assert 0 < taught.sum() <= len(LABELS)
    numbered = write(tmp_path / "numbered.jsonl", NUMBERED)
    alone = lines(predict("--decode", "score", "--top", 6, source=numbered).out)
    own = np.array([[one["log_probs"][one["labels"].index(name)] for name in LABELS] for one in alone])
    theirs = np.array([[-((column - row) % 6) for column in range(6)] for row in range(6)], float)

    pool = ("--fuse", "weighted", "--set", "retrieval.weight=0.5", "--decode", "score")
    pooled = predict(*FUSED, *pool, source=numbered)
    assert pooled.code == 0, pooled.err
    expected = fusion.weighted(own, theirs, 0.5, taught)
    for record, row in zip(lines(pooled.out), expected, strict=True):
        best = fusion.order(row)[:2]
        assert record["labels"] == [LABELS[column] for column in best]
        logs = row - np.log(np.exp(row).sum())
        assert record["log_probs"] == pytest.approx(logs[best].tolist(), abs=1e-4)
        assert (record["n_listed"], record["passages"]) == (2, [])
        assert record["normalised_probabilities"] == pytest.approx(record["probabilities"], rel=1e-4)
        assert record["missing_mass"] == pytest.approx(0, abs=1e-5)

    ranks = predict(*FUSED, "--fuse", "rrf", "--decode", "score", "--top", 6, source=numbered)
    expected = fusion.reciprocal_rank(own, theirs, taught)
    for record, row in zip(lines(ranks.out), expected, strict=True):
        assert record["labels"] == [LABELS[column] for column in fusion.order(row)]
        assert record["probabilities"] is record["normalised_probabilities"] is record["missing_mass"] is None

    places = np.full((6, 6), -np.inf)
    for row, record in zip(places, lines(predict(source=numbered).out), strict=True):
        for place, name in enumerate(record["known"]):
            row[LABELS.index(name)] = -place
    expected = fusion.reciprocal_rank(places, theirs, taught)
    written = lines(predict("--response", source=numbered).out)
    fused = lines(predict(*FUSED, "--fuse", "rrf", "--response", source=numbered).out)
    for record, row, own in zip(fused, expected, written, strict=True):
        assert record["labels"] == [LABELS[column] for column in fusion.order(row)[:2]]
        assert [record[key] for key in ("response", "well_formed", "n_listed")] == [
            own[key] for key in ("response", "well_formed", "n_listed")
        ]
    table = predict(*FUSED, "--fuse", "rrf", "--decode", "score", "--output", tmp_path / "a.csv", source=numbered)
    assert table.code == 0, table.err
    assert (tmp_path / "a.csv").read_text().splitlines()[0].endswith("error,label_1,label_2,passages")
    again = predict(*FUSED, "--decode", "score", "--output", tmp_path / "a.csv", source=numbered)
    assert (again.code, "another retriever" in again.err) == (2, True)


def test_a_sample_that_cannot_be_ranked_fails_alone(predict, tmp_path: Path, monkeypatch) -> None:
    """n2 stands in the library, and n4 has no text; the others get their own ranks of the retriever."""
    monkeypatch.chdir(tmp_path)
    given = [*NUMBERED[:4], {"id": "n4", "text": " "}, NUMBERED[5]]
    numbered = write(tmp_path / "numbered.jsonl", given)
    fused = (*FUSED, "--fuse", "weighted", "--set", "retrieval.weight=200", "--decode", "score")
    refused = predict(*fused, "--set", "retriever.refuse=2", "--on-error", "skip", source=numbered)
    assert refused.code == 9, refused.err
    answered = {record["id"]: record for record in lines(refused.out)}
    assert {name for name, record in answered.items() if record["error"]} == {"n2", "n4"}
    assert "stands in the library" in answered["n2"]["error"]
    assert {name: record["labels"][:1] for name, record in answered.items() if not record["error"]} == {
        f"n{i}": [LABELS[i]] for i in (0, 1, 3, 5)
    }
    stopped = predict(*fused, "--set", "retriever.refuse=2", source=write(tmp_path / "whole.jsonl", NUMBERED))
    assert (stopped.code, "--on-error skip" in stopped.err) == (4, True), stopped.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fuse", "rrf"), "name one with --retriever"),
        ((*FUSED, "--fuse", "weighted", "--set", "retrieval.weight=.inf", "--decode", "score"), "retrieval: weight"),
        (("--fuse", "rrf", "--endpoint", "http://localhost/v1", "--model", "m"), "name one with --retriever"),
        (("--fuse", "weighted", "--retriever", "library", "--decode", "score"), "--set retrieval.weight=W"),
        (("--fuse", "weighted", "--retriever", "library", "--set", "retrieval.weight=1"), "add --decode score"),
        (("--fuse", "rrf", "--retriever", "echo"), "'echo' ranks no labels"),
        (("--fuse", "rrf", *FUSED, "--set", "retriever.ranks=false"), "ranked no labels"),
        (("--fuse", "rrf", *FUSED, "--decode", "score", "--threshold", 0.5), "reciprocal ranks are none"),
    ],
)
def test_what_cannot_be_fused_is_refused(predict, tmp_path: Path, monkeypatch, options, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    answer = predict(*options, source=write(tmp_path / "numbered.jsonl", NUMBERED))
    assert (answer.code, said in answer.err) == (2, True), answer.err
    assert answer.out == ""


def test_an_adapter_that_does_not_say_what_it_was_taught_fuses_nothing(
    mint, adapter: Path, notes: Path, tmp_path
) -> None:
    copy = shutil.copytree(adapter, tmp_path / "copy")
    record = json.loads((copy / "mint.json").read_text())
    del record["taught"]
    (copy / "mint.json").write_text(json.dumps(record))
    answer = mint("predict", "--adapter", copy, "--input", notes, *FUSED, "--fuse", "rrf")
    assert (answer.code, "move the folder away" in answer.err) == (6, True), answer.err


def test_a_retriever_puts_passages_into_the_prompt_and_their_sources_into_the_output(
    predict, adapter: Path, monkeypatch, tmp_path: Path
) -> None:
    from mint_core.answering.transformers import TransformersEngine

    seen = {}

    def look(self, variant, prompts, **how):
        seen.update(prompts)
        return genuine(self, variant, prompts, **how)

    genuine = TransformersEngine.answers
    monkeypatch.setattr(TransformersEngine, "answers", look)
    monkeypatch.chdir(tmp_path)
    answer = predict("--retriever", "echo", "--batch-size", 4)
    assert answer.code == 0, answer.err
    assert [record["passages"] for record in lines(answer.out)] == [["toy"]] * 6
    assert all(f"passage for {key}" in prompt.messages[-1].content for key, prompt in seen.items())
    assert list(seen) == [note["id"] for note in NOTES]
    cut = predict("--retriever", "echo", "--set", "retrieval.tokens=3", "--on-error", "skip")
    assert (cut.code, "retrieval.tokens is 3" in lines(cut.out)[0]["error"]) == (9, True), cut.err
    train = predict("--retriever", "echo", "--set", "retrieval.train=true")
    assert (train.code, "retrieval.train" in train.err) == (2, True)


@pytest.mark.parametrize(("decode", "short"), [("free", True), ("constrained", False), ("score", False)])
def test_passages_leave_room_for_what_may_be_written(predict, monkeypatch, tmp_path: Path, decode, short: bool) -> None:
    from mint_core.answering import asking

    reserved, genuine = set(), asking.add_passages

    def look(*given, **how):
        reserved.add(how["reserve"])
        return genuine(*given, **how)

    monkeypatch.setattr(asking, "add_passages", look)
    monkeypatch.chdir(tmp_path)
    answer = predict("--retriever", "echo", "--decode", decode, "--max-new-tokens", 1)
    assert answer.code == 0, answer.err
    assert len(reserved) == 1
    assert (reserved == {1}) == short


# --- the output


def test_an_interrupted_output_is_continued(predict, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert predict("--output", whole).code == 0
    assert predict("--output", out).code == 0
    text = whole.read_text()
    assert out.read_text() == text
    ends = [position for position, sign in enumerate(text) if sign == "\n"]
    out.write_text(text[: ends[3] + 20])  # killed in the middle of the fifth line
    answer = predict("--output", out)
    assert "6 samples, 2 answered, 4 there already" in answer.err
    assert out.read_text() == text
    assert "6 there already" in predict("--output", out).err
    assert out.read_text() == text
    assert {path.name for path in tmp_path.glob("out*")} == {"out.jsonl", "out.jsonl.meta.json"}
    assert not list(tmp_path.glob(".out*"))


def test_ctrl_c_loses_no_answer(predict, tmp_path: Path, monkeypatch) -> None:
    from mint_core.cli.progress import Terminal

    def press(self, done, total, unit, figures=None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    out = tmp_path / "out.jsonl"
    with monkeypatch.context() as patched:
        patched.setattr(Terminal, "progress", press)
        answer = predict("--output", out, "--batch-size", 1)
    assert (answer.code, "goes on from there" in answer.err) == (130, True)
    before = lines(out.read_text())
    assert len(before) == 3
    assert "3 answered, 3 there already" in predict("--output", out, "--batch-size", 1).err
    after = lines(out.read_text())
    assert [record["id"] for record in after] == [note["id"] for note in NOTES]
    assert after[:3] == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--decode", "score"), "decode"),
        (("--echo-text",), "echo_text"),
        (("--set", "task.n=3"), "task"),
    ],
)
def test_an_output_of_other_settings_is_refused(predict, tmp_path: Path, options, named: str) -> None:
    out = tmp_path / "out.jsonl"
    assert predict("--output", out).code == 0
    before = out.read_text()
    answer = predict("--output", out, *options)
    assert (answer.code, f"another {named};" in answer.err) == (2, True), answer.err
    assert out.read_text() == before


def test_an_output_of_another_adapter_or_program_is_refused(
    predict, mint, adapter: Path, notes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    assert predict("--output", out).code == 0
    other = shutil.copytree(adapter, tmp_path / "other")
    (other / "README.md").write_text("trained anew")
    assert digest_of_path(other) != digest_of_path(adapter)
    answer = mint("predict", "--adapter", other, "--input", notes, "--output", out)
    assert (answer.code, "another adapter;" in answer.err) == (2, True), answer.err
    moved = notes.rename(tmp_path / "other.jsonl")
    assert "another input;" in predict("--output", out, source=moved).err
    foreign = tmp_path / "thesis.csv"
    foreign.write_text("precious\n")
    answer = predict("--output", foreign, source=moved)
    assert (answer.code, "no thesis.csv.meta.json" in answer.err) == (2, True)
    assert foreign.read_text() == "precious\n"
    assert predict("--output", tmp_path / "out.xlsx", source=moved).code == 2


def test_a_damaged_line_in_the_middle_is_named_and_kept(predict, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert predict("--output", out).code == 0
    text = out.read_text().replace('{"id": "n2"', "{", 1)
    out.write_text(text)
    answer = predict("--output", out)
    assert (answer.code, "Line 3" in answer.err) == (4, True)
    assert out.read_text() == text


def test_a_table_has_a_column_per_label_and_is_continued(predict, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert predict("--output", out, "--decode", "score", "--top", 3).code == 0
    text = out.read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["id"] for row in rows] == [note["id"] for note in NOTES]
    kinds = ("label", "probability", "normalised")
    assert list(rows[0])[6:] == ["missing_mass", *(f"{kind}_{place}" for place in (1, 2, 3) for kind in kinds)]
    assert all(0 < float(row["missing_mass"]) < 1 and 0 < float(row["normalised_1"]) <= 1 for row in rows)
    assert all(float(row["probability_1"]) >= float(row["probability_3"]) > 0 for row in rows)
    out.write_text(text[:-10])
    assert "1 answered, 5 there already" in predict("--output", out, "--decode", "score", "--top", 3).err
    assert out.read_text() == text


def test_cells_are_no_formulas_and_ids_are_found_again() -> None:
    form = Csv(width=2, scored=False, response=True)
    ids = ["=1+1", "@a", "+1", "-1", "\ttab", " =x", "＝wide", 'quote"d, id', "two\nlines", "ünï", "\udcff"]  # noqa: RUF001
    for sample_id in ids:
        line = form.line(Outcome(sample_id, "free", labels=("=cmd()", "fine", "third"), response="-x\ny"))
        assert line.count("\n") == 1
        cells = next(csv.reader([line]))
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "＝")) for cell in cells)  # noqa: RUF001
        assert cells[6:] == ["'=cmd()", "fine", "'-x y"]
        assert form.read(line).key == form.key(sample_id)
    json_lines = JsonLines()
    assert all(json_lines.read(json_lines.line(Outcome(one, "free"))).key == one for one in ids)


class Reader(HTMLParser):
    """What a browser would make of a page: elements, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements, self.attributes, self.words, self.articles = set(), set(), [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.articles += [dict(attributes)["data-sample"]] if tag == "article" else []

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_a_page_shows_every_answer_and_is_continued(predict, tmp_path: Path) -> None:
    out = tmp_path / "answers.html"
    scored = ("--output", out, "--decode", "score", "--threshold", 0.3)
    answer = predict(*scored)
    assert answer.code == 0, answer.err
    text = out.read_text()
    page = Reader(text)
    assert page.articles == [note["id"] for note in NOTES]
    assert {"article", "ol", "meter", "h1"} <= page.elements and not {"script", "img", "link", "a"} & page.elements
    words = " ".join(page.words)
    assert "Simulated data." in words and "no answer on this page may decide about a patient" in words
    assert "It abstains below a probability of 0.3" in words
    assert words.count("of the student's probability lies on no label") == 6
    assert SECRET not in text
    out.write_text(text[:-30])
    assert "1 answered, 5 there already" in predict(*scored).err
    assert out.read_text() == text
    assert "another threshold" in predict("--output", out, "--decode", "score").err
    asked = predict("--output", tmp_path / "asked.html", "--echo-text", "--response")
    assert asked.code == 0, asked.err
    page = Reader((tmp_path / "asked.html").read_text())
    assert sum(SECRET in words for words in page.words) == 6
    assert "This page shows what the student wrote and what the student read" in " ".join(" ".join(page.words).split())


def test_a_page_escapes_everything_and_its_ids_are_found_again() -> None:
    bad = "<script>alert(1)</script>\"'><img src=x onerror=y>&amp;{{ 7*7 }}</pre></article>\n\x1b[31m\u202e\x00"
    form = HtmlPage(Heading(bad, bad, simulated=True), response=True, echo=True, passages=True)
    whole = Outcome(
        bad, "score", (bad, "Colon"), (None, bad), (0.2, 0.1), (-1.6, -2.3), (0.6, 0.3), 0.66, response=bad, input=bad,
        passages=(bad,), truncated=True,
    )  # fmt: skip
    failed = Outcome(bad, "free", error=bad)
    lines = [form.head, form.line(whole), form.line(failed)]
    assert [line.count("\n") for line in lines] == [1, 1, 1]
    page = Reader("".join(lines))
    assert not {"script", "img"} & page.elements and "onerror" not in page.attributes
    assert len(page.articles) == 2
    assert not any(mark in "".join(lines) for mark in "\x1b\x00\u202e")
    assert "{{ 7*7 }}" in "".join(page.words)
    assert form.read(lines[1]) == Written(form.key(bad), failed=False)
    assert form.read(lines[2]) == Written(form.key(bad), failed=True)
    for line in (lines[0], lines[1][:-5], "<p>\n"):
        with pytest.raises(ValueError, match="no article"):
            form.read(line)


def feed(monkeypatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_standard_input_is_read_as_json_lines(predict, notes: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    expected = predict()
    feed(monkeypatch, notes.read_text())
    answer = predict(source="-")
    assert (answer.code, answer.out) == (0, expected.out), answer.err
    feed(monkeypatch, notes.read_text() + json.dumps({"id": "x", "text": "", "broken": SECRET}) + "\n")
    failed = predict(source="-")
    assert (failed.code, SECRET in failed.err) == (4, False)
    assert list((tmp_path / "tmp").iterdir()) == []  # nothing of the patients stays
    feed(monkeypatch, "")
    assert predict(source="-").code == 4


@pytest.mark.parametrize(
    ("content", "suffix"),
    [(b"id,text\na,x\n", ".csv"), (b"\xef\xbb\xbf\n {}", ".jsonl"), (b"[{}]", ".jsonl"), (b"", ".csv")],
)
def test_the_format_of_standard_input_is_told_by_its_first_sign(content: bytes, suffix: str) -> None:
    with as_file(io.BytesIO(content)) as file:
        assert (file.suffix, file.read_bytes()) == (suffix, content)
        assert file.parent.stat().st_mode & 0o077 == 0
    assert not file.exists()


def test_two_processes_cannot_write_one_output(predict, tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / ".out.jsonl.lock"):
        answer = predict("--output", tmp_path / "out.jsonl")
    assert (answer.code, "Another process" in answer.err) == (8, True)


def test_a_full_disk_is_one_sentence(predict, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.symlink_to("/dev/full")
    answer = predict("--output", out)
    assert (answer.code, "is full" in answer.err) == (8, True), answer.err


def test_a_reader_that_has_seen_enough_is_no_error(predict, monkeypatch) -> None:
    """As `mint predict … | head -0` does."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        answer = predict()
    assert (answer.code, "mint:" in answer.err) == (0, False), answer.err


# --- samples that fail

BAD = [
    NOTES[0],
    {"id": "empty", "text": "  "},
    {"id": "long", "text": "word " * 900},
    {"id": "b", "broken": True},
    NOTES[1],
    NOTES[0],
]


@pytest.mark.parametrize(
    ("position", "said"),
    [(1, "has no text"), (2, "context holds"), (3, "Note b is broken"), (5, "Two samples have the id 'n0'")],
)
def test_a_bad_sample_stops_and_what_was_answered_stays(predict, tmp_path: Path, position: int, said: str) -> None:
    out = tmp_path / "out.jsonl"
    source = write(tmp_path / "bad.jsonl", [*NOTES[2:4], BAD[0], BAD[position]])
    answer = predict("--output", out, source=source)
    assert (answer.code, said in answer.err, "--on-error skip" in answer.err) == (4, True, True), answer.err
    assert SECRET not in answer.err
    assert len(lines(out.read_text())) == (3 if position == 2 else 0)  # only the model can tell what is too long


def test_bad_samples_are_skipped_named_and_tried_again(predict, tmp_path: Path) -> None:
    out, source = tmp_path / "out.jsonl", write(tmp_path / "bad.jsonl", BAD)
    answer = predict("--output", out, "--on-error", "skip", source=source)
    assert answer.code == 9
    assert "4 of 6 samples failed" in answer.err
    records = lines(out.read_text())
    assert [record["id"] for record in records] == ["n0", "empty", "long", "b", "n1", "n0 (2)"]
    assert [bool(record["error"]) for record in records] == [False, True, True, True, False, True]
    assert all(record["labels"] == [] for record in records if record["error"])
    write(source, [*BAD[:1], {"id": "empty", "text": "filled"}, *BAD[2:5]])
    again = predict("--output", out, "--on-error", "skip", source=source)
    assert (again.code, "1 answered, 2 there already, 2 failed" in again.err) == (9, True), again.err
    assert [record["id"] for record in lines(out.read_text())] == ["n0", "n1", "empty", "long", "b"]


def test_nothing_to_read(predict, tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.jsonl", [])
    answer = predict("--output", tmp_path / "out.jsonl", source=empty)
    assert (answer.code, "holds no sample" in answer.err) == (4, True)
    assert not (tmp_path / "out.jsonl").exists()


# --- an endpoint


def of_note(request) -> tuple[int, str]:
    """An answer that tells whose it is."""
    number = int(request["messages"][-1]["content"].partition("of note ")[2].partition(".")[0])
    time.sleep(0.02 * (6 - number))  # the last is the first to be ready
    return says(f"MOST_LIKELY_TISSUE:\n1. {LABELS[number]}\n2. Liver")


@pytest.fixture
def ask(predict):
    def call(server: Server, *options: object, **other):
        return predict("--endpoint", server.url, "--model", "m", *options, **other)

    return call


def test_an_endpoint_answers_in_order(serve, ask, monkeypatch) -> None:
    monkeypatch.setenv("MINT_API_KEY", "k-123")
    server = serve(of_note)
    answer = ask(server, "--request", "seed=7", "--request", "temperature=null")
    assert answer.code == 0, answer.err
    records = lines(answer.out)
    assert [record["id"] for record in records] == [note["id"] for note in NOTES]
    assert [record["labels"][0] for record in records] == list(LABELS)
    assert all(record["well_formed"] for record in records)
    path, request = server.requests[0]
    assert path == "/v1/chat/completions"
    assert (request["model"], request["seed"], "temperature" in request) == ("m", 7, False)
    assert [turn["role"] for turn in request["messages"]] == ["system", "user"]
    assert set(server.keys) == {"Bearer k-123"}
    assert "leave this machine" not in answer.err


def test_stdout_goes_where_it_is_sent_though_stderr_is_a_terminal(
    serve, adapter: Path, notes: Path, tmp_path: Path
) -> None:
    """The progress bar redirects stdout; the answers must not go its way."""
    server = serve(says(LIST))
    command = ["predict", "--adapter", adapter, "--input", notes, "--endpoint", server.url, "--model", "m"]
    leader, follower = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "mint_core", *map(str, command)],
        env={
            **os.environ,
            "TERM": "xterm",
            "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(Path(__file__).parents[1])]),
        },
        stdout=subprocess.PIPE,
        stderr=follower,
        timeout=120,
        check=False,
    )
    os.close(follower)
    os.close(leader)
    assert done.returncode == 0
    assert [record["id"] for record in lines(done.stdout.decode())] == [note["id"] for note in NOTES]


def test_an_image_travels_inside_the_request(serve, tmp_path: Path) -> None:
    import base64

    from PIL import Image

    from mint_core.answering.engine import Asking
    from mint_core.config import EndpointConfig, PredictConfig
    from mint_core.images import FileImage
    from mint_core.types import Message, Prompt

    server = serve(says(LIST))
    Image.new("RGB", (5, 4), (200, 10, 90)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    words = (Message("system", "Short."), Message("user", "Name 2."))
    prompts = {name: Prompt(words, FileImage(tmp_path / f"{name}.png")) for name in ("a", "b")}
    where = {"url": server.url + "/chat/completions/", "model": "m"}
    config = PredictConfig(engine="endpoint", endpoint=EndpointConfig(**where))
    with endpoint.Endpoint(Asking(LabelSpace(LABELS), "MOST_LIKELY_TISSUE:", 2, 2, config)) as asked:
        [good], [bad] = asked.answers("base", prompts)
    assert good.labels == ("Colon", "Liver")
    assert "not an image" in bad.reason
    system, user = server.requests[0][1]["messages"]
    assert system == {"role": "system", "content": "Short."}
    picture, text = user["content"]
    assert text == {"type": "text", "text": "Name 2."}
    head, _, content = picture["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert (image.size, image.getpixel((0, 0))) == ((5, 4), (200, 10, 90))


def test_no_proxy_carries_off_what_is_meant_for_this_machine(ask, serve, monkeypatch) -> None:
    proxy, server = serve((200, "{}")), serve(says(LIST))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
    assert ask(server).code == 0
    assert (len(proxy.requests), len(server.requests)) == (0, 6)


def test_an_endpoint_needs_no_adapter(mint, adapter: Path, serve, notes: Path) -> None:
    server = serve(of_note)
    answer = mint("predict", "--endpoint", server.url, "--model", "m", "--task", "toy", "--input", notes)
    assert answer.code == 0, answer.err
    assert [record["known"] for record in lines(answer.out)][2] == ["Colon", "Liver"]


@pytest.mark.parametrize(
    "trouble",
    [
        (500, "oops"),
        (429, "slow down"),
        (200, "<html>not a chat</html>"),
        (200, "[1, 2"),
        (200, json.dumps({"choices": []})),
        says(None),
        says([{"type": "text"}]),
    ],
)
def test_trouble_is_tried_again(serve, ask, trouble) -> None:
    server = serve(trouble, trouble, says(LIST))
    answer = ask(server, "--parallel", 1)
    assert answer.code == 0, answer.err
    assert len(server.requests) == 8


def test_an_endpoint_that_times_out_is_left_and_done_samples_are_kept(serve, ask, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    server = serve(says(LIST), says(LIST), lambda _: time.sleep(0.5) or says(LIST))
    started = time.monotonic()
    answer = ask(server, "--parallel", 1, "--timeout", 0.1, "--retries", 1, "--output", out)
    assert time.monotonic() - started < 20
    assert (answer.code, "no answer within 0.1 s" in answer.err) == (4, True), answer.err
    assert SECRET not in answer.err
    assert len(lines(out.read_text())) == 2
    server.script = [says(LIST)]
    assert "4 answered, 2 there already" in ask(server, "--parallel", 1, "--output", out).err


def test_a_killed_process_loses_no_answer(serve, ask, adapter: Path, notes: Path, tmp_path: Path) -> None:
    """kill -9; with an endpoint, because a process that loads torch takes long to start."""
    out, arrived = tmp_path / "out.jsonl", threading.Event()

    def last(_):
        arrived.set()
        server.released.wait(60)
        return says(LIST)

    server = serve(says(LIST), says(LIST), last)
    command = ["predict", "--adapter", adapter, "--input", notes, "--endpoint", server.url, "--model", "m"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mint_core", *map(str, command), "--output", str(out), "--parallel", "1", "--quiet"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(Path(__file__).parents[1])])},
    )
    assert arrived.wait(120), "no third request"
    for _ in range(600):  # the second answer is written beside the third request
        if out.exists() and len(lines(out.read_text())) == 2:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = out.read_text()
    assert len(lines(before)) == 2
    out.write_text(before + '{"id": "n2", "dec')
    server.script = [says(LIST)]
    assert "4 answered, 2 there already" in ask(server, "--output", out, "--parallel", 1).err
    assert [record["id"] for record in lines(out.read_text())] == [note["id"] for note in NOTES]
    assert out.read_text().startswith(before)


def test_an_answer_that_drips_is_cut_off(serve, ask) -> None:
    def drip(_):
        return 200, "x" * (endpoint.LARGEST_ANSWER + 2**20)

    answer = ask(serve(drip), "--parallel", 1, "--retries", 0)
    assert (answer.code, "more than 8 MiB" in answer.err) == (4, True), answer.err


def test_a_dead_endpoint_stops_even_where_samples_may_fail(ask, serve, tmp_path: Path) -> None:
    server = serve(says(LIST), (503, f"{SECRET}"))
    out = tmp_path / "out.jsonl"
    answer = ask(server, "--on-error", "skip", "--retries", 1, "--parallel", 1, "--output", out)
    assert (answer.code, "3 samples in a row" in answer.err) == (6, True), answer.err
    assert SECRET not in answer.err + out.read_text()
    server.shutdown()
    server.server_close()
    answer = ask(server, "--retries", 0)
    assert (answer.code, "the connection failed" in answer.err) == (4, True), answer.err


def test_a_refused_prompt_is_skipped(ask, serve) -> None:
    refusal = json.dumps({"error": {"code": "context_length_exceeded", "message": f"too long: {SECRET}"}})
    server = serve((400, refusal), says(LIST))
    answer = ask(server, "--on-error", "skip", "--parallel", 1)
    assert answer.code == 9
    first, *others = lines(answer.out)
    assert "400, context_length_exceeded" in first["error"]
    assert SECRET not in answer.out + answer.err
    assert len(others) == 5
    assert not any(other["error"] for other in others)


@pytest.mark.parametrize(("status", "said"), [(401, "MINT_API_KEY"), (404, "no model 'm'"), (307, "points elsewhere")])
def test_what_every_sample_would_meet_stops_at_once(ask, serve, status: int, said: str) -> None:
    server = serve((status, "{}"))
    answer = ask(server, "--on-error", "skip", "--parallel", 1)
    assert (answer.code, said in answer.err) == (6, True), answer.err
    assert len(server.requests) <= 2


@pytest.mark.parametrize("url", ["http://192.0.2.1/v1", "https://models.invalid/v1", "http://127.0.0.1.invalid/v1"])
def test_no_text_leaves_this_machine_unasked(predict, monkeypatch, url: str) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))
    answer = predict("--endpoint", url, "--model", "m")
    assert (answer.code, "--send-text" in answer.err) == (2, True)


def test_the_user_who_sends_texts_is_told_so(predict) -> None:
    answer = predict("--endpoint", "http://192.0.2.1/v1?v=k", "--model", "m", "--send-text", "--input", "nowhere")
    assert "texts leave this machine: they are sent to http://192.0.2.1/v1/chat/completions, unencrypted" in answer.err
    assert "v=k" not in answer.err


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.1.2.3/v1", True),
        ("http://[::1]:8000/v1", True),
        ("https://localhost.example.org/v1", False),
        ("http://10.0.0.7/v1", False),
    ],
)
def test_which_addresses_are_local(url: str, local: bool) -> None:
    assert endpoint.is_local(url) is local


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--endpoint", "localhost:8000", "--model", "m"), "is an address"),
        (("--endpoint", "ftp://localhost/v1", "--model", "m"), "is an address"),
        (("--endpoint", "http://me:secret@localhost/v1", "--model", "m"), "no name and password"),
        (("--endpoint", "http://localhost/v1?api-version=2&api-key=k", "--model", "m"), "no key into the address"),
        (("--endpoint", "http://localhost/v1?sig=k", "--model", "m"), "no key into the address"),
        (("--endpoint", "http://localhost/v1"), "needs --model"),
        (("--endpoint", "http://localhost/v1", "--model", "m", "--decode", "score"), "writes freely"),
        (("--model", "m"), "of an --endpoint"),
        (("--source", "file"), "leave --source out"),
        (("--endpoint", "http://localhost/v1", "--model", "m", "--task", "toy"), "leave --task out"),
        (("--set", "task.n=7"), "larger than the label space"),
    ],
)
def test_contradictions_are_refused(predict, options, said: str) -> None:
    answer = predict(*options)
    assert (answer.code, said in answer.err) == (2, True), answer.err
    assert "secret" not in answer.err
