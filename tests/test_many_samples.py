"""Samples that are made when they are asked for: parts of them, and teachers that are fitted on some."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from mint_core.interfaces import Context
from mint_core.teachers import fitted
from mint_core.teachers.fitted import FittedTeacher, drawn
from mint_core.types import LabelSpace, Part, Sample, TaskData, some_of

LABELS = LabelSpace(("Colon", "Liver"))


class Made(Sequence[Sample]):
    """Counts how many samples are made, and in how many pieces."""

    def __init__(self, count: int) -> None:
        self.count, self.made, self.pieces = count, 0, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place):
        if isinstance(place, slice):
            self.pieces += 1
            return [self._one(i) for i in range(*place.indices(self.count))]
        return self._one(place)

    def _one(self, place: int) -> Sample:
        if not 0 <= place < self.count:
            raise IndexError(place)
        self.made += 1
        split = "test" if place % 4 == 3 else "train"
        label = None if place % 10 == 0 else LABELS.names[place % 7 == 0]
        return Sample(f"p{place}", split, label, text="x" * (1 + place % 3), subgroups={"site": "north"})


def test_a_split_of_made_samples_is_made_when_asked_for() -> None:
    samples = Made(10_000)
    train = TaskData(samples, LABELS, "made").split("train")
    assert isinstance(train, Part)
    assert len(train) == 7_500
    before = samples.made
    assert (train[0].id, train[3].id, train[-1].id) == ("p0", "p4", "p9998")
    assert [one.id for one in train[2:5]] == ["p2", "p4", "p5"]
    assert samples.made == before + 7  # p3 lies between them
    assert [one.id for one in train] == [f"p{i}" for i in range(10_000) if i % 4 != 3]
    assert samples.pieces == 3  # that of three, and two of thousands
    assert {one.subgroups["site"] for one in train} == {"north"}
    assert not any(one.subgroups for one in train.each(Sample.for_teacher))


def test_what_is_rare_is_made_alone() -> None:
    samples = Made(10_000)
    rare = some_of(samples, lambda sample: sample.id.endswith("000"))
    before = samples.made
    assert [one.id for one in rare] == [f"p{i}000" for i in range(1, 10)]
    assert samples.made == before + 9


def test_samples_that_are_there_stay_a_list() -> None:
    samples = list(Made(8))
    assert some_of(samples, lambda sample: sample.split == "test") == [samples[3], samples[7]]


def test_a_draw_keeps_rare_labels_and_the_shares_of_the_others() -> None:
    targets = np.repeat([0, 1, 2], [9_000, 990, 10])
    chosen = drawn(targets, 1_000, seed=0)
    counts = Counter(targets[chosen].tolist())
    assert (len(chosen), len(set(chosen.tolist())), counts[2]) == (1_000, 1_000, 10)
    assert 80 < counts[1] < 160  # 20 surely, and a tenth of the rest
    assert (np.diff(chosen) > 0).all()
    assert (drawn(targets, 1_000, seed=0) == chosen).all()
    assert not (drawn(targets, 1_000, seed=1) == chosen).all()
    assert (drawn(np.array([0, 1, 1]), 2, seed=0) < 3).all()


class Length(FittedTeacher):
    name = "length"
    reads = ("text",)

    def features(self, samples):
        return np.array([[len(sample.text)] for sample in samples], np.float32)


def test_a_teacher_is_fitted_on_some_of_very_many(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(fitted, "MOST", 300)
    teacher = Length(None, Context(labels=LABELS, cache=tmp_path))
    train = TaskData(Made(2_000), LABELS, "made").split("train")
    teacher.fit(train)
    told = teacher.describe()
    assert (told["fitted_on"], told["labelled"]) == (300, sum(one.label is not None for one in train))
    rows = teacher.log_probs(train[:50])
    assert np.allclose(np.exp(rows).sum(1), 1, atol=1e-5)


class Families(Made):
    """Ten samples of each family; only their texts' lengths tell the labels apart, and differently in each family."""

    def _one(self, place: int) -> Sample:
        if not 0 <= place < self.count:
            raise IndexError(place)
        family = place // 10
        return Sample(f"p{place}", "train", LABELS.names[family % 2], text="x" * (1 + family), group=f"f{family}")


class OneHot(FittedTeacher):
    name = "one-hot"
    reads = ("text",)

    def features(self, samples):
        return np.eye(40, dtype=np.float32)[[len(sample.text) - 1 for sample in samples]]


def test_a_sample_that_was_not_drawn_is_not_ranked_by_a_model_that_saw_its_group(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(fitted, "MOST", 200)
    teacher = OneHot(None, Context(labels=LABELS, cache=tmp_path))
    samples = list(Families(400))
    teacher.fit(samples)
    assert teacher.describe()["fitted_on"] == 200
    truths = np.array([LABELS.index(one.label) for one in samples])
    ranked = np.exp(teacher.log_probs(samples))[np.arange(400), truths]
    as_new = [Sample(one.id, "test", text=one.text, group=one.group) for one in samples]
    known = np.exp(teacher.log_probs(as_new))[np.arange(400), truths]
    assert ranked.max() < 0.8 < np.quantile(known, 0.1)  # the model of all knows the families
