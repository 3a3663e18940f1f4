"""From entries, as a table or a folder holds them, to samples: labels settled, splits made, copies and leaks found."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from mint_core.errors import ConfigError, DataError, did_you_mean
from mint_core.splits import Candidate, assign_splits, check_samples, drop_copies, find_copies
from mint_core.tables import usual_subgroups
from mint_core.tasks.labels import find_label, labels_found, labels_given
from mint_core.tasks.masking import LabelMask, mask_privileged
from mint_core.tasks.options import SampleOptions
from mint_core.types import ImageRef, LabelSpace, Sample, Split, TaskData

SPLIT_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What splits are called, in lower case."""
TAKEN = "folders below the class folders, taken for patients or slides"
_TOO_FEW = "folders below the class folders, too few to be kept apart by the split"
_LONGEST_LABEL = 150
"""A longer one may be a text about a patient that stands in the wrong column, and is not quoted."""

_LONGEST_SPLIT = 20
"""Likewise."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One sample before its label is normalised and its split is made."""

    where: str
    """Row or file, for messages."""
    id: str
    label: str | None = None
    group: str | None = None
    split: Split | None = None
    image: ImageRef | None = field(default=None, repr=False)
    text: str | None = field(default=None, repr=False)
    privileged: Mapping[str, str] = field(default_factory=dict, repr=False)
    subgroups: Mapping[str, str] = field(default_factory=dict, repr=False)


def split_of(word: str, where: str) -> Split:
    """The split that a cell names.

    Raises:
        DataError: There is none of that name.
    """
    split = SPLIT_WORDS.get(word.lower())
    if split is None:
        shown = f"split '{word}'" if len(word) <= _LONGEST_SPLIT else "the split"
        raise DataError(f"{where}: {shown} is not known; write train, val or test.")
    return split


def label_space(entries: Sequence[Entry], given: Sequence[str] | None) -> LabelSpace:
    """The labels that the user names, or else those that are found.

    Raises:
        DataError: No entry has a label, or two labels are told apart by signs alone.
    """
    if given is not None:
        return labels_given(given)
    counts = Counter(entry.label for entry in entries if entry.label is not None)
    if not counts:
        raise DataError("No sample has a label, so there is nothing to rank; fill the label column.")
    return labels_found(counts)


def with_labels(entries: Sequence[Entry], labels: LabelSpace) -> list[Entry]:
    """The entries with their labels written as in the label space.

    Raises:
        DataError: A label is not in it.
    """
    canonical = {entry.label: find_label(entry.label, labels) for entry in entries if entry.label is not None}
    for entry in entries:
        if entry.label is not None and canonical[entry.label] is None:
            shown = f" '{entry.label}'" if len(entry.label) <= _LONGEST_LABEL else ", a long name,"
            raise DataError(
                f"{entry.where}: label{shown} is not in the label space{did_you_mean(entry.label, labels.names)}."
            )
    return [replace(entry, label=canonical[entry.label] if entry.label else None) for entry in entries]


def with_blind_texts(
    entries: Sequence[Entry], labels: LabelSpace, named_in_text: str, facts: Counter[str]
) -> list[Entry]:
    """The entries whose texts hold neither the name of a label nor a privileged value of their row.

    Args:
        entries: What a table holds.
        labels: Whose names are looked for.
        named_in_text: `mask`, `keep`, `drop` or `refuse`.
        facts: Gets the counts.

    Raises:
        DataError: A text holds one, and `named_in_text` is `refuse`.
    """
    if named_in_text == "keep":
        return list(entries)
    mask, kept = LabelMask(labels), []
    for entry in entries:
        without_names = mask.mask(entry.text or "")
        blind = mask_privileged(without_names.text, entry.privileged)
        if not (without_names.times or blind.times):
            kept.append(entry)
            continue
        if named_in_text == "refuse":
            what = "a privileged value" if blind.times else "the name of a label"
            raise DataError(
                f"{entry.where}: the text holds {what}, which the student may not read; mend the text, or use "
                "--set task.named_in_text=mask."
            )
        facts["texts that named a label"] += without_names.times > 0
        facts["texts that held a privileged value"] += blind.times > 0
        if named_in_text == "mask":
            kept.append(replace(entry, text=blind.text))
    return kept


