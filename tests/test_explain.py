"""`mint explain`: phrases and regions, their effects, and the check that they matter more than random ones."""

import base64
import io
import json
import re
import shutil
from html import unescape
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

import mint_core
from mint_core.answering.alike import label_log_probs, with_beginning
from mint_core.answering.score import score, with_rows
from mint_core.answering.trie import candidates, common
from mint_core.config import StudentConfig
from mint_core.errors import ContractError, DataError
from mint_core.explaining.effects import Effects, Explainer, taken_away
from mint_core.explaining.parts import Phrases, parts_of
from mint_core.explaining.results import deletion_check, read_explained, told_check, withdraw_explained
from mint_core.occlusion import Occluded
from mint_core.phrases import split, without
from mint_core.students.encoding import append_response, encode_prompt, encode_response, stack
from mint_core.students.load import load_student
from mint_core.students.prompts import write_response
from mint_core.testing.task import task_6_phrases
from mint_core.types import ImageRef, LabelSpace, Message, Prompt, Sample
from tests.tiny_students import HEADER, LABELS, build

SPACE = LabelSpace(LABELS)
PATIENT = "Sex female, age 3 years 6 months. Phenotypes: seizure, short stature, height 1,5 m; pH 7.2."


def pieces(text: str) -> list[str]:
    return [text[start:stop] for start, stop in split(text)]


# --- phrases


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PATIENT, ["Sex female", "age 3 years 6 months", "seizure", "short stature", "height 1,5 m", "pH 7.2"]),
        ("One sentence", ["One sentence"]),
        ("First line\n\nSecond: a; b", ["First line", "a", "b"]),
        ("Was it fever? No! - Yes.", ["Was it fever", "No", "- Yes"]),
        ("HP:0001250, HP:0004322", ["HP:0001250", "HP:0004322"]),
        (" , ;\n", []),
    ],
)
def test_a_text_has_phrases(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ({0}, "age 3 years 6 months. Phenotypes: seizure, short stature, height 1,5 m; pH 7.2."),
        ({1}, "Sex female. Phenotypes: seizure, short stature, height 1,5 m; pH 7.2."),
        ({0, 1}, "Phenotypes: seizure, short stature, height 1,5 m; pH 7.2."),
        ({2}, "Sex female, age 3 years 6 months. Phenotypes: short stature, height 1,5 m; pH 7.2."),
        ({3, 4}, "Sex female, age 3 years 6 months. Phenotypes: seizure; pH 7.2."),
        ({4, 5}, "Sex female, age 3 years 6 months. Phenotypes: seizure, short stature."),
        (set(), PATIENT),
    ],
)
def test_a_text_without_phrases_is_still_a_text(gone: set[int], left: str) -> None:
    assert without(PATIENT, split(PATIENT), gone) == left


# --- prompts that are nearly alike


def alike(text: str = PATIENT) -> dict[str, Prompt]:
    spans = split(text)
    texts = [text, *(without(text, spans, {number}) for number in range(len(spans)))]
    return {str(i): Prompt((Message("user", f"{one} Name the tissues."),)) for i, one in enumerate(texts)}


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen2", "qwen2_5_vl", "mllama", "gemma3"])
def test_what_prompts_begin_with_is_computed_once_and_the_label_scores_the_same(students, family: str) -> None:
    student = students(family)
    prompts = alike()
    encoded = [encode_prompt(student, key, one) for key, one in prompts.items()]
    known = candidates(student, SPACE, HEADER, encoded[0].end_of_turn).some([3])
    with torch.inference_mode():
        expected = with_rows(student, student.model, encoded, known, 4)
        found = with_beginning(student, student.model, encoded, known, 3)
    assert (found - expected).abs().max() < 1e-3
    assert expected.std() > 1e-3  # the phrases make a difference at all


def test_a_label_scores_as_it_does_among_all_labels(student) -> None:
    prompts = alike()
    together = np.stack([row for _, row in score(student, prompts, SPACE, HEADER, batch_size=4)])
    for column, name in enumerate(LABELS):
        alone = label_log_probs(student, prompts, SPACE, name, HEADER, batch_size=4)
        np.testing.assert_allclose(alone, together[:, column], atol=1e-3)


def test_only_what_differs_is_computed_anew(student) -> None:
    """The first prompt goes through the student once, of the others what follows the beginning that they share."""
    seen: list[int] = []
    student.model.base_model.register_forward_pre_hook(
        lambda _, args, given: seen.append(given["input_ids"].numel()), with_kwargs=True
    )
    encoded = [encode_prompt(student, key, one) for key, one in alike().items()]
    known = candidates(student, SPACE, HEADER, encoded[0].end_of_turn).some([3])
    with torch.inference_mode():
        with_beginning(student, student.model, encoded, known, 1)
    tail = len(known.shared) + len(known.tails[0])
    whole, *others = [one.tensors["input_ids"][0].tolist() for one in encoded]
    behind = [len(own) - len(common(whole, own)) + tail for own in others]
    assert sum(seen) == len(whole) + tail + sum(behind)
    assert sum(behind) < 0.8 * sum(len(own) + tail for own in others)


