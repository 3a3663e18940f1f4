"""decode=score: every label of the space by likelihood, for every architecture."""

import math

import pytest
import torch
from PIL import Image

from mint_core.config import StudentConfig
from mint_core.inference.score import score
from mint_core.students.encoding import append_response, encode_prompt
from mint_core.students.prompts import write_response
from mint_core.students.student import Student, load_student
from mint_core.types import ImageRef, LabelSpace, Message, Prompt
from tests.tiny_students import ARCHITECTURES, HEADER, build

LABELS = LabelSpace(("Colon", "Colon cancer", "Liver", "Bile duct", "Head and neck", "Skin, of the face"))


class Plain(ImageRef):
    """One colour."""

    def __init__(self, colour: tuple[int, int, int]) -> None:
        self.colour = colour

    @property
    def key(self) -> str:
        return str(self.colour)

    def open(self) -> Image.Image:
        return Image.new("RGB", (56, 56), self.colour)


def prompt(student: Student, text: str = "Patient one.", colour: tuple[int, int, int] = (200, 20, 120)) -> Prompt:
    image = Plain(colour) if student.reads_images else None
    return Prompt((Message("system", "Keep to the format."), Message("user", text)), image)


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    root = tmp_path_factory.mktemp("students")
    found: dict[str, Student] = {}

    def load(family: str) -> Student:
        if family == "smolvlm":
            pytest.importorskip("num2words", reason="the processor of SmolVLM needs num2words")
        if family not in found:
            found[family] = load_student(StudentConfig(model=str(build(family, root / family))))
        return found[family]

    return load


def by_hand(student: Student, asked: Prompt, name: str) -> float:
    """One forward pass of the whole text; what stands in front of the name is not counted."""
    encoded = encode_prompt(student, "p", asked)

    def tokens(text: str) -> list[int]:
        return student.tokenizer(text, add_special_tokens=False)["input_ids"]

    written = tokens(write_response(HEADER, (name,)))
    known = len(tokens(f"{HEADER}\n1."))
    row = append_response(encoded, written)
    with torch.inference_mode():
        log_p = student.model(**row).logits[0].float().log_softmax(-1)
    total = sum(float(log_p[encoded.length + i - 1, written[i]]) for i in range(known, len(written)))
    closed = [
        tokens(write_response(HEADER, (name,)) + encoded.end_of_turn),
        tokens(write_response(HEADER, (name, "x"))),
    ]
    followers = {ids[len(written)] if len(ids) > len(written) else student.tokenizer.eos_token_id for ids in closed}
    last = encoded.length + len(written) - 1
    return total + math.log(sum(math.exp(float(log_p[last, follower])) for follower in followers))


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_scores_equal_those_of_one_pass_per_label(family: str, students) -> None:
    student = students(family)
    asked = prompt(student)
    [(sample_id, scores)] = score(student, {"p": asked}, LABELS, HEADER, batch_size=4)
    expected = [by_hand(student, asked, name) for name in LABELS.names]
    assert sample_id == "p"
    # What all labels share beyond the number of the entry is counted by hand only.
    assert scores - scores[0] == pytest.approx([value - expected[0] for value in expected], abs=5e-4)
    assert sum(math.exp(value) for value in scores) <= 1


def test_batches_and_company_do_not_matter(students) -> None:
    student = students("llama")
    prompts = {"a": prompt(student), "b": prompt(student, "Another patient, with a longer story.")}
    together = dict(score(student, prompts, LABELS, HEADER, batch_size=32))
    alone = dict(score(student, {"b": prompts["b"]}, LABELS, HEADER, batch_size=1))
    assert together["b"] == pytest.approx(alone["b"], abs=2e-5)
    assert abs(together["a"] - together["b"]).max() > 1e-6


def test_the_image_counts(students) -> None:
    student = students("llava")
    prompts = {"a": prompt(student), "b": prompt(student, colour=(10, 160, 60))}
    scores = dict(score(student, prompts, LABELS, HEADER, batch_size=32))
    assert abs(scores["a"] - scores["b"]).max() > 1e-6