def task_data(
    entries: Sequence[Entry],
    labels: LabelSpace,
    place: str,
    options: SampleOptions,
    facts: Counter[str],
    *,
    subgroups: Sequence[str] | None = None,
) -> TaskData:
    """Samples with splits, as given or made by mint, that nothing leaks between.

    Args:
        entries: At least one; their labels are those of the label space.
        labels: The label space.
        place: What the report calls the data.
        options: `val_fraction`, `test_fraction`, `sample_seed` and `duplicates` count.
        facts: Counts for the report.
        subgroups: Columns by which results are reported; None = the usual ones.

    Raises:
        DataError: See `mint_core.splits.check_samples`.
    """
    samples = _samples(entries, options)
    if facts[TAKEN] and not _all_filled(samples, options):  # nobody said that these folders are patients
        facts[_TOO_FEW] = facts.pop(TAKEN)
        entries = [replace(entry, group=None) for entry in entries]
        samples = _samples(entries, options)
    result = checked(samples, labels, options)
    splits = "splits as given" if entries[0].split else f"splits by mint, seed {options.sample_seed}"
    groups = "" if any(entry.group for entry in entries) else "; no groups given, so patients are not kept apart"
    if subgroups is None:
        subgroups = usual_subgroups({column for entry in entries for column in entry.subgroups})
    line = f"{place}, {splits}{groups}{result.note}"
    return TaskData(result.samples, labels, line, facts=dict(+facts), subgroups=tuple(subgroups))


class Checked(NamedTuple):
    """Samples that passed, and what was done to them."""

    samples: Sequence[Sample]
    note: str
    """Empty, or what the source's line should add."""


def checked(samples: Sequence[Sample], labels: LabelSpace, options: SampleOptions) -> Checked:
    """Leaves out copies where the user wants it, then checks the samples; the last step of every reader.

    Raises:
        DataError: See `mint_core.splits.check_samples`.
    """
    kept = drop_copies(samples) if options.duplicates == "drop" else samples
    check_samples(kept, labels, ", or leave out later copies with --set task.duplicates=drop")
    copies = len(samples) - len(kept)
    return Checked(kept, f", {copies} copies of images in an earlier split left out" if copies else "")


def _samples(entries: Sequence[Entry], options: SampleOptions) -> list[Sample]:
    groups, splits = [entry.group for entry in entries], [entry.split or "train" for entry in entries]
    if entries[0].split is None:
        groups = _groups(entries)
        candidates = [
            Candidate(entry.id, entry.label, group, entry.image) for entry, group in zip(entries, groups, strict=True)
        ]
        splits = assign_splits(candidates, _fractions(options), options.sample_seed)
    return [
        Sample(
            id=entry.id,
            split=split,
            label=entry.label,
            group=group,
            image=entry.image,
            text=entry.text,
            privileged=entry.privileged,
            subgroups=entry.subgroups,
        )
        for entry, split, group in zip(entries, splits, groups, strict=True)
    ]


def _all_filled(samples: Sequence[Sample], options: SampleOptions) -> bool:
    """Whether every split that the options ask for holds a sample."""
    return {split for split, share in _fractions(options).items() if share > 0} <= {one.split for one in samples}


def _groups(entries: Sequence[Entry]) -> list[str | None]:
    """The groups as given; identical images without a group become one."""
    groups = [entry.group for entry in entries]
    taken = defaultdict(list)
    for places in find_copies([entry.image for entry in entries]):
        taken[min(entries[i].id for i in places)] = [i for i in places if groups[i] is None]
    for name, places in taken.items():
        for i in places:
            groups[i] = f"copies of {name}"
    return groups


def _fractions(options: SampleOptions) -> dict[Split, float]:
    train = 1 - options.val_fraction - options.test_fraction
    if train <= 0:
        raise ConfigError("val_fraction and test_fraction together must be below 1, so that train keeps a share.")
    return {"train": train, "val": options.val_fraction, "test": options.test_fraction}