# --- effects, by hand


class Additive(Explainer):
    """A student whose log p is a sum of weights, one per phrase that is there."""

    weights: ClassVar[dict[str, float]] = {
        "a": 0.5,
        "b": 4.0,
        "c": -1.0,
        "d": 0.0,
        "e": 2.0,
        "f": 0.25,
        "g": 0.0,
        "h": 0,
    }

    def log_probs(self, samples, label):
        return np.array([sum(self.weights[word] for word in re.findall(r"\b[a-h]\b", one.text)) for one in samples])


def additive(text: str, draws: int = 3, seed: int = 0) -> Effects:
    parts = Phrases(Sample("s", "test", text=text), split(text))
    return Additive(None, None, SPACE, HEADER, 1, dict).effects(parts, "Colon", draws=draws, seed=seed)


def test_an_effect_is_what_log_p_falls_by_without_the_phrase() -> None:
    found = additive("a, b, c, d, e, f, g, h.")
    assert found.log_prob == 5.75
    assert found.effects.tolist() == [0.5, 4.0, -1.0, 0.0, 2.0, 0.25, 0.0, 0.0]
    assert found.order.tolist()[:2] == [1, 4]
    assert found.check is not None
    assert (found.check.m, found.check.top) == (2, 6.0)  # a quarter of eight phrases: b and e
    sums = {one + other for one, other in combinations(found.effects.tolist(), 2)}
    assert len(found.check.random) == 3
    assert set(found.check.random) <= sums
    assert additive("a, b, c, d, e, f, g, h.").check == found.check
    assert additive("a, b, c, d, e, f, g, h.", draws=20, seed=1).check != found.check


def test_two_phrases_leave_no_choice_to_check() -> None:
    assert additive("a, b").check is None
    assert taken_away(3) == taken_away(8) == 2
    assert taken_away(36) == 9


def test_the_deletion_check_is_the_paired_difference_over_samples() -> None:
    records = [
        {"check": {"m": 2, "top": 3.0, "random": [1.0, 2.0]}},
        {"check": {"m": 2, "top": 1.0, "random": [0.5, 0.0]}},
        {"check": None},
    ]
    found = deletion_check(records, [None, None, None], seed=0)
    assert (found["top"], found["random"]) == (2.0, 0.875)
    one = found["difference"]
    assert (one["mean"], one["n"], one["unscored"]) == (1.125, 2, 1)  # (1.5 + 0.75) / 2
    assert (one["low"], one["high"]) == (0.75, 1.5)
    assert found["p_value"] == 0.5  # both signs of the two differences: 2 of 4
    told = told_check({"check": found, "parts": "phrases", "draws": 2})
    assert "falls by 2.00, without as many at random by 0.88; difference +1.12 [+0.75, +1.50]" in told
    assert "n = 2 samples" in told
    assert told_check({"check": deletion_check([{"check": None}], [None], 0), "parts": "phrases", "draws": 1}) == ""


def test_a_covered_region_tells_nothing_of_what_stood_there() -> None:
    class Halves(ImageRef):
        key = "halves"

        def open(self):
            image = Image.new("RGB", (4, 4), (10, 20, 30))
            image.paste((200, 0, 0), (0, 2, 2, 4))  # the lower left quarter
            return image

    pixels = np.array(Occluded(Halves(), 2, {2}).open())
    assert (pixels == (10, 20, 30)).all()
    upper = np.array(Occluded(Halves(), 2, {0, 1}).open())
    assert (upper[:2] == (105, 10, 15)).all()  # the mean of the two lower quarters
    assert Occluded(Halves(), 2, {1, 0}).key == Occluded(Halves(), 2, {0, 1}).key != Occluded(Halves(), 2, {1}).key


@pytest.mark.parametrize("spans", [((3, 1), (4, 6)), ((0, 4), (3, 6)), ((0, 2), (4, 99)), ((0, 0), (1, 2))])
def test_phrases_that_a_task_gets_wrong_are_its_fault(spans) -> None:
    class Wrong:
        name, modality = "wrong", "text"

        def phrases(self, sample):
            return spans

    with pytest.raises(ContractError, match="named phrases of sample s that overlap"):
        parts_of(Wrong(), Sample("s", "test", text="a, b, c, d"), 6)


# --- a student of which the reason is known


