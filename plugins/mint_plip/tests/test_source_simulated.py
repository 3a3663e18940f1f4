"""Source `simulated`: counts, slides, determinism."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from mint_plip.simulated import SIZE, TISSUES
from mint_plip.sources.simulated import DrawnImage
from mint_plip.task import TissueType


def load(**options):
    return TissueType(TissueType.Config(**options)).load()


def test_defaults():
    data = load()
    assert Counter(sample.split for sample in data.samples) == {"train": 19 * 60, "test": 19 * 20}
    assert set(Counter((sample.split, sample.label) for sample in data.samples).values()) == {60, 20}
    assert data.simulated
    assert data.source.startswith("simulated")
    assert data.labels.names == tuple(TISSUES)


def test_slides_never_leave_their_split():
    data = load(train_per_label=10, test_per_label=6, patches_per_slide=4)
    sides, sizes = defaultdict(set), Counter(sample.group for sample in data.samples)
    for sample in data.samples:
        sides[sample.group].add((sample.split, sample.label))
    assert max(map(len, sides.values())) == 1
    assert max(sizes.values()) == 4
    assert len(sides) == 19 * (3 + 2)


def test_loading_twice_gives_the_same():
    first, second = load(train_per_label=3, test_per_label=2), load(train_per_label=3, test_per_label=2)
    assert first == second
    for one, two in zip(first.samples[::17], second.samples[::17], strict=True):
        assert one.image.key == two.image.key
        assert np.array_equal(np.asarray(one.image.open()), np.asarray(two.image.open()))


def test_more_patches_do_not_change_the_others():
    few, many = load(train_per_label=3, test_per_label=2), load(train_per_label=9, test_per_label=4)
    keys = {sample.id: sample.image.key for sample in many.samples}
    assert all(keys[sample.id] == sample.image.key for sample in few.samples)


def test_every_parameter_changes_key_and_pixels():
    base = {"seed": 0, "split": "train", "tissue": "Colon", "slide": 1, "index": 1}
    changes = {"seed": 1, "split": "test", "tissue": "Lung", "slide": 0, "index": 0}
    images = [DrawnImage(**base)] + [DrawnImage(**base | {name: value}) for name, value in changes.items()]
    assert len({image.key for image in images}) == 6
    assert len({image.open().tobytes() for image in images}) == 6


def test_a_patch_is_rgb():
    image = load().samples[0].image.open()
    assert image.mode == "RGB"
    assert image.size == (SIZE, SIZE)


def test_patches_of_one_slide_share_their_stain():
    def colour(slide, index):
        return np.asarray(DrawnImage(0, "train", "Liver", slide, index).open(), dtype=float).mean((0, 1))

    slides = np.array([[colour(slide, index) for index in range(4)] for slide in range(12)])
    within = slides.var(axis=1).mean()
    between = slides.mean(axis=1).var(axis=0).mean()
    assert between > within / 2  # without a shared batch it would be a quarter of `within`


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_any_seed(seed):
    data = load(sample_seed=seed, train_per_label=1, test_per_label=1)
    assert f"seed {seed}" in data.source
    data.samples[0].image.open()
