"""From entries to samples: labels settled, texts blinded, splits made, copies and leaks found."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mint_core.errors import ConfigError, DataError, did_you_mean
from mint_core.splits import Candidate, assign_splits, check_samples, drop_copies, find_copies
from mint_core.tables import usual_subgroups
from mint_core.tasks.entries import Entries, Entry, StoredSamples
from mint_core.tasks.labels import find_label, labels_found, labels_given
from mint_core.tasks.masking import LabelMask, mask_privileged
from mint_core.tasks.options import SampleOptions
from mint_core.types import LabelSpace, Sample, Split, TaskData

TAKEN = "folders below the class folders, taken for patients or slides"
_TOO_FEW = "folders below the class folders, too few to be kept apart by the split"
_LONGEST_LABEL = 150
"""A longer one may be a text about a patient that stands in the wrong column, and is not quoted."""


def labels_of(entries: Entries) -> Counter[str]:
    """How often each label occurs, as the entries write it."""
    import pyarrow.compute as pc

    counts = pc.value_counts(entries.column("label"))
    return Counter({one["values"]: one["counts"] for one in counts.to_pylist() if one["values"] is not None})


def label_space(counts: Mapping[str, int], given: Sequence[str] | Path | None) -> LabelSpace:
    """The labels that the user names, or else those that are found.

    Args:
        counts: How often each occurs.
        given: See `mint_core.tasks.labels.labels_given`.

    Raises:
        DataError: No entry has a label, or two labels are told apart by signs alone.
    """
    if given is not None:
        return labels_given(given)
    if not counts:
        raise DataError("No sample has a label, so there is nothing to rank; fill the label column.")
    return labels_found(counts)


def with_labels(
    entries: Iterable[Entry], labels: LabelSpace, renamed: Mapping[str, str] | None = None
) -> Iterator[Entry]:
    """The entries with their labels written as in the label space.

    Args:
        entries: With their labels as a table writes them.
        labels: The label space.
        renamed: What the user calls a label, by what the table writes.

    Raises:
        DataError: A label is not in it.
    """
    canonical: dict[str, str] = {}
    for entry in entries:
        said = entry.label
        if said is None:
            yield entry
            continue
        if said not in canonical:
            name = (renamed or {}).get(said, said)
            known = find_label(name, labels)
            if known is None:
                shown = f" '{name}'" if len(name) <= _LONGEST_LABEL else ", a long name,"
                raise DataError(
                    f"{entry.where}: label{shown} is not in the label space{did_you_mean(name, labels.names)}."
                )
            canonical[said] = known
        yield entry if canonical[said] == said else replace(entry, label=canonical[said])


def with_blind_texts(
    entries: Iterable[Entry], labels: LabelSpace, named_in_text: str, facts: Counter[str]
) -> Iterator[Entry]:
    """The entries whose texts hold neither the name of a label nor a privileged value of their row.

    Args:
        entries: What a table holds.
        labels: Whose names are looked for.
        named_in_text: `mask`, `keep`, `drop` or `refuse`.
        facts: Gets the counts.

    Raises:
        DataError: A text holds one, and `named_in_text` is `refuse`.
    """
    mask = LabelMask(labels)
    for entry in entries:
        if named_in_text == "keep" or entry.text is None:
            yield entry
            continue
        without_names = mask.mask(entry.text)
        blind = mask_privileged(without_names.text, entry.privileged)
        if not (without_names.times or blind.times):
            yield entry
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
            yield replace(entry, text=blind.text)


def task_data(
    entries: Entries,
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
    given = entries[0].split is not None
    samples = StoredSamples(entries) if given else _split(entries, _groups(entries), options)
    if facts[TAKEN] and not given and not _all_filled(samples, options):  # nobody said that these folders are patients
        facts[_TOO_FEW] = facts.pop(TAKEN)
        samples = _split(entries, _groups(entries, own=False), options)
    result = checked(samples, labels, options)
    grouped = not facts[_TOO_FEW] and entries.column("group").null_count < len(entries)
    splits = "splits as given" if given else f"splits by mint, seed {options.sample_seed}"
    groups = "" if grouped else "; no groups given, so patients are not kept apart"
    line = f"{place}, {splits}{groups}{result.note}"
    if subgroups is None:
        subgroups = usual_subgroups(entries.subgroups)
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


def _split(entries: Entries, groups: list[str | None], options: SampleOptions) -> StoredSamples:
    """The samples with splits by mint."""
    candidates = [
        Candidate(entry.id, entry.label, group, entry.image) for entry, group in zip(entries, groups, strict=True)
    ]
    return StoredSamples(entries, assign_splits(candidates, _fractions(options), options.sample_seed), groups)


def _all_filled(samples: Sequence[Sample], options: SampleOptions) -> bool:
    """Whether every split that the options ask for holds a sample."""
    return {split for split, share in _fractions(options).items() if share > 0} <= {one.split for one in samples}


def _groups(entries: Entries, *, own: bool = True) -> list[str | None]:
    """The groups as given, or none; identical images without a group become one."""
    groups = entries.column("group").to_pylist() if own else [None] * len(entries)
    taken = defaultdict(list)
    for places in find_copies(entries.images):
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
