"""Splits that keep groups whole, and the checks that every data source passes before a run."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from mint_core.errors import ConfigError, DataError, did_you_mean
from mint_core.types import SPLITS, ImageRef, LabelSpace, Sample, Split


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample that has no split yet."""

    id: str
    label: str | None = None
    group: str | None = None
    image: ImageRef | None = None


def assign_splits(candidates: Sequence[Candidate], fractions: Mapping[Split, float], seed: int) -> list[Split]:
    """Splits samples at random, stratified by label as far as whole groups allow.

    Samples of one group stay together, and so do identical images. A group that holds an unlabelled sample goes to
    `train`, because evaluation needs labels. The result depends on the seed and the samples, not on their order.

    Args:
        candidates: What to split; ids are unique.
        fractions: Share of the samples per split; they sum to 1.
        seed: Another seed gives another split.

    Returns:
        One split per candidate, in their order.

    Raises:
        ConfigError: The fractions are negative or do not sum to 1.
    """
    if min(fractions.values(), default=0) < 0 or abs(sum(fractions.values()) - 1) > 1e-6:
        raise ConfigError("The shares of train, val and test must not be negative and must sum to 1.")
    units = sorted(_units(candidates), key=lambda unit: _draw(seed, min(candidates[i].id for i in unit)))
    # What is bound to train comes first.
    units.sort(key=lambda unit: all(candidates[i].label is not None for i in unit))
    members = [[candidates[i].label for i in unit] for unit in units]
    filling = _Filling(members, {split: fractions[split] for split in SPLITS if fractions.get(split, 0) > 0})
    chosen: dict[int, Split] = {}
    for unit, labels in zip(units, members, strict=True):
        chosen.update(dict.fromkeys(unit, filling.place(labels)))
    return [chosen[i] for i in range(len(candidates))]


class _Filling:
    """How full each split is, in all and per label.

    A unit goes where the split would be least full with half an AVERAGE unit more (Sainte-Lague's rule). Half the
    unit's own size would pack closer, but would keep large groups out of the small splits.
    """

    def __init__(self, units: Sequence[Sequence[str | None]], fractions: Mapping[Split, float]) -> None:
        self.fractions = fractions
        self.totals = Counter(label for unit in units for label in unit)
        self.holders = Counter(label for unit in units for label in set(unit))
        self.n_units = len(units)
        self.taken: dict[Split, Counter[str | None]] = {split: Counter() for split in fractions}

    def place(self, unit: Sequence[str | None]) -> Split:
        counts = Counter(unit)
        bound = None in counts and "train" in self.fractions
        split: Split = "train" if bound else min(self.fractions, key=lambda name: self._fullness(name, counts))
        self.taken[split].update(counts)
        return split

    def _fullness(self, split: Split, counts: Counter[str | None]) -> float:
        """Shares of the split's aim, weighted by the unit's samples."""
        share, taken, n = self.fractions[split], self.taken[split], self.totals.total()
        fullness = counts.total() * (taken.total() / n + 0.5 / self.n_units) / share
        for label in sorted(counts, key=str):
            part = taken[label] / self.totals[label] + 0.5 / self.holders[label]
            fullness += counts[label] * part / share
        return fullness


