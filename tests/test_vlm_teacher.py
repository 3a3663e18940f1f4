"""The teacher `vlm`: the scores of `decode=score`, the prior, solved samples, what stands beside, and a server."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import mint_core
from mint_core.answering.score import score
from mint_core.config import StudentConfig
from mint_core.errors import ConfigError, ContractError, DataError, ModelError
from mint_core.folds import log_softmax
from mint_core.interfaces import Context, Student
from mint_core.students.load import load_student
from mint_core.teachers.vlm import CONTENT_FREE, Blank, Vlm
from mint_core.testing import TEACHER_CHECKS
from mint_core.types import LabelSpace, Message, Prompt, Sample
from tests.test_run import student, toy  # noqa: F401 - fixtures
from tests.test_score import Plain
from tests.toy_plugin import LABELS as NAMES
from tests.toy_plugin import Toy

LABELS = LabelSpace(NAMES)


class Patches(Toy):
    """The toy with images."""

    name = "patches"
    modality = "image"

    def inference_prompt(self, sample: Sample, n: int) -> Prompt:
        return Prompt((Message("user", f"Name EXACTLY {n}."),), sample.image)


class Both(Patches):
    """The toy with an image beside the text."""

    name = "both"
    modality = "image+text"

    def inference_prompt(self, sample: Sample, n: int) -> Prompt:
        return Prompt((Message("user", f"{sample.text}. Name EXACTLY {n}."),), sample.image)


def vlm(model: object, task: Toy | None = None, **options) -> Vlm:
    context = Context(labels=LABELS, task=task or Toy())
    return Vlm(Vlm.Config(model=None if model is None else str(model), **options), context)


def cases(count: int = 5, **more) -> list[Sample]:
    texts = ("tired", "pale and tired", "well", "short of breath since June", "red")
    return [
        Sample(f"p{i}", "train", NAMES[i % 6], f"g{i // 2}", text=f"Patient {i} is {texts[i % 5]}", **more)
        for i in range(count)
    ]


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen2_5_vl", "mllama"])
def test_it_scores_as_decode_score_does(family: str, students: Callable) -> None:
    """Text and image-text models of the architectures of MedGemma, Qwen2.5-VL and Llama 3.2 Vision."""
    own = students(family)
    task = Patches() if own.reads_images else Toy()
    samples = [replace(one, image=Plain((9 * i, 60, 200 - i))) for i, one in enumerate(cases())]
    teacher = vlm(own.source, task, beside=False, batch_size=2)
    found = teacher.log_probs(samples)
    prompts = {one.id: task.inference_prompt(one.for_student(task.modality), 1) for one in samples}
    raw = np.stack([row for _, row in score(own, prompts, LABELS, task.header, batch_size=5)])
    assert np.abs(raw).max() > 1
    np.testing.assert_allclose(found, log_softmax(raw), atol=1e-5)
    for check in TEACHER_CHECKS:
        check(teacher, samples)


def test_it_reads_weights_of_four_bits(folder: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="weights of few bits need the extra quantize")
    task, samples = Toy(), cases()
    own = load_student(StudentConfig(model=str(folder), device="cpu", quantize="nf4"))
    prompts = {one.id: task.inference_prompt(one, 1) for one in samples}
    raw = np.stack([row for _, row in score(own, prompts, LABELS, task.header, batch_size=5)])
    found = vlm(str(folder), task, beside=False, quantize="nf4").log_probs(samples)
    np.testing.assert_allclose(found, log_softmax(raw), atol=1e-5)
    assert np.abs(found - vlm(str(folder), task, beside=False).log_probs(samples)).max() > 1e-3


def test_a_run_gives_the_numbers_of_a_student_that_scores(toy, folder: Path) -> None:  # noqa: F811
    told = {
        **toy, "aligner": None, "task": {"name": "toy", "n": 1}, "student": {"model": str(folder), "device": "cpu"},
        "teacher": {"name": "vlm", "model": str(folder)}, "strategy": {"name": "pairwise", "k": 1, "q": 1},
        "predict": {"decode": "score"},
    }  # fmt: skip
    path = Path(mint_core.run(told, until="predict").path)
    ids = json.loads((path / "scores" / "index.json").read_text())["samples"]
    rankings = pq.read_table(path / "rankings" / "rankings.parquet").to_pydict()
    taught = dict(zip(rankings["sample"], rankings["log_probs"], strict=True))
    students_own = log_softmax(np.load(path / "scores" / "base.npy"))
    np.testing.assert_allclose([taught[name] for name in ids], students_own, atol=1e-5)
    # Other words make other rankings.
    with pytest.raises(ConfigError, match=r"finished 'label' of another run \(task\.secret"):
        mint_core.run({**told, "task": {"name": "toy", "n": 1, "secret": "other words"}}, until="label")
    mint_core.run({**told, "task": {"name": "toy", "n": 2}}, until="label")  # it is asked for one name all the same


def test_the_prior_of_an_empty_case_is_divided_out(students: Callable) -> None:
    samples, task, own = cases(), Toy(), students("llama")
    plain, calibrated = vlm(own.source), vlm(own.source, calibrate=True)
    empty = {text: task.inference_prompt(Sample("x", "test", text=text), 1) for text in CONTENT_FREE}
    prior = np.exp(log_softmax(np.stack([row for _, row in score(own, empty, LABELS, task.header, batch_size=1)])))
    odds = np.exp(plain.log_probs(samples)) / prior.mean(0)
    found = calibrated.log_probs(samples)
    np.testing.assert_allclose(np.exp(found), odds / odds.sum(1, keepdims=True), atol=1e-5)
    assert sum(calibrated.describe()["prior"].values()) == pytest.approx(1, abs=1e-3)


def test_an_empty_image_is_grey(students: Callable) -> None:
    own = students("qwen2_5_vl")
    teacher = vlm(own.source, Patches(), calibrate=True)
    blank = Sample("b", "test", image=Blank())
    rows = teacher.log_probs([blank, replace(blank, id="c", image=Plain((250, 0, 0)))])
    np.testing.assert_allclose(np.exp(rows[0]), 1 / 6, atol=1e-4)  # it says nothing
    assert np.abs(np.exp(rows[1]) - 1 / 6).max() > 1e-3
    assert set(teacher.describe()["prior with a grey image"]) == set(NAMES)


def test_solved_samples_stand_in_front_and_never_of_the_same_group(folder: Path) -> None:
    samples = cases(12)
    teacher = vlm(folder, shots=4, beside=False)
    teacher.fit([*samples, replace(samples[0], id="unknown", label=None)])
    for sample in samples:
        words = teacher._prompt(sample).messages[-1].content
        shown = [one for one in samples if f"{one.text}. Name 1." in words]
        assert len(shown) == 4
        assert len({one.label for one in shown}) == 4
        assert not any(one.group == sample.group for one in shown)
        assert words.rstrip().endswith(f"{sample.text}. Name EXACTLY 1.")
    for one in shown:
        assert f"{Toy.header}\n1. {one.label}" in words
    assert np.isfinite(teacher.log_probs(samples[:2])).all()
    with pytest.raises(ConfigError, match=r"teacher.shots=4: only 2 training samples have a label"):
        teacher.fit(samples[:2])
    with pytest.raises(ConfigError, match="a prompt holds one image, the sample's own"):
        vlm(folder, Patches(), shots=1).fit(samples)


def test_it_is_shown_what_the_student_does_not_read(students: Callable, folder: Path) -> None:
    own = students("gemma3")
    sample = cases(1, privileged={"gene": "PAX6"}, image=Plain((1, 2, 3)))[0]
    text_task = vlm(own.source)._prompt(sample)
    assert text_task.image is sample.image
    assert text_task.messages[-1].content.startswith("gene: PAX6\n\nPatient 0 is tired")
    image_task = vlm(own.source, Patches())._prompt(sample)
    assert image_task.messages[-1].content == "gene: PAX6\nPatient 0 is tired\n\nName EXACTLY 1."
    both = vlm(own.source, Both())._prompt(sample)
    assert (both.image, both.messages[-1].content.count("Patient 0 is tired")) == (sample.image, 1)
    with pytest.raises(DataError, match="'p0' has no text, which the task shows"):
        vlm(own.source, Both())._prompt(replace(sample, text=None))
    bare = vlm(own.source, beside=False)._prompt(sample)
    assert (bare.image, bare.messages) == (None, Toy().inference_prompt(sample.for_student("text"), 1).messages)
    assert vlm(folder)._prompt(sample).image is None  # a text model
    mixed = [sample, replace(sample, id="without", image=None)]
    near = students("qwen2_5_vl").source
    rows = vlm(near).log_probs(mixed)
    np.testing.assert_allclose(vlm(near).log_probs(mixed[1:])[0], rows[1], atol=1e-5)
    assert np.abs(rows[0] - rows[1]).max() > 1e-3
    asked = vlm(folder, prompt="Which of {labels} has: {text}?", beside=False)._prompt(sample)
    assert asked.messages == (Message("user", f"Which of {', '.join(NAMES)} has: Patient 0 is tired?"),)


def completions(own: Student, request: dict) -> tuple[int, str]:
    """What a server with `echo` and `logprobs` says, computed with a real model."""
    choices = []
    for index, text in enumerate(request["prompt"]):
        read = own.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = torch.tensor([read["input_ids"]])
        with torch.inference_mode():
            steps = own.model(ids).logits[0].float().log_softmax(-1)
        values = [None, *(float(steps[at, token]) for at, token in enumerate(read["input_ids"][1:]))]
        starts = [start for start, _ in read["offset_mapping"]]
        told = {"token_logprobs": [*values, -0.1], "text_offset": [*starts, len(text)]}
        choices.append({"index": index, "text": text + " and", "logprobs": told})
    return 200, json.dumps({"choices": choices[::-1]})


def test_a_server_that_tells_log_probabilities(serve: Callable, students: Callable) -> None:
    own = students("llama")
    server = serve(lambda request: completions(own, request))
    samples, task = cases(3), Toy()
    found = vlm("tiny", base_url=server.url).log_probs(samples)
    by_hand = np.empty((3, 6))
    for row, sample in enumerate(samples):
        asked = "\n\n".join(message.content for message in task.inference_prompt(sample, 1).messages)
        for column, name in enumerate(NAMES):
            begin = f"{asked}\n\n{task.header}\n1."
            whole = own.tokenizer(f"{begin} {name}\n", add_special_tokens=False)["input_ids"]
            known = len(own.tokenizer(begin, add_special_tokens=False)["input_ids"])
            with torch.inference_mode():
                steps = own.model(torch.tensor([whole])).logits[0].float().log_softmax(-1)
            by_hand[row, column] = sum(float(steps[at - 1, whole[at]]) for at in range(known, len(whole)))
    np.testing.assert_allclose(found, log_softmax(by_hand), atol=1e-4)
    path, request = server.requests[0]
    assert path == "/v1/completions"
    assert request["echo"]
    assert request["model"] == "tiny"


@pytest.mark.parametrize(
    "choice",
    [
        {"text": " Colon", "logprobs": {"token_logprobs": [-1.0], "text_offset": [0]}},
        {"text": " Colon", "logprobs": None},
        {"text": " Colon"},
    ],
)
def test_a_server_that_tells_none_is_refused(serve: Callable, choice: dict) -> None:
    server = serve((200, json.dumps({"choices": [{"index": i, **choice} for i in range(6)]})))
    with pytest.raises(ModelError, match="does not tell how likely the labels are; ask a completions server"):
        vlm("tiny", base_url=server.url).log_probs(cases(1))


def test_bad_input_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    for make, error, sentence in (
        (lambda: vlm(None), ConfigError, "The teacher 'vlm' needs a model"),
        (lambda: vlm(folder, Patches()), ModelError, "the model .* reads text only; name an image-text model"),
        (lambda: vlm(tmp_path), ModelError, "Teacher 'vlm', whose model is loaded as a student is: "),
        (lambda: vlm("m", Patches(), base_url="http://127.0.0.1:1/v1"), ConfigError, "server reads texts only"),
        (lambda: vlm("m", base_url="http://example.org/v1"), ConfigError, "another machine.*teacher.send_text=true"),
        (lambda: Vlm(Vlm.Config(model=str(folder)), Context(labels=LABELS)), ContractError, "made without a task"),
    ):
        with pytest.raises(error, match=sentence):
            make().log_probs([replace(one, image=Plain((1, 2, 3))) for one in cases(1)])
    with pytest.raises(DataError, match="'p0' has no text, which the task shows; leave the sample out"):
        vlm(folder).log_probs([replace(one, text=None) for one in cases(1)])


REMOTE = {"name": "vlm", "model": "m", "base_url": "http://example.org/v1?tier=SECRET-QUERY"}


def test_texts_leave_this_machine_only_where_that_is_allowed(toy, mint) -> None:  # noqa: F811
    config = Path("mint.yaml")
    config.write_text(json.dumps({**toy, "teacher": REMOTE}))
    refused = mint("run", "-c", config)
    assert refused.code == 2
    assert "another machine" in refused.err and "teacher.send_text=true" in refused.err
    assert not Path("runs/t").exists()
    both = {"name": "ensemble", "teachers": ["oracle", REMOTE]}
    config.write_text(json.dumps({**toy, "teacher": both}))
    assert mint("label", "-c", config).code == 2


def test_what_a_teacher_sends_is_told_in_advance_and_in_the_report(toy, monkeypatch) -> None:  # noqa: F811
    """Nobody answers there: the rankings are the oracle's, and the run is made as if a server had ranked."""
    from toy_plugin_under_test import Oracle

    def ranked(self: Vlm, samples: list[Sample]) -> np.ndarray:
        return Oracle(None, self.context).log_probs(samples)

    monkeypatch.setattr(Vlm, "log_probs", ranked)
    told: list[str] = []

    class Listener(mint_core.Observer):
        def message(self, text: str) -> None:
            told.append(text)

    made = mint_core.run({**toy, "teacher": {**REMOTE, "send_text": True}}, observer=Listener())
    sent = "the samples' texts and what the teacher reads beside them, to http://example.org/v1"
    assert f"Leaves this machine, for the teacher 'vlm': {sent}." in told
    page = (made.path / "report.html").read_text()
    assert f"Left this machine: {sent.replace(chr(39), '&#39;')}." in page
    assert "No data of this run have left this machine" not in page
    assert "SECRET-QUERY" not in page
    assert Vlm.sends(Vlm.Config(model="m", base_url="http://localhost:8000/v1")) == ""


def test_it_reads_a_gguf_file(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="GGUF files need the package gguf")
    from tests.test_gguf import write_gguf

    task = Toy()
    file = write_gguf(folder, tmp_path / "tiny.Q8_0.gguf")
    prompts = {one.id: task.inference_prompt(one.for_student(task.modality), 1) for one in cases()}
    own = load_student(StudentConfig(model=str(file), device="cpu"))
    raw = np.stack([row for _, row in score(own, prompts, LABELS, task.header, batch_size=5)])
    np.testing.assert_allclose(vlm(file).log_probs(cases()), log_softmax(raw), atol=1e-5)