def learn(folder: Path, task: Any, steps: int) -> None:
    """Trains all weights of a tiny student on a rule, and saves it in its folder."""
    student = load_student(StudentConfig(model=str(folder), device="cpu"))
    rows = []
    for sample in task.load().split("train"):
        prompt = encode_prompt(student, sample.id, task.inference_prompt(sample.for_student(task.modality), 1))
        answer = encode_response(student, write_response(task.header, (sample.label,)), prompt.end_of_turn)
        rows.append((append_response(prompt, answer), prompt.length))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        optimiser = torch.optim.Adam(student.model.parameters(), lr=3e-3)
        for _ in range(steps):
            some = [rows[number] for number in torch.randperm(len(rows))[:32]]
            batch = stack([row for row, _ in some], student.tokenizer.pad_token_id, "right")
            targets = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
            for row, (_, length) in enumerate(some):
                targets[row, :length] = -100
            optimiser.zero_grad()
            student.model(**batch, labels=targets).loss.backward()
            optimiser.step()
    student.model.save_pretrained(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def run_of(install_plugin, made: Path):
    """A run of a student that has learnt a rule, with an adapter for texts; made once."""
    install_plugin("mint-rule", "rule_plugin_under_test", Path(__file__).with_name("rule_plugin.py").read_text())

    def call(task: str, family: str) -> Path:
        import rule_plugin_under_test as rules

        folder = made / "runs" / task
        if not folder.exists():
            seam = rules.Rule if task == "rule" else rules.Picture
            learn(build(family, made / family), seam(rules.RuleConfig()), 50)
            aligner = {"name": "sft", "epochs": 1, "warmup": 0, "lora_rank": 2, "learning_rate": 1e-5}
            mint_core.run(
                {
                    "task": {"name": task, "count": 9},
                    "student": {"model": str(made / family), "device": "cpu"},
                    "predict": {"decode": "score", "shuffled": False},
                    "aligner": aligner if task == "rule" else None,
                    "out": str(made / "runs"),
                    "name": task,
                },
                until="report" if task == "rule" else "label",
            )
        return folder

    return call


@pytest.fixture
def run(run_of) -> Path:
    return run_of("rule", "llama")


def test_the_phrase_that_decides_is_found_and_stays_private(run: Path) -> None:
    found = mint_core.explain(run, samples=6)
    ranked = 0
    for one in found.content["samples"]:
        text, (first, *others) = found.texts[one["id"]], sorted(one["effects"], key=lambda part: -part["effect"])
        if one["label"] != "Skin":  # nothing in the text speaks for skin
            assert text[first["start"] : first["stop"]] == {"Colon": "redness", "Liver": "wheezing"}[one["label"]]
            assert first["effect"] > 3 * max(part["effect"] for part in others)
            ranked += 1
    assert ranked >= 3
    check = found.content["check"]
    assert check["difference"]["low"] > 0
    assert check["top"] > check["random"]
    assert found.path == run / "explain.json"
    page, kept = ((run / name).read_text() for name in ("report.html", "explain.json"))
    assert json.loads(kept) == found.content
    assert "Why the student answers so" in page
    assert told_check(found.content) in unescape(page)
    for text in (page, kept):
        assert not any(word in text for word in ("redness", "wheezing", "itch", "fever"))
    assert "characters 12 to" in page


def test_the_report_shows_texts_where_they_are_asked_for_and_forgets_them_again(run: Path) -> None:
    mint_core.explain(run, ids=["s2001"], with_text=True)
    page = (run / "report.html").read_text()
    assert "redness</mark>" in page
    assert "This page shows patients&#39; text" in page or "This page shows patients' text" in page
    mint_core.explain(run, ids=["s2001"])
    assert "redness" not in (run / "report.html").read_text()


def test_what_explains_another_adapter_is_not_shown(run: Path) -> None:
    mint_core.explain(run, ids=["s2001"])
    assert read_explained(run, run / "adapter") is not None
    content = json.loads((run / "explain.json").read_text())
    content["adapter"]["adapter_model.safetensors"]["digest"] = "0" * 32
    (run / "explain.json").write_text(json.dumps(content))
    assert read_explained(run, run / "adapter") is None
    withdraw_explained(run)
    assert not (run / "explain.json").exists()


def test_new_samples_with_one_label_for_all(mint, run: Path, tmp_path: Path) -> None:
    notes = [
        {"id": "n1", "text": "Phenotypes: itch, redness, fever, pain."},
        {"id": "n2", "text": "Phenotypes: itch, wheezing, fever, pain."},
        {"id": "n3", "text": "redness"},
    ]
    place = tmp_path / "notes.jsonl"
    place.write_text("".join(json.dumps(note) + "\n" for note in notes))
    given = ("explain", "--adapter", run / "adapter", "--input", place, "--device", "cpu")
    found = mint(*given, "--label", "colon", "--output", tmp_path / "why.json")
    assert found.code == 0
    assert re.search(r"redness\W+\+\d\.\d{3}", found.out)  # the user named the samples
    assert "Sample n3 has one phrase" in found.err
    content = json.loads((tmp_path / "why.json").read_text())
    by_id = {one["id"]: one for one in content["samples"]}
    assert {one["label"] for one in by_id.values()} == {"Colon"}
    assert by_id["n1"]["log_prob"] > by_id["n2"]["log_prob"]
    assert max(by_id["n1"]["effects"], key=lambda part: part["effect"])["start"] == 18
    assert "redness" not in (tmp_path / "why.json").read_text()
    page = mint(*given, "--id", "n1", "--output", tmp_path / "why.html")
    assert page.code == 0
    written = (tmp_path / "why.html").read_text()
    assert "n1: Colon" in written
    assert "redness" not in written
    assert "<script" not in written
    assert mint(*given, "--id", "n1", "--with-text", "--output", tmp_path / "why.html").code == 0
    assert "redness</mark>" in (tmp_path / "why.html").read_text()


@pytest.mark.parametrize(
    ("options", "said", "code"),
    [
        (("--label", "Livr"), "'Livr' is no label of this student; did you mean 'Liver'?", 2),
        (("--id", "s9999"), "There is no sample 's9999' to explain", DataError.exit_code),
        (("--with-images",), "reads texts; --with-text shows them, not --with-images", 2),
        (("--output", "why.png"), "ends in .json or .html", 2),
        (("--input", "x.jsonl"), "explained with its own settings", 2),
    ],
)
def test_bad_input_for_a_run_is_one_sentence(mint, run: Path, options, said: str, code: int) -> None:
    found = mint("explain", run, "--device", "cpu", *options)
    assert said in found.err
    assert found.code == code


def test_bad_input_for_an_adapter_is_one_sentence(mint, run: Path, tmp_path: Path) -> None:
    place = tmp_path / "notes.jsonl"
    place.write_text('{"id": "n1", "text": "redness"}\n')
    given = ("explain", "--adapter", run / "adapter", "--input", place, "--device", "cpu")
    assert "has one phrase, and without it nothing would be left" in mint(*given).err
    assert "which vLLM does not give" in mint(*given, "--set", "predict.engine=vllm").err
    copy = tmp_path / "notes.json"
    assert "would replace the samples" in mint(*given[:4], copy, "--output", tmp_path / "x" / ".." / copy.name).err
    assert "a run folder, or --adapter" in mint("explain").err
    assert "--adapter needs --input" in mint("explain", "--adapter", run / "adapter").err
    damaged = tmp_path / "adapter"
    shutil.copytree(run / "adapter", damaged)
    with (damaged / "adapter_model.safetensors").open("r+b") as file:
        file.truncate(200)
    said = mint("explain", "--adapter", damaged, "--input", place).err
    assert "copy the adapter/ folder of its run again" in said


def test_the_region_that_decides_is_found_and_shown_where_it_may_be(run_of) -> None:
    folder = run_of("picture", "llava")
    found = mint_core.explain(folder, ids=["s2001", "s2002"], grid=2)
    for one in found.content["samples"]:
        first, second = sorted(one["effects"], key=lambda part: -part["effect"])[:2]
        assert (first["row"], first["column"]) == (1, 0)
        assert first["effect"] > 10 * second["effect"]
    assert "image" not in found.content["samples"][0]
    assert found.content["check"]["difference"]["mean"] > 0
    page = folder / "why.html"
    mint_core.explain(folder, ids=["s2001"], grid=2, output=page)
    plain = page.read_text()
    mint_core.explain(folder, ids=["s2001"], grid=2, output=page, with_images=True)
    assert "Patients' images" in page.read_text()
    assert "Patients' images" not in plain
    shown = Image.open(
        io.BytesIO(base64.b64decode(json.loads((folder / "explain.json").read_text())["samples"][0]["image"]))
    )
    assert shown.size == (28, 28)


@pytest.mark.parametrize("spans", [[(0, 5), (4, 9)], [(0, 999)], [(3, 3)]])
def test_the_kit_finds_phrases_that_are_none(install_plugin, spans) -> None:
    install_plugin("mint-rule", "rule_plugin_under_test", Path(__file__).with_name("rule_plugin.py").read_text())
    import rule_plugin_under_test as rules

    class Wrong(rules.Rule):
        def phrases(self, sample):
            return spans

    task_6_phrases(rules.Rule(rules.RuleConfig(count=3)))
    with pytest.raises(AssertionError, match="task 6"):
        task_6_phrases(Wrong(rules.RuleConfig(count=3)))
