"""The teacher `clip`: dual encoders of both libraries, the sample's text beside the image, and what it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image

from mint_core.errors import ConfigError, DataError, ModelError
from mint_core.interfaces import Context
from mint_core.testing import TEACHER_CHECKS
from mint_core.types import ImageRef, LabelSpace, Sample
from mint_plip.clip import EMBEDDED_FOLDER, load_clip
from mint_plip.clip_teacher import ClipConfig, ClipTeacher
from mint_plip.encoder import encode_labels, encode_texts, temperature

LABELS = LabelSpace(("Apple", "Lime", "Plum"))
COLOURS = {"Apple": (200, 30, 30), "Lime": (60, 200, 40), "Plum": (200, 30, 30)}
SIZE = {"height": 28, "width": 28}


@dataclass(frozen=True)
class Plain(ImageRef):
    """One colour with a little noise."""

    colour: tuple[int, int, int]
    seed: int

    @property
    def key(self) -> str:
        return f"{self.colour} {self.seed}"

    def open(self) -> Image.Image:
        noise = np.random.default_rng(self.seed).integers(-20, 20, (28, 28, 3))
        return Image.fromarray(np.clip(np.array(self.colour) + noise, 0, 255).astype(np.uint8))


def fruit(count: int = 30, split: str = "train", first: int = 0) -> list[Sample]:
    """The image tells Lime from the others; only the text tells Apple from Plum."""
    made = []
    for i in range(first, first + count):
        label = LABELS.names[i % 3]
        text = f"It grew in a garden. Its stone was {'large' if label == 'Plum' else 'missing'}."
        made.append(Sample(f"{split}{i}", split, label, f"g{i // 2}", Plain(COLOURS[label], i), text))  # type: ignore[arg-type]
    return made


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP with random weights, saved as it is published."""
    folder = tmp_path_factory.mktemp("siglip")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = tf.PreTrainedTokenizerFast(tokenizer_file=str(EMBEDDED_FOLDER / "tokenizer.json"), pad_token="!")  # noqa: S106 - no password
    config = tf.SiglipConfig(
        text_config={**small, "vocab_size": len(words), "max_position_embeddings": 16, "projection_size": 16},
        vision_config={**small, "image_size": 28, "patch_size": 14},
    )
    model = tf.SiglipModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    tf.SiglipProcessor(tf.SiglipImageProcessor(size=SIZE), words).save_pretrained(folder)
    return folder


@pytest.fixture
def clip(siglip: Path, tmp_path: Path) -> Callable[..., ClipTeacher]:
    def make(**options) -> ClipTeacher:
        context = Context(labels=LABELS, cache=tmp_path)
        return ClipTeacher(ClipConfig(**{"model": str(siglip), "workers": 2, "precision": "fp32", **options}), context)

    return make


def test_a_siglip_gives_the_logits_of_transformers(siglip: Path, clip: Callable[..., ClipTeacher]) -> None:
    samples, prompts = fruit(6), ("an image of {}",)
    model = tf.AutoModel.from_pretrained(siglip)
    processor = tf.AutoProcessor.from_pretrained(siglip)
    read = processor(
        text=[f"an image of {name}" for name in LABELS.names], images=[sample.image.open() for sample in samples],
        padding="max_length", max_length=16, truncation=True, return_tensors="pt",
    )  # fmt: skip
    with torch.inference_mode():
        logits = model(input_ids=read["input_ids"], pixel_values=read["pixel_values"]).logits_per_image
    assert float(logits.std(0).max()) > 1e-3
    found = clip(prompts=prompts).log_probs(samples)
    np.testing.assert_allclose(found, logits.log_softmax(-1).numpy(), atol=1e-4)
    loaded = load_clip(str(siglip))
    assert temperature(loaded) == pytest.approx(float(model.logit_scale.detach().exp()))
    assert encode_labels(loaded, LABELS.names, prompts).shape == (3, 16)


def test_it_serves_every_task_and_keeps_the_contract(clip: Callable[..., ClipTeacher]) -> None:
    assert ClipTeacher.tasks == ()
    for options in ({}, {"head": "probe"}, {"head": "probe", "text": True}):
        teacher = clip(**options)
        teacher.fit(fruit())
        for check in TEACHER_CHECKS:
            check(teacher, [*fruit(), *fruit(6, "test", 60)])
    assert teacher.describe()["training_rankings"] == "out-of-fold"


def test_the_text_beside_the_image_tells_what_the_image_cannot(clip: Callable[..., ClipTeacher]) -> None:
    asked = fruit(15, "test", 60)
    truth = np.array([LABELS.index(sample.label) for sample in asked])
    right = {}
    for text in (False, True):
        teacher = clip(head="probe", text=text, c=10)
        teacher.fit(fruit(48))
        right[text] = teacher.log_probs(asked).argmax(1) == truth
        silent = teacher.log_probs([replace(sample, text=None) for sample in asked])
        assert np.isfinite(silent).all()
    assert right[False][truth == 1].all()
    assert right[False][truth != 1].mean() < 0.9
    assert right[True].all()


def test_a_trained_siglip(clip: Callable[..., ClipTeacher]) -> None:
    teacher = clip(head="finetune", epochs=2, lr=1e-2, batch_size=8)
    teacher.fit(fruit(24))
    losses = teacher.describe()["losses"]
    assert losses[1] < losses[0]
    assert np.isfinite(teacher.log_probs(fruit(3))).all()


def test_long_texts_are_read_sentence_by_sentence() -> None:
    loaded = load_clip("embedded")
    one, two = "an H&E image of colon tissue.", "an H&E image of liver tissue."
    parts = encode_texts(loaded, [[one], [two], [one, two], []])
    mean = parts[0] + parts[1]
    np.testing.assert_allclose(parts[2], mean / np.linalg.norm(mean), atol=1e-6)
    assert not parts[3].any()
    np.testing.assert_allclose(np.linalg.norm(parts[:3], axis=1), 1, atol=1e-6)
    assert encode_texts(loaded, [[], []]).shape == (2, parts.shape[1])


def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, siglip: Path, clip: Callable[..., ClipTeacher]) -> None:
    with pytest.raises(ConfigError, match="The teacher 'clip' needs a model"):
        clip(model=None).log_probs(fruit(1))
    with pytest.raises(ValueError, match="`text` needs head: probe"):
        ClipConfig(text=True)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tf.BertModel(tf.BertConfig(**small, vocab_size=50)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError, match=r"\(bert\) is no dual encoder of images and texts; name a CLIP or SigLIP"):
        clip(model=str(tmp_path / "bert")).log_probs(fruit(1))
    shutil.copytree(siglip, tmp_path / "bare", ignore=shutil.ignore_patterns("*processor*"))
    with pytest.raises(ModelError, match=r"holds no preprocessor_config\.json; download it again"):
        clip(model=str(tmp_path / "bare")).log_probs(fruit(1))
    with pytest.raises(DataError, match="'train0' has no image, and the teacher clip needs one"):
        clip().log_probs([replace(fruit(1)[0], image=None)])
