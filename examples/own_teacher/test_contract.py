"""The teacher keeps the clauses of the interface, and knows colours."""

import numpy as np
import pytest
from mint_colours import Colours
from PIL import Image

from mint_core.plugin import FileImage, LabelSpace, Sample
from mint_core.testing import TEACHER_CHECKS, teacher_context

LABELS = LabelSpace(("Blue", "Green", "Red"))
COLOURS = {"Blue": (0, 0, 200), "Green": (0, 200, 0), "Red": (200, 0, 0)}


@pytest.fixture
def fitted(tmp_path):
    samples = []
    for number, (label, colour) in enumerate(list(COLOURS.items()) * 3):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (8, 8), tuple(min(255, value + 3 * number) for value in colour)).save(path)
        samples.append(Sample(f"s{number}", "train", label, group=f"slide{number // 3}", image=FileImage(path)))
    teacher = Colours(None, teacher_context(LABELS, tmp_path))
    teacher.fit(samples)
    return teacher, samples


@pytest.mark.parametrize("check", TEACHER_CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_contract(check, fitted):
    check(*fitted)


def test_it_knows_colours(fitted):
    teacher, samples = fitted
    assert np.array_equal(teacher.log_probs(samples).argmax(1), [0, 1, 2] * 3)
