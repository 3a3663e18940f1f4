"""Splits keep groups whole, and the checks find every leak."""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from mint_core.errors import ConfigError, DataError
from mint_core.images import ArrayFile, ArrayImage, FileImage
from mint_core.splits import Candidate, assign_splits, check_samples, drop_copies, find_copies
from mint_core.types import ImageRef, LabelSpace, Sample

LABELS = LabelSpace(("Colon", "Lung"))
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


@dataclass(frozen=True)
class Named(ImageRef):
    """An image of which only the key matters."""

    name: str

    @property
    def key(self) -> str:
        return self.name

    def open(self):
        raise NotImplementedError


def cohort(n: int = 400, n_groups: int = 100, seed: int = 0) -> list[Candidate]:
    rng = random.Random(seed)
    label = [rng.choice("abc") for _ in range(n_groups)]
    home = [rng.randrange(n_groups) for _ in range(n)]
    return [Candidate(f"s{i}", label[group], f"g{group}") for i, group in enumerate(home)]


def by_id(candidates, splits):
    return {candidate.id: split for candidate, split in zip(candidates, splits, strict=True)}


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole_and_shares_are_met(seed):
    candidates = cohort(seed=seed)
    splits = assign_splits(candidates, SHARES, seed)
    sides = defaultdict(set)
    for candidate, split in zip(candidates, splits, strict=True):
        sides[candidate.group].add(split)
    assert max(map(len, sides.values())) == 1
    for split, share in SHARES.items():
        assert splits.count(split) / len(splits) == pytest.approx(share, abs=0.03)
    per_label = Counter((candidate.label, split) for candidate, split in zip(candidates, splits, strict=True))
    for label, n in Counter(candidate.label for candidate in candidates).items():
        assert per_label[label, "test"] / n == pytest.approx(0.2, abs=0.06)


def test_single_samples_are_split_exactly():
    candidates = [Candidate(f"s{i}", "ab"[i % 2]) for i in range(200)]
    count = Counter(
        zip((c.label for c in candidates), assign_splits(candidates, {"train": 0.8, "test": 0.2}, 3), strict=True)
    )
    assert count == {("a", "train"): 80, ("b", "train"): 80, ("a", "test"): 20, ("b", "test"): 20}


def test_the_order_does_not_matter_but_the_seed_does():
    candidates = cohort()
    mixed = random.Random(1).sample(candidates, len(candidates))
    first = by_id(candidates, assign_splits(candidates, SHARES, 7))
    assert first == by_id(mixed, assign_splits(mixed, SHARES, 7))
    assert first != by_id(candidates, assign_splits(candidates, SHARES, 8))


def test_large_groups_are_not_kept_out_of_the_test_split():
    sizes = [1, 2, 3, 4, 5] * 40
    candidates = [Candidate(f"{g}-{i}", "a", f"g{g}") for g, size in enumerate(sizes) for i in range(size)]
    splits = assign_splits(candidates, {"train": 0.8, "test": 0.2}, 0)
    tested = {c.group for c, split in zip(candidates, splits, strict=True) if split == "test"}
    mean = np.mean([sizes[int(group[1:])] for group in tested])
    assert mean == pytest.approx(3, abs=0.6)


def test_rare_labels_still_leave_a_test_split():
    candidates = [Candidate(f"{label}{i}", label) for label in "abcdefghij" for i in range(2)]
    splits = assign_splits(candidates, {"train": 0.8, "test": 0.2}, 0)
    assert splits.count("test") in (3, 4)


def test_unlabelled_groups_go_to_train():
    candidates = [Candidate(f"s{i}", None if i % 10 == 0 else "a", f"g{i // 5}") for i in range(100)]
    splits = assign_splits(candidates, {"train": 0.6, "test": 0.4}, 0)
    free = {c.group for c in candidates} - {c.group for c in candidates if c.label is None}
    assert {c.group for c, split in zip(candidates, splits, strict=True) if split == "test"} <= free
    assert splits.count("test") == 40