def _units(candidates: Sequence[Candidate]) -> list[list[int]]:
    """What must stay together, as positions: the components joined by a common group or by equal content."""
    ties: dict[str, list[int]] = defaultdict(list)
    for i, candidate in enumerate(candidates):
        if candidate.group is not None:
            ties[candidate.group].append(i)
    parent = list(range(len(candidates)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for tie in [*ties.values(), *find_copies([candidate.image for candidate in candidates])]:
        for other in tie[1:]:
            parent[root(other)] = root(tie[0])
    units: dict[int, list[int]] = defaultdict(list)
    for i in range(len(candidates)):
        units[root(i)].append(i)
    return list(units.values())


def _draw(seed: int, name: str) -> str:
    return hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=16).hexdigest()


def find_copies(images: Sequence[ImageRef | None], sides: Sequence[str] | None = None) -> list[list[int]]:
    """Finds identical images without reading more than needed.

    Files are read only where another file has the same size, rows of an array only where their middle lines agree.
    Identical means equal stored bytes: a re-encoded copy of an image is another image.

    Args:
        images: The images; None where there is none.
        sides: Where given, only copies that lie on different sides are looked for.

    Returns:
        Sets of two or more positions that hold the same content, each in ascending order.
    """
    near: dict[str, list[int]] = defaultdict(list)
    for i, image in enumerate(images):
        if image is not None:
            near[image.quick_key].append(i)
    same: dict[str, list[int]] = defaultdict(list)
    for places in near.values():
        if _may_be_copies(places, sides):
            for i in places:
                same[cast(ImageRef, images[i]).content_key].append(i)
    return [places for places in same.values() if _may_be_copies(places, sides)]


def _may_be_copies(places: Sequence[int], sides: Sequence[str] | None) -> bool:
    return len(places) > 1 and (sides is None or len({sides[i] for i in places}) > 1)


def _images(samples: Sequence[Sample]) -> Sequence[ImageRef | None]:
    """The images of samples; where these lie in a table, taken from it one by one."""
    stored: Sequence[ImageRef | None] | None = getattr(samples, "images", None)
    return [sample.image for sample in samples] if stored is None else stored


def drop_copies(samples: Sequence[Sample]) -> list[Sample]:
    """Leaves out every image that also lies in an earlier split (train before val before test)."""
    out: set[int] = set()
    splits = _columns(samples)["split"].to_pylist()
    for places in find_copies(_images(samples), splits):
        first = min((splits[i] for i in places), key=SPLITS.index)
        out.update(i for i in places if splits[i] != first)
    return [sample for i, sample in enumerate(samples) if i not in out]


def check_samples(samples: Sequence[Sample], labels: LabelSpace, copies_hint: str = "") -> None:
    """Makes sure that a data source can be trained and evaluated on, and that nothing leaks between its splits.

    Args:
        samples: All samples of the source.
        labels: Its label space.
        copies_hint: Which option of the source deals with identical images; ends the message about them.

    Raises:
        DataError: There are no training or no evaluation samples; an id occurs twice; a label is not in the label
            space, or missing in an evaluation split; a group or an identical image lies in two splits.
    """
    if len(labels) < 2:
        raise DataError(f"The data know one label only, '{labels.names[0]}'; ranking needs at least two.")
    columns = _columns(samples)
    _check_sizes(_counted(columns["split"]))
    twice = next((name for name, count in _counted(columns["id"], 2).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"Sample id '{twice}' occurs twice; give every sample an id of its own.")
    _check_labels(columns, labels)
    _check_groups(columns)
    _check_copies(samples, columns["split"].to_pylist(), copies_hint)


def _columns(samples: Sequence[Sample]) -> Any:
    """Id, split, label and group as a `pyarrow.Table`: a million of them are compared without Python objects."""
    import pyarrow as pa

    stored = getattr(samples, "columns", None)
    if stored is not None:
        return stored()
    text = pa.large_string()
    return pa.table(
        {
            name: pa.array((getattr(sample, name) for sample in samples), text)
            for name in ("id", "split", "label", "group")
        }
    )


def _counted(column: Any, least: int = 1) -> dict[Any, int]:
    """How often each text occurs that occurs so often, in the order of the first of each."""
    import pyarrow.compute as pc

    counts = pc.value_counts(column.drop_null())
    often = counts.filter(pc.greater_equal(pc.struct_field(counts, "counts"), least))
    return {one["values"]: one["counts"] for one in often.to_pylist()}


def _check_sizes(sizes: Mapping[Split, int]) -> None:
    if not sizes:
        raise DataError("The data source holds no samples; check the path and the layout of the data.")
    if not sizes.get("train"):
        raise DataError("The split 'train' has 0 samples; mark samples as train, or lower the share of val and test.")
    if not sizes.get("val") and not sizes.get("test"):
        raise DataError(
            "The splits 'val' and 'test' have 0 samples, so nothing can be evaluated; mark samples as test, raise the "
            "share of the test split, or add samples."
        )


def _check_labels(columns: Any, labels: LabelSpace) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    judged = columns.filter(pc.and_(pc.is_null(columns["label"]), pc.not_equal(columns["split"], "train")))
    for sample in judged.slice(0, 1).to_pylist():
        raise DataError(
            f"Sample '{sample['id']}' in split '{sample['split']}' has no label; give it one, or move it to train."
        )
    known = pc.is_in(columns["label"], pa.array([*labels.names, None], columns["label"].type))
    for sample in columns.filter(pc.invert(known)).slice(0, 1).to_pylist():
        raise DataError(
            f"Sample '{sample['id']}' has label '{sample['label']}', which is not in the label space"
            f"{did_you_mean(sample['label'], labels.names)}."
        )


def _check_groups(columns: Any) -> None:
    import pyarrow.compute as pc

    whole = columns.select(["group", "split"]).filter(pc.is_valid(columns["group"]))
    spread = whole.group_by("group").aggregate([("split", "count_distinct")])
    torn = spread.filter(pc.greater(spread["split_count_distinct"], 1))["group"]
    home: dict[str, Split] = {}
    for sample in whole.filter(pc.is_in(whole["group"], torn)).to_pylist():
        group, split = sample["group"], sample["split"]
        if home.setdefault(group, split) != split:
            raise DataError(
                f"Group '{group}' has samples in '{home[group]}' and in '{split}'; put the whole group into one split, "
                "or leave the split column out and let mint split by group."
            )


def _check_copies(samples: Sequence[Sample], splits: Sequence[str], hint: str) -> None:
    for places in find_copies(_images(samples), splits):
        first = samples[places[0]]
        other = next(samples[i] for i in places if samples[i].split != first.split)
        raise DataError(
            f"Samples '{first.id}' ({first.split}) and '{other.id}' ({other.split}) are the same image, which would "
            f"leak between splits; put both into one split or leave one out{hint}."
        )
