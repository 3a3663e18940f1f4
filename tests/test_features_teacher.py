"""The teacher `features`: texts, images, numbers and categories, alone and together, and what they lack."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image

from mint_core.errors import ConfigError, DataError, ModelError
from mint_core.interfaces import Context
from mint_core.teachers.features import Features, Row, _number_fields
from mint_core.teachers.pixels import pixel_features
from mint_core.testing import TEACHER_CHECKS
from mint_core.types import ImageRef, LabelSpace, Sample

LABELS = LabelSpace(("Anaemia", "Bleeding", "Cold", "Never seen"))


@dataclass(frozen=True)
class Striped(ImageRef):
    """Stripes of one width on a ground of one colour."""

    width: int
    red: int = 0

    @property
    def key(self) -> str:
        return f"{self.width} {self.red}"

    def open(self) -> Image.Image:
        pixels = np.full((48, 48, 3), 255, np.uint8)
        pixels[:, np.arange(48) // self.width % 2 == 0] = (self.red, 0, 0)
        return Image.fromarray(pixels)


def cases(count: int = 36, split: str = "train", seed: int = 0) -> list[Sample]:
    """Words tell Anaemia, stripes tell Bleeding, the number and the category tell Cold; each alone tells one label."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        label = LABELS.names[i % 3]
        words = "pale and tired" if label == "Anaemia" else "well, and not tired"
        width = 8 if label == "Bleeding" else 2
        fields = {
            "temperature": f"{(39 if label == 'Cold' else 36) + rng.random():.3f}",
            "season": "winter" if label == "Cold" else ("summer", "autumn")[i % 2],
        }
        image = Striped(width, int(rng.integers(40)))
        made.append(Sample(f"{split}{i}", split, label, f"{split} g{i // 2}", image, f"The child is {words}.", fields))  # type: ignore[arg-type]
    return made


def fitted(folder: Path, samples=None, labels: LabelSpace = LABELS, **options) -> Features:
    teacher = Features(Features.Config(**options), Context(labels=labels, cache=folder))
    teacher.fit(cases() if samples is None else samples)
    return teacher


def right(teacher: Features, asked: list[Sample]) -> set[str]:
    """The labels that are recognised whenever they are true, and never else."""
    best = [LABELS.names[column] for column in teacher.log_probs(asked).argmax(1)]
    wrong = {name for one, name in zip(asked, best, strict=True) if one.label != name for name in (one.label, name)}
    return {sample.label for sample in asked} - wrong


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({}, {"Anaemia", "Bleeding", "Cold"}),
        ({"image": "none", "privileged": False}, {"Anaemia"}),
        ({"text": False, "privileged": False}, {"Bleeding"}),
        ({"text": False, "image": "none", "privileged": ("temperature",)}, {"Cold"}),
        ({"text": False, "image": "none", "privileged": ("season",)}, {"Cold"}),
    ],
)
def test_each_part_tells_what_it_can_and_all_together_everything(tmp_path: Path, options: dict, known: set) -> None:
    assert right(fitted(tmp_path, **options), cases(18, "test", 1)) == known


def test_it_keeps_the_contract_and_says_what_it_read(tmp_path: Path) -> None:
    teacher, asked = fitted(tmp_path), [*cases(), *cases(9, "test", 1)]
    for check in TEACHER_CHECKS:
        check(teacher, asked)
    assert (teacher.log_probs(asked).argmin(1) == 3).all()
    facts = teacher.describe()
    assert facts["reads"] == ["text", "image", "numbers", "categories"]
    assert facts["training_rankings"] == "out-of-fold"
    assert facts["cached_features"] == len({sample.image.key for sample in asked})


def test_what_a_sample_lacks_is_no_obstacle(tmp_path: Path) -> None:
    whole = cases()
    bare = [replace(one, image=None, text=None, privileged={}) for one in whole[::4]]
    odd = [replace(one, privileged={"temperature": "nan", "season": "monsoon"}) for one in cases(6, "test", 1)]
    teacher = fitted(tmp_path, [*bare, *whole[1::4], *whole[2::4], *whole[3::4]])
    assert np.isfinite(teacher.log_probs([*bare, *odd])).all()
    texts = fitted(tmp_path, [replace(one, image=None, privileged={}) for one in whole])
    assert texts.describe()["reads"] == ["text"]


def test_few_numbers_are_names(tmp_path: Path) -> None:
    rows = [Row("", None, {"grade": str(i % 3), "age": str(i), "site": f"{i}a"}) for i in range(20)]
    assert _number_fields(rows) == ("age",)


def test_pixels_tell_colour_texture_and_place() -> None:
    one = pixel_features(Striped(2).open())
    assert one.shape == (98,)
    others = (Striped(8).open(), Striped(2, 90).open(), Striped(2).open().rotate(90))
    assert all(np.abs(pixel_features(other) - one).max() > 0.1 for other in others)
    for extreme in (Image.new("L", (1, 1)), Image.new("RGB", (3000, 2), (255, 255, 255))):
        assert np.isfinite(pixel_features(extreme)).all()


@pytest.fixture(scope="module")
def vision_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A SigLIP and a ViT of random weights, as they are published, and a text model."""
    root = tmp_path_factory.mktemp("vision")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tower = {**small, "image_size": 28, "patch_size": 14}
    size = {"height": 28, "width": 28}
    siglip = tf.SiglipConfig(text_config={**small, "vocab_size": 50}, vision_config=tower)
    tf.SiglipModel(siglip).save_pretrained(root / "siglip")
    tf.ViTModel(tf.ViTConfig(**tower)).save_pretrained(root / "vit")
    for name in ("siglip", "vit"):
        tf.SiglipImageProcessor(size=size).save_pretrained(root / name)
    tf.BertModel(tf.BertConfig(**small, vocab_size=50)).save_pretrained(root / "text")
    return {path.name: path for path in root.iterdir()}


@pytest.mark.parametrize("name", ["siglip", "vit"])
def test_a_vision_model_gives_frozen_features(tmp_path: Path, vision_models: dict[str, Path], name: str) -> None:
    options = {"image": str(vision_models[name]), "text": False, "privileged": False}
    teacher = fitted(tmp_path, **options)
    assert teacher.describe()["columns"] == 16
    asked = cases(9, "test", 1)
    assert right(teacher, asked) == {"Bleeding"}
    assert fitted(tmp_path / "other", **options).log_probs(asked).tobytes() == teacher.log_probs(asked).tobytes()


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, vision_models: dict[str, Path]) -> None:
    empty = [replace(sample, text="...", image=None, privileged={}) for sample in cases()]
    with pytest.raises(DataError, match=r"No training sample has anything .* give the samples a text, an image or a"):
        fitted(tmp_path, empty)
    with pytest.raises(ConfigError, match="no sample has a field 'sesaon'; did you mean 'season'"):
        fitted(tmp_path, privileged=("sesaon",))
    with pytest.raises(ModelError, match=r"\(bert\) reads no images; name a vision model"):
        fitted(tmp_path, image=str(vision_models["text"]))
    with pytest.raises(ModelError, match="The image model 'owner/none' is neither"):
        fitted(tmp_path, image="owner/none")
    with pytest.raises(DataError, match="at least two labels and found 0 among 36"):
        fitted(tmp_path, [replace(sample, label=None) for sample in cases()])
