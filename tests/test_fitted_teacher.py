"""The base of fitted teachers: an author's subclass of a few lines, its folds, its cache, and what it refuses."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mint_core.errors import ContractError, DataError
from mint_core.plugin import Context, FittedTeacher, ImageRef, LabelSpace, Sample
from mint_core.plugins import registry
from mint_core.teachers.fitted import PENALTIES
from mint_core.testing import TEACHER_CHECKS

LABELS = LabelSpace(("Red", "Green", "Never seen"))
CALLS: list[int] = []


@dataclass(frozen=True)
class Shade(ImageRef):
    red: int

    @property
    def key(self) -> str:
        return f"red {self.red}"

    def open(self) -> Image.Image:
        return Image.new("RGB", (2, 2), (self.red, 255 - self.red, 0))


class Colours(FittedTeacher):
    """What an author writes."""

    name = "colours"
    reads = ("image",)

    def features(self, samples):
        CALLS.append(len(samples))
        return np.stack([np.asarray(sample.image.open(), float).mean((0, 1)) for sample in samples])


def shades(count: int, split: str = "train", first: int = 0) -> list[Sample]:
    """Red ones and green ones in turn; two of one group beside each other in the list."""
    made = []
    for i in range(first, first + count):
        red = 200 + i if i % 2 else i
        made.append(Sample(f"{split}{i}", split, LABELS.names[1 - i % 2], f"{split} g{i // 2}", Shade(red)))  # type: ignore[arg-type]
    return made


@pytest.fixture
def fitted(tmp_path: Path) -> Callable[..., Colours]:
    CALLS.clear()

    def fit(samples: list[Sample], **options) -> Colours:
        teacher = Colours(Colours.Config(**options), Context(labels=LABELS, cache=tmp_path))
        teacher.fit(samples)
        return teacher

    return fit


def test_it_keeps_the_contract_and_puts_unseen_labels_last(fitted) -> None:
    teacher = fitted([*shades(20), replace(shades(1)[0], id="u", label=None)])
    asked = [*shades(20), *shades(6, "test", 21)]
    for check in TEACHER_CHECKS:
        check(teacher, asked)
    rows = teacher.log_probs(asked)
    assert [LABELS.names[column] for column in rows.argmax(1)] == [sample.label for sample in asked]
    assert (rows.argmin(1) == 2).all()
    facts = teacher.describe()
    assert facts["fitted_on"] == 20
    assert facts["converged"]
    assert facts["training_rankings"] == "out-of-fold"


def test_a_training_sample_is_ranked_without_its_group_and_new_ones_by_the_whole(fitted) -> None:
    odd = [Sample(f"odd{i}", "train", "Green", "odd", Shade(120 + i)) for i in range(5)]
    train = [*shades(20), *odd]
    crossed, plain = fitted(train, c=100), fitted(train, c=100, cross_fit=0)
    assert (crossed.log_probs(odd).argmax(1) == 0).all()  # nobody told the fold that these reds are green
    assert (plain.log_probs(odd).argmax(1) == 1).all()
    blind = [replace(sample, id=f"blind {sample.id}", label=None) for sample in odd]
    np.testing.assert_array_equal(crossed.log_probs(blind), plain.log_probs(blind))
    lone = Sample("lone", "train", "Never seen", "lone", Shade(125))
    assert fitted([*shades(20), lone]).log_probs([lone]).argmin() == 2  # its label has no sample but itself


def test_the_sample_of_the_docs_is_a_teacher(install_plugin, tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "teachers.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n# colours\.py\n(.*?)```", page, flags=re.S)
    install_plugin("mint-colours", "colours", code)
    teacher = registry().get("teacher", "colours").component(None, Context(labels=LABELS, cache=tmp_path))
    teacher.fit(shades(20))
    for check in TEACHER_CHECKS:
        check(teacher, [*shades(20), *shades(6, "test", 21)])


def test_features_are_made_once_per_image(fitted) -> None:
    samples = shades(20)
    first = fitted(samples).log_probs(samples)
    again = fitted([replace(sample, id=f"other {sample.id}") for sample in samples])
    np.testing.assert_array_equal(again.log_probs(samples[:0]), first[:0])
    assert sum(CALLS) == 20
    assert again.describe()["cached_features"] == 20


def test_other_code_has_a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Colours(None, Context(labels=LABELS, cache=tmp_path))
    before = teacher.cache_name
    edited = tmp_path / "edited.py"
    edited.write_text("# another file\n")
    monkeypatch.setattr("mint_core.teachers.fitted.inspect.getfile", lambda _: str(edited))
    assert teacher.cache_name != before


def test_a_penalty_is_chosen_where_none_is_given(fitted) -> None:
    assert fitted(shades(20), c=None).describe()["c"] in PENALTIES
    rng = np.random.default_rng(0)
    noise = [replace(sample, label=LABELS.names[rng.integers(2)]) for sample in shades(40)]
    assert fitted(noise, c=None).describe()["c"] == 0.1
    one_group = [replace(sample, group="all") for sample in shades(10)]
    facts = fitted(one_group, c=None).describe()
    assert (facts["c"], facts["training_rankings"]) == (1.0, "in-sample")


def test_what_cannot_be_fitted_is_one_sentence(fitted, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'colours' needs training samples of at least two labels and found 1 among 3"):
        fitted([replace(sample, label="Red") for sample in shades(3)])
    with pytest.raises(DataError, match=r"unknown label 'Rde'; did you mean 'Red'"):
        fitted([replace(sample, label="Rde") for sample in shades(3)])
    with pytest.raises(DataError, match="'train0' has no image, and the teacher colours needs one"):
        fitted([replace(sample, image=None) for sample in shades(4)])
    with pytest.raises(ContractError, match="was not fitted; call `fit`"):
        Colours(None, Context(labels=LABELS, cache=tmp_path)).log_probs(shades(1))
    with pytest.raises(ValueError, match="one fold leaves nothing to fit on"):
        Colours.Config(cross_fit=1)
