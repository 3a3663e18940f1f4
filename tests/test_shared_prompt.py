"""The prompt computed once: log-probabilities and gradients of one row per response, for every architecture."""

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mint_core.aligners.batches import shares_prompts
from mint_core.aligners.losses import ResponseLogProbs, response_log_probs
from mint_core.aligners.orpo import Orpo, OrpoConfig
from mint_core.aligners.rows import TrainingRows
from mint_core.aligners.shared import PromptRow, shared_batch, shared_log_probs
from mint_core.config import StudentConfig
from mint_core.interfaces import AlignmentJob, Student
from mint_core.students.encoding import append_response, encode_prompt, encode_response
from mint_core.students.load import load_student
from mint_core.students.prompts import write_response
from mint_core.types import ImageRef, Message, PreferenceGroup, Prompt
from tests.tiny_students import ARCHITECTURES, HEADER, build

RESPONSES = (
    (("Colon",), ("Liver", "Skin"), ("Bile duct",), ("Kidney",)),
    (("Skin",), ("Colon", "Kidney", "Liver", "Adrenal gland")),
)


class Plain(ImageRef):
    """One colour."""

    def __init__(self, *colour: int) -> None:
        self.colour = colour

    @property
    def key(self) -> str:
        return str(self.colour)

    def open(self) -> Image.Image:
        return Image.new("RGB", (56, 56), self.colour)


def student_of(family: str, folder, **options) -> Student:
    if family == "smolvlm":
        pytest.importorskip("num2words", reason="the processor of SmolVLM needs num2words")
    return load_student(StudentConfig(model=str(build(family, folder)), **options))


def rows_of(student: Student) -> list[PromptRow]:
    """Two prompts of different length with different numbers of responses."""
    rows = []
    for text, colour, responses in zip(
        ("Patient one.", "Patient two with a longer text here."),
        ((200, 20, 120), (10, 160, 60)),
        RESPONSES,
        strict=True,
    ):
        image = Plain(*colour) if student.reads_images else None
        asked = Prompt((Message("system", "Keep to the format."), Message("user", text)), image)
        prompt = encode_prompt(student, text, asked)
        ids = [encode_response(student, write_response(HEADER, r), prompt.end_of_turn) for r in responses]
        rows.append(PromptRow(prompt, ids))
    return rows


def distinct(student: Student, rows: list[PromptRow]) -> ResponseLogProbs:
    """One forward pass per response, without any padding."""
    found = []
    for row in rows:
        for ids in row.responses:
            batch = append_response(row.prompt, ids)
            labels = batch["input_ids"].clone()
            labels[:, : row.prompt.length] = -100
            found.append(response_log_probs(student.model(**batch, use_cache=False).logits, labels))
    return ResponseLogProbs(*(torch.cat(values) for values in zip(*found, strict=True)))


def shared(student: Student, rows: list[PromptRow]) -> ResponseLogProbs:
    batch, places = shared_batch(student, rows)
    return shared_log_probs(student.model(**batch, use_cache=False, logits_to_keep=places.tail + 1).logits, places)


