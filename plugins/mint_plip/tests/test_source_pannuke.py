"""Source `pannuke`: both layouts, both splits, and the sentences for what is not as it must be."""

from collections import Counter

import numpy as np
import pytest

from mint_core.errors import ConfigError, DataError
from mint_plip.sources.pannuke import holds_nucleus, open_fold
from mint_plip.task import TissueType

NAMES = ["Bile-duct", "HeadNeck", "Adrenal_gland", "Colon", "Breast", "Ovarian", "esophagus", "Head & Neck"]
CANONICAL = ["Bile duct", "Head and neck", "Adrenal gland", "Colon", "Breast", "Ovarian", "Esophagus", "Head and neck"]
N = len(NAMES)


def paths(root, number, layout):
    if layout == "original":
        images = root / f"Fold {number}" / "images" / f"fold{number}"
        masks = root / f"Fold {number}" / "masks" / f"fold{number}"
    else:
        images = masks = root / f"fold{number}"
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    return images / "images.npy", images / "types.npy", masks / "masks.npy"


def write_fold(root, number, layout="original", dtype="uint8", empty=()):
    """Eight patches; those in `empty` hold no nucleus."""
    rng = np.random.default_rng(number)
    images, types, masks = paths(root, number, layout)
    np.save(images, np.kron(rng.integers(0, 256, (N, 8, 8, 3)), np.ones((1, 32, 32, 1))).astype(dtype))
    np.save(types, np.array(NAMES))
    mask = np.zeros((N, 256, 256, 6), dtype=np.uint8)
    mask[..., 5] = 1
    for row in set(range(N)) - set(empty):
        mask[row, 30 * row + 20, 100, row % 5] = 7
    np.save(masks, mask)


@pytest.fixture
def root(tmp_path):
    for number in (1, 2, 3):
        write_fold(tmp_path, number, empty=(0, 5))
    return tmp_path


def load(root, **options):
    return TissueType(TissueType.Config(source="pannuke", data=root, **options)).load()


@pytest.mark.parametrize("layout", ["original", "flat"])
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_both_layouts_and_types(tmp_path, layout, dtype):
    for number in (1, 2, 3):
        write_fold(tmp_path, number, layout, dtype)
    data = load(tmp_path, split="folds")
    assert [sample.label for sample in data.split("train")] == CANONICAL
    assert Counter(sample.split for sample in data.samples) == {"train": N, "val": N, "test": N}
    assert data.samples[0].id == "fold1-00000"
    assert "CC BY-NC-SA 4.0" in data.licence
    assert not data.simulated
    pixels = np.asarray(data.samples[N + 2].image.open())
    assert np.array_equal(pixels, np.load(paths(tmp_path, 2, layout)[0])[2].astype(np.uint8))


def test_patches_are_memory_mapped(root):
    fold = open_fold(root, 1)
    assert isinstance(fold.images.array, np.memmap)
    assert not fold.images.array.flags.writeable


def test_the_paper_split(root):
    data = load(root)
    places = {"train": round(0.7 * 18), "test": 18 - round(0.7 * 18)}
    assert Counter(sample.split for sample in data.samples) == places
    assert not [sample.id for sample in data.samples if sample.id.endswith(("-00000", "-00005"))]
    assert "18 patches with nuclei in fold 1+2+3, seed 0" in data.source
    assert "no patient ids" in data.source


def test_the_paper_split_follows_the_seed(root):
    assert load(root, sample_seed=1) == load(root, sample_seed=1)
    assert load(root, sample_seed=1) != load(root, sample_seed=2)


def test_the_paper_split_says_which_folds_there_were(tmp_path):
    write_fold(tmp_path, 2)
    assert "in fold 2, seed" in load(tmp_path).source


def test_the_published_numbers():
    assert round(0.7 * 7766) == 5436


