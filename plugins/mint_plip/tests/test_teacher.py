"""The teacher: the clauses of its interface, the embedded weights, the three heads, precision, the cache."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from mint_core.errors import ContractError, DataError
from mint_core.interfaces import Context
from mint_core.types import ImageRef, LabelSpace, Sample, Split
from mint_plip.clip import EMBEDDED_FOLDER
from mint_plip.encoder import ImageEncoder, choose_precision
from mint_plip.simulated import TISSUES, draw_morphology, draw_patch
from mint_plip.teacher import Plip, PlipConfig

NAMES = tuple(TISSUES)
HISTOLOGY = Path(__file__).parents[3] / ".." / "shared" / "data" / "histology"


@dataclass(frozen=True)
class Drawn(ImageRef):
    """A simulated patch by its seed and tissue."""

    tissue: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.tissue} {self.seed}"

    def open(self) -> Image.Image:
        return drawn(self.tissue, self.seed)


@lru_cache
def drawn(tissue: str, seed: int) -> Image.Image:
    rng = np.random.default_rng([987_654, seed])
    return draw_patch(draw_morphology(tissue, rng), rng)


def patches(count: int, split: Split = "test", first: int = 0, names: Sequence[str] = NAMES) -> list[Sample]:
    """Fresh simulated patches, the tissues in turn."""
    chosen = [(seed, names[seed % len(names)]) for seed in range(first, first + count)]
    return [Sample(f"{split}-{seed}", split, name, image=Drawn(name, seed)) for seed, name in chosen]


def plip(folder: Path, names: Sequence[str] = NAMES, advance=lambda count: None, **options) -> Plip:
    context = Context(labels=LabelSpace(tuple(names)), seed=0, device="cpu", cache=folder, advance=advance)
    return Plip(PlipConfig(**({"workers": 2} | options)), context)


def top(log_probs: np.ndarray, samples: Sequence[Sample], n: int = 1, names: Sequence[str] = NAMES) -> float:
    truth = np.array([names.index(sample.label) for sample in samples])
    return float((np.argsort(-log_probs, axis=1)[:, :n] == truth[:, None]).any(1).mean())


def test_the_embedded_teacher_knows_the_simulated_tissues(tmp_path: Path) -> None:
    samples = patches(114)
    log_probs = plip(tmp_path).log_probs(samples)
    assert top(log_probs, samples) > 0.75
    assert top(log_probs, samples, n=5) > 0.95
    order = np.random.default_rng(0).permutation(len(samples))
    shuffled = [replace(sample, image=samples[row].image) for sample, row in zip(samples, order, strict=True)]
    assert top(plip(tmp_path).log_probs(shuffled), samples) < 0.2


def test_clauses_of_the_interface(tmp_path: Path) -> None:
    done: list[int] = []
    samples = patches(30)
    teacher = plip(tmp_path, cache=False, batch_size=8, advance=done.append)
    log_probs = teacher.log_probs(samples)
    assert log_probs.shape == (30, 19)
    assert log_probs.dtype == np.float32
    np.testing.assert_allclose(np.exp(log_probs.astype(float)).sum(1), 1, atol=1e-5)
    assert sum(done) == 30
    np.testing.assert_array_equal(teacher.log_probs(samples), log_probs)
    np.testing.assert_allclose(teacher.log_probs(samples[::-1])[::-1], log_probs, atol=1e-2)
    np.testing.assert_allclose(teacher.log_probs(samples[11:12])[0], log_probs[11], atol=1e-2)
    assert plip(tmp_path).log_probs([]).shape == (0, 19)


def test_the_order_of_the_labels_is_that_of_the_space(tmp_path: Path) -> None:
    samples = patches(19)
    straight = plip(tmp_path).log_probs(samples)
    reversed_space = plip(tmp_path, names=NAMES[::-1]).log_probs(samples)
    np.testing.assert_allclose(reversed_space[:, ::-1], straight, atol=1e-4)


def test_precisions_rank_alike(tmp_path: Path) -> None:
    samples = patches(57)
    half, full = (plip(tmp_path, precision=precision).log_probs(samples) for precision in ("bf16", "fp32"))
    assert (half.argmax(1) == full.argmax(1)).mean() > 0.96
    ranks = [np.argsort(np.argsort(values, axis=1), axis=1) for values in (half, full)]
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(*ranks, strict=True)]
    assert np.mean(correlations) > 0.99
    assert len(list(tmp_path.glob("*.sqlite"))) == 2  # never mixed in one file
    assert choose_precision("fp32", "cpu") == "fp32"
    assert choose_precision("auto", "cpu") in ("fp32", "bf16")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many patches each call of the encoder got."""
    counts: list[int] = []
    original = ImageEncoder.encode

    def counting(self: ImageEncoder, pixels: np.ndarray) -> np.ndarray:
        counts.append(len(pixels))
        return original(self, pixels)

    monkeypatch.setattr(ImageEncoder, "encode", counting)
    return counts


