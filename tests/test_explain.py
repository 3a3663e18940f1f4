"""`mint explain`: phrases and regions, their effects, and the check that they matter more than random ones."""

import numpy as np
import pytest
import torch

from mint_core.answering.alike import label_log_probs, with_beginning
from mint_core.answering.score import score, with_rows
from mint_core.answering.trie import candidates, common
from mint_core.phrases import split, without
from mint_core.students.encoding import encode_prompt
from mint_core.types import LabelSpace, Message, Prompt
from tests.tiny_students import HEADER, LABELS

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
