"""`mint predict`: what an adapter must be, and what its answers are."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mint_core.answering.record import read_record
from mint_core.errors import ModelError
from mint_core.retrieval import fusion
from mint_core.students.adapter import adapter_config
from mint_core.types import LabelSpace
from tests.predicting import NOTES, SECRET, lines, write
from tests.tiny_students import LABELS

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