def test_the_cache_saves_the_encoding_and_gives_the_same_numbers(tmp_path: Path, encoded: list[int]) -> None:
    samples = patches(20)
    first = plip(tmp_path, batch_size=8).log_probs(samples)
    assert encoded == [8, 8, 4]
    teacher = plip(tmp_path)
    np.testing.assert_allclose(teacher.log_probs(samples), first, rtol=1e-6)
    assert encoded == [8, 8, 4]
    assert teacher.describe()["cached_features"] == 20
    plip(tmp_path, cache=False).log_probs(samples)
    assert sum(encoded) == 40


def test_the_cache_changes_with_the_weights(tmp_path: Path, encoded: list[int]) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    for file in EMBEDDED_FOLDER.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    state = load_file(folder / "open_clip_model.safetensors")
    state["visual.conv1.weight"] = state["visual.conv1.weight"] * 1.5
    save_file(state, folder / "open_clip_model.safetensors")
    samples = patches(5)
    original, other = plip(tmp_path), plip(tmp_path, model=str(folder))
    assert not np.allclose(original.log_probs(samples), other.log_probs(samples), atol=1e-3)
    assert encoded == [5, 5]
    assert original.describe()["fingerprint"] != other.describe()["fingerprint"]


def test_prompts_form_an_ensemble(tmp_path: Path) -> None:
    samples = patches(19)
    one, two = ("an H&E image of {} tissue",), ("an H&E image of {} tissue", "{}")
    assert not np.allclose(
        plip(tmp_path, prompts=one).log_probs(samples), plip(tmp_path, prompts=two).log_probs(samples)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"prompts": ("no place",)},
        {"prompts": ()},
        {"cross_fit": 1},
        {"batch_size": 0},
        {"head": "none"},
        {"modle": "x"},
    ],
)
def test_wrong_options(options: dict) -> None:
    with pytest.raises(ValidationError):
        PlipConfig(**options)


def test_describe_can_be_written_as_json(tmp_path: Path) -> None:
    facts = json.loads(json.dumps(plip(tmp_path).describe()))
    assert {"model", "fingerprint", "head", "precision", "prompts"} <= set(facts)
    assert facts["model"] == "embedded"
    assert len(facts["fingerprint"]) == 64


def test_importing_the_module_imports_no_torch() -> None:
    code = "import sys, mint_plip.teacher; sys.exit(any(m in sys.modules for m in ('torch', 'open_clip', 'sklearn')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_probe_ranks_training_patches_out_of_fold(tmp_path: Path) -> None:
    """With labels drawn at random there is nothing to learn: in-sample looks perfect, out-of-fold shows the truth."""
    names = ("One", "Two")
    rng = np.random.default_rng(0)
    train = [replace(sample, label=names[rng.integers(2)]) for sample in patches(120, "train")]
    crossed, plain = plip(tmp_path, names, head="probe"), plip(tmp_path, names, head="probe", cross_fit=0, c=1.0)
    crossed.fit(train)
    plain.fit(train)
    assert top(plain.log_probs(train), train, names=names) > 0.8
    assert top(crossed.log_probs(train), train, names=names) < 0.65
    assert crossed.describe()["training_rankings"] == "out-of-fold"
    assert plain.describe()["training_rankings"] == "in-sample"
    held_out = [replace(sample, split="test") for sample in train]
    assert not np.allclose(crossed.log_probs(train), crossed.log_probs(held_out))
    json.dumps(crossed.describe())


def test_probe_keeps_a_group_in_one_fold(tmp_path: Path) -> None:
    """Four copies of every patch, labels at random: only whole groups hide the answer."""
    names = ("One", "Two")
    rng = np.random.default_rng(1)
    tiles = [replace(sample, label=names[rng.integers(2)]) for sample in patches(40, "train")]
    copies = [replace(tile, id=f"{tile.id}-{n}", group=tile.id) for tile in tiles for n in range(4)]
    torn = [replace(sample, group=None) for sample in copies]
    scores = []
    for train in (copies, torn):
        teacher = plip(tmp_path, names, head="probe", c=1.0)
        teacher.fit(train)
        scores.append(top(teacher.log_probs(train), train, names=names))
    assert scores[0] < 0.7
    assert scores[1] > 0.9


