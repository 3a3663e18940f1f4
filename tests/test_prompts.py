"""Responses: written, parsed, and round."""

import pytest

from mint_core.students.prompts import parse_response, with_passages, write_response
from mint_core.types import Message, Prompt

H = "MOST_LIKELY_TISSUE:"


def test_a_written_response_parses_back() -> None:
    parsed = parse_response(write_response(H, ("Colon", "Bile duct")), H)
    assert (parsed.labels, parsed.n_listed, parsed.well_formed) == (("Colon", "Bile duct"), 2, True)


@pytest.mark.parametrize(
    ("text", "labels", "listed", "well_formed"),
    [
        ("", (), 0, False),
        (H, (), 0, False),
        (f"{H}\n1. Colon\n2. colon.", ("Colon",), 2, True),  # duplicates count once; n_listed tells
        ("1. Colon\n2. Lung", ("Colon", "Lung"), 2, False),  # no header
        (f"Sure!\n{H}\n1. Colon", ("Colon",), 1, False),  # prose in front
        (f"{H}\n1. Colon\nI hope this helps", ("Colon",), 1, False),  # prose behind
        (f"{H}\n1. Colon\n3. Lung", ("Colon", "Lung"), 2, False),  # a gap
        (f"{H}\n1. Colon\n2. Lung\n1. Skin", ("Skin",), 1, False),  # the last list wins
        (f"{H}\n1. Colon\n{H}\n1. Skin\n2. Lung", ("Skin", "Lung"), 2, False),
        (f"{H}\n\n 1) Colon \n 2) Lung\n", ("Colon", "Lung"), 2, True),
        (f"{H}\n1.\n2. Lung", ("Lung",), 1, False),  # an empty entry
        (f"{H}\n- Colon", (), 0, False),
    ],
)
def test_parsing(text: str, labels: tuple[str, ...], listed: int, well_formed: bool) -> None:
    parsed = parse_response(text, H)
    assert (parsed.labels, parsed.n_listed, parsed.well_formed) == (labels, listed, well_formed)


def test_passages_stand_before_the_question() -> None:
    prompt = Prompt((Message("system", "S"), Message("user", "Which?")))
    found = with_passages(prompt, ["Kabuki: long palpebral fissures"], H)
    assert found.messages[0] == prompt.messages[0]
    assert found.messages[1].content.endswith("Which?")
    assert "Kabuki" in found.messages[1].content
    assert with_passages(prompt, [], H) == prompt


def test_patients_text_does_not_show_in_representations() -> None:
    prompt = Prompt((Message("user", "Sex male Age 3 years"),))
    assert "male" not in repr(prompt)