def gradients(student: Student, values: torch.Tensor) -> torch.Tensor:
    student.model.zero_grad()
    weights = torch.linspace(-1, 2, len(values))  # every response pulls differently
    (values * weights).sum().backward()
    return torch.cat([p.grad.flatten() for p in student.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_shared_equals_distinct_rows(family: str, tmp_path) -> None:
    student = student_of(family, tmp_path)
    rows = rows_of(student)
    one, other = distinct(student, rows), shared(student, rows)
    assert other.tokens.tolist() == one.tokens.tolist()
    assert torch.allclose(one.total, other.total, rtol=1e-5, atol=1e-4)
    expected, found = gradients(student, one.average), gradients(student, other.average)
    assert float((expected - found).norm() / expected.norm()) < 1e-5


def test_labels_that_begin_another_and_labels_of_one_token(tmp_path) -> None:
    """Each response sees itself alone, also where another one begins with its very tokens."""
    student = student_of("llama", tmp_path)
    prompt = rows_of(student)[0].prompt
    long = encode_response(student, write_response(HEADER, ("Bile duct of the liver",)), prompt.end_of_turn)
    rows = [PromptRow(prompt, [long, long[:-2], long[:1], long[1:2]])]
    one, other = distinct(student, rows), shared(student, rows)
    assert other.tokens.tolist() == [len(long), len(long) - 2, 1, 1]
    assert torch.allclose(one.total, other.total, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_both_attention_implementations(attention: str, tmp_path) -> None:
    """Eager attention adds its mask: a boolean one would be silently wrong."""
    student = student_of("llama", tmp_path, attention=attention)
    rows = rows_of(student)
    assert torch.allclose(distinct(student, rows).total, shared(student, rows).total, rtol=1e-5, atol=1e-4)


def test_the_row_holds_the_prompt_once(tmp_path) -> None:
    student = student_of("llama", tmp_path)
    rows = rows_of(student)[:1]
    batch, _ = shared_batch(student, rows)
    assert batch["input_ids"].shape == (1, rows[0].prompt.length + sum(map(len, rows[0].responses)))


def test_gradient_checkpointing_changes_nothing(tmp_path) -> None:
    student = student_of("llama", tmp_path)
    rows = rows_of(student)
    plain = gradients(student, shared(student, rows).average)
    student.model.gradient_checkpointing_enable({"use_reentrant": False})
    student.model.train()
    again = gradients(student, shared(student, rows).average)
    assert float((plain - again).norm() / plain.norm()) < 1e-5


def job_of(student: Student, folder, groups: list[PreferenceGroup]) -> AlignmentJob:
    asked = Prompt((Message("system", "Keep to the format."), Message("user", "Patient one.")), None)
    return AlignmentJob(
        student=student,
        groups=groups,
        prompts={group.sample_id: asked for group in groups},
        header=HEADER,
        seed=0,
        work=folder / "work",
        adapter=folder / "adapter",
        advance=lambda step, total, figures: None,
    )


PAIRS = [PreferenceGroup("p", (("Colon",), ("Liver",)), (("Skin",), ("Kidney",)))]


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_training_shares_the_prompt_and_learns_the_same(quantize: str, tmp_path) -> None:
    """Every weight of the adapter after three steps."""
    if quantize != "none":
        pytest.importorskip("bitsandbytes", reason="weights of few bits need the extra quantize")
    learnt = []
    for share in (True, False):
        student = student_of("llama", tmp_path / f"student-{share}", device="cpu", quantize=quantize)
        job = job_of(student, tmp_path / str(share), PAIRS * 6)
        assert shares_prompts(TrainingRows(job), student.model)
        options = {"epochs": 1, "warmup": 0, "lora_rank": 4, "lora_dropout": 0.0, "batch_size": 2}
        Orpo(OrpoConfig(share_prompt=share, **options)).align(job)
        learnt.append(load_file(job.adapter / "adapter_model.safetensors"))
    for name, value in learnt[0].items():
        assert torch.allclose(value, learnt[1][name], atol=1e-5), name


def test_a_student_whose_mask_does_not_hold_gets_a_row_per_response(tmp_path, monkeypatch) -> None:
    """The check at the start looks at log-probabilities: a mask that lets responses see each other is noticed."""
    student = student_of("llama", tmp_path / "student")
    job = job_of(student, tmp_path, PAIRS)
    assert shares_prompts(TrainingRows(job), student.model)
    monkeypatch.setattr("mint_core.aligners.shared._form", lambda student, mask: torch.ones_like(mask).tril()[:, None])
    with pytest.warns(UserWarning, match="one row per response, because its prompt cannot be shared"):
        assert not shares_prompts(TrainingRows(job), student.model)


def test_one_response_needs_no_sharing(tmp_path) -> None:
    student = student_of("llama", tmp_path / "student")
    assert not shares_prompts(TrainingRows(job_of(student, tmp_path, PAIRS[:1])), student.model, whole=True)
    one = [PreferenceGroup("p", (("Colon",),), (("Skin",),))]
    assert not shares_prompts(TrainingRows(job_of(student, tmp_path, one)), student.model, rejected=False)