def test_holds_nucleus():
    masks = np.zeros((4, 256, 256, 6))
    masks[..., 5] = 1
    masks[1, 0, 0, 0] = masks[2, 255, 255, 4] = 1
    assert holds_nucleus(masks).tolist() == [False, True, True, False]


def test_folds_can_be_chosen(root):
    data = load(root, split="folds", train_folds=[3, 1], val_folds=[], test_folds=[2])
    assert Counter(sample.split for sample in data.samples) == {"train": 2 * N, "test": N}
    assert "train = 3+1, test = 2" in data.source


@pytest.mark.parametrize("folds", [{"val_folds": [1]}, {"test_folds": [4]}, {"train_folds": [1, 1]}])
def test_folds_must_exist_and_not_overlap(root, folds):
    with pytest.raises(ConfigError, match="each at most once"):
        load(root, split="folds", **folds)


def test_keys_follow_the_data(root):
    before = {sample.id: sample.image.key for sample in load(root, split="folds").samples}
    assert len(set(before.values())) == 3 * N
    path = paths(root, 1, "original")[0]
    array = np.load(path)
    array[3, 0, 0, 0] ^= 1
    np.save(path, array)
    after = {sample.id: sample.image.key for sample in load(root, split="folds").samples}
    assert {name for name in before if before[name] == after[name]} == {n for n in before if not n.startswith("fold1")}


def test_a_patch_in_two_folds_is_a_leak(root):
    first, third = (paths(root, number, "original")[0] for number in (1, 3))
    array = np.load(third)
    array[4] = np.load(first)[2]
    np.save(third, array)
    with pytest.raises(DataError, match=r"'fold1-00002' \(train\) and 'fold3-00004' \(test\).*duplicates=drop"):
        load(root, split="folds")
    data = load(root, split="folds", duplicates="drop")
    assert len(data.split("test")) == N - 1
    assert "1 copies of images in an earlier split left out" in data.source


def change(root, which, array, number=1, **kwargs):
    np.save(paths(root, number, "original")[which], array, **kwargs)


def test_nothing_there(tmp_path):
    for split in ("paper", "folds"):
        with pytest.raises(DataError, match=r"fold 1 is not at .* 'fold1/images\.npy'"):
            load(tmp_path, split=split)


def test_masks_are_needed_for_the_paper_split_only(root):
    paths(root, 2, "original")[2].unlink()
    assert len(load(root, split="folds").samples) == 3 * N
    with pytest.raises(DataError, match=r"needs .*masks\.npy.* or use --set task.split=folds"):
        load(root)


@pytest.mark.parametrize(
    ("which", "array", "words"),
    [
        (0, np.zeros((N, 224, 224, 3), np.uint8), "not patches of 256 x 256 x 3"),
        (0, np.zeros((N, 256, 256, 3), np.int16), "int16"),
        (0, np.full((N, 256, 256, 3), 0.5, np.float32), "scaled to 0..1; .*multiply it by 255"),
        (0, np.full((N, 256, 256, 3), 300, np.float32), "row 0: pixel values outside 0..255"),
        (1, np.array(NAMES[:-1]), "not one tissue name per patch"),
        (1, np.arange(N), "not one tissue name per patch"),
        (1, np.array([*NAMES[:-1], "Colom"]), "row 7: unknown tissue 'Colom'; did you mean 'Colon'"),
        (2, np.zeros((N, 256, 256, 5), np.uint8), r"shape \(8, 256, 256, 5\), not \(8, 256, 256, 6\)"),
    ],
)
def test_wrong_files(root, which, array, words):
    change(root, which, array)
    with pytest.raises(DataError, match=words):
        load(root)


def test_tissues_as_objects_are_not_unpickled(root):
    change(root, 1, np.array(NAMES, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"types\.npy holds Python objects.*allow_pickle=True\)\.astype\(str\)"):
        load(root)


def test_tissues_as_bytes_are_read(root):
    change(root, 1, np.array(NAMES, dtype="S"))
    assert [sample.label for sample in load(root, split="folds").split("train")] == CANONICAL