def test_identical_images_stay_together_across_groups():
    for seed in range(10):
        candidates = [Candidate(f"s{i}", "a", f"g{i // 2}", Named(f"k{(i + 1) // 2 % 10}")) for i in range(20)]
        assert len(set(assign_splits(candidates, {"train": 0.5, "test": 0.5}, seed))) == 1  # one chain


@pytest.mark.parametrize("shares", [{"train": 0.5, "test": 0.4}, {"train": 1.2, "test": -0.2}])
def test_bad_shares(shares):
    with pytest.raises(ConfigError, match="must sum to 1"):
        assign_splits(cohort(), shares, 0)


def sample(name, split, label="Colon", group=None, image=None):
    return Sample(name, split, label, group, image)


GOOD = [sample("a", "train"), sample("b", "train", "Lung"), sample("c", "test")]


def test_good_samples_pass():
    check_samples(GOOD, LABELS)
    check_samples([*GOOD, sample("d", "train", None), sample("e", "val")], LABELS)
    check_samples([sample("a", "train"), sample("c", "val")], LABELS)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([], "holds no samples"),
        ([sample("c", "test")], "split 'train' has 0 samples; mark"),
        ([sample("a", "train")], "splits 'val' and 'test' have 0 samples.*raise the share"),
        ([*GOOD, sample("a", "test")], "id 'a' occurs twice"),
        ([*GOOD, sample("d", "test", None)], "'d' in split 'test' has no label"),
        ([*GOOD, sample("d", "train", "Lungs")], "'d' has label 'Lungs'.*did you mean 'Lung'"),
        (
            [*GOOD, sample("d", "train", group="slide 7"), sample("e", "test", group="slide 7")],
            "Group 'slide 7' has samples in 'train' and in 'test'",
        ),
        (
            [*GOOD, sample("d", "val", image=Named("k")), sample("e", "test", image=Named("k"))],
            r"'d' \(val\) and 'e' \(test\) are the same image",
        ),
    ],
)
def test_bad_samples(samples, words):
    with pytest.raises(DataError, match=words):
        check_samples(samples, LABELS)


def test_one_label_is_not_enough():
    with pytest.raises(DataError, match="one label only, 'Colon'"):
        check_samples(GOOD, LabelSpace(("Colon",)))


def test_copies_inside_one_split_are_allowed():
    check_samples([*GOOD, *(sample(f"d{i}", "train", image=Named("k")) for i in range(3))], LABELS)


def test_drop_copies_keeps_the_earlier_split():
    samples = [sample(f"{split}{i}", split, image=Named("k")) for split in ("test", "train", "val") for i in range(2)]
    assert [s.id for s in drop_copies([*GOOD, *samples])] == ["a", "b", "c", "train0", "train1"]


def test_files_are_read_only_where_sizes_agree(tmp_path, monkeypatch):
    for name, content in {"a": b"1234", "b": b"1234", "c": b"4321", "d": b"12345"}.items():
        (tmp_path / name).write_bytes(content)
    images = [FileImage(tmp_path / name) for name in "abcd"]
    assert find_copies(images) == [[0, 1]]
    assert images[2]._key is not None
    assert images[3]._key is None
    fresh = [FileImage(tmp_path / name) for name in "abcd"]
    assert find_copies(fresh, ["train", "train", "train", "test"]) == []
    assert all(image._key is None for image in fresh)


def test_array_rows_with_equal_middles_are_compared_in_full(tmp_path):
    array = np.zeros((4, 32, 32, 3), dtype=np.uint8)
    array[1, 0, 0, 0] = 1  # differs outside the middle lines
    array[2, 16] = 9
    np.save(tmp_path / "images.npy", array)
    file = ArrayFile(tmp_path / "images.npy")
    assert find_copies([None, *(ArrayImage(file, row) for row in range(4))]) == [[1, 4]]


def test_the_same_picture_in_a_file_and_an_array_counts_as_two(tmp_path):
    array = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", array)
    Image.fromarray(array[0]).save(tmp_path / "a.png")
    assert find_copies([FileImage(tmp_path / "a.png"), ArrayImage(ArrayFile(tmp_path / "a.npy"), 0)]) == []