def test_probe_learns_new_labels_and_puts_unseen_ones_last(tmp_path: Path) -> None:
    names = ("Never seen", "Thin", "Round")
    labels = {"Uterus": "Thin", "Skin": "Thin", "Liver": "Round", "Kidney": "Round"}

    def relabelled(samples: list[Sample]) -> list[Sample]:
        return [replace(sample, label=labels[sample.label]) for sample in samples]

    train = relabelled(patches(60, "train", names=tuple(labels)))
    test = relabelled(patches(40, first=500, names=tuple(labels)))
    unlabelled = [replace(sample, id=f"u{sample.id}", label=None) for sample in train[:5]]
    teacher = plip(tmp_path, names, head="probe")
    teacher.fit([*train, *unlabelled])
    log_probs = teacher.log_probs(test)
    assert top(log_probs, test, names=names) > 0.9
    assert (log_probs.argmin(1) == 0).all()
    np.testing.assert_allclose(np.exp(log_probs).sum(1), 1, atol=1e-4)
    assert teacher.describe()["fitted_on"] == 60
    assert teacher.log_probs(unlabelled).shape == (5, 3)


@pytest.mark.parametrize("head", ["probe", "finetune"])
def test_heads_need_two_labels(tmp_path: Path, head: str) -> None:
    teacher = plip(tmp_path, head=head)
    with pytest.raises(ContractError, match="fit"):
        teacher.log_probs(patches(1))
    with pytest.raises(DataError, match="at least two labels and found 1 among 3"):
        teacher.fit([replace(sample, label="Liver") for sample in patches(3, "train")])
    with pytest.raises(DataError, match="at least two labels and found 0"):
        teacher.fit([replace(sample, label=None) for sample in patches(3, "train")])
    with pytest.raises(DataError, match=r"'Livr'.*did you mean 'Liver'"):
        teacher.fit([replace(sample, label="Livr") for sample in patches(3, "train")])


def test_zero_shot_needs_no_fit_and_ignores_it(tmp_path: Path) -> None:
    samples = patches(5)
    teacher = plip(tmp_path)
    before = teacher.log_probs(samples)
    teacher.fit(patches(5, "train"))
    np.testing.assert_array_equal(teacher.log_probs(samples), before)


def test_finetune_learns_from_a_zero_shot_start(tmp_path: Path) -> None:
    names = ("Class A", "Class B")
    labels = {"Prostate": "Class A", "Bladder": "Class B"}

    def relabelled(samples: list[Sample]) -> list[Sample]:
        return [replace(sample, label=labels[sample.label]) for sample in samples]

    train = relabelled(patches(64, "train", names=tuple(labels)))
    test = relabelled(patches(30, first=500, names=tuple(labels)))
    results = []
    for _ in range(2):
        teacher = plip(tmp_path, names, head="finetune", epochs=3, lr=1e-3, batch_size=16, precision="fp32")
        teacher.fit(train)
        results.append(teacher.log_probs(test))
    np.testing.assert_allclose(results[0], results[1], atol=1e-4)
    losses = teacher.describe()["losses"]
    assert losses[-1] < 0.6 * losses[0]
    assert losses[-1] < math.log(2)
    assert top(results[0], test, names=names) > 0.85
    assert teacher.describe()["training_rankings"] == "in-sample"
    assert not list(tmp_path.glob("*.sqlite"))  # a trained tower's features are never kept


def test_finetune_in_bf16(tmp_path: Path) -> None:
    names = ("Prostate", "Bladder")
    train = patches(16, "train", names=names)
    teacher = plip(tmp_path, names, head="finetune", epochs=1, batch_size=8, precision="bf16")
    teacher.fit(train)
    assert np.isfinite(teacher.log_probs(train)).all()


@dataclass(frozen=True)
class OnDisk(ImageRef):
    """An image file."""

    path: Path

    @property
    def key(self) -> str:
        return self.path.name

    def open(self) -> Image.Image:
        with Image.open(self.path) as image:
            return image.convert("RGB")


@pytest.mark.skipif(not HISTOLOGY.exists(), reason="the real patches are not at ../shared/data/histology")
def test_probe_on_real_patches(tmp_path: Path) -> None:
    with (HISTOLOGY / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 1000
    samples = [
        Sample(row["image"], row["split"], row["label"], row["group"], OnDisk(HISTOLOGY / row["image"])) for row in rows
    ]
    names = tuple(sorted({sample.label for sample in samples}))
    teacher = plip(tmp_path, names, head="probe")
    train, val = ([sample for sample in samples if sample.split == split] for split in ("train", "val"))
    train = train[::2]
    teacher.fit(train)
    accuracy, held_out = (top(teacher.log_probs(part), part, names=names) for part in (val, train))
    assert accuracy > 0.8
    assert abs(accuracy - held_out) < 0.1  # the rankings of training patches are as good as those of new ones
