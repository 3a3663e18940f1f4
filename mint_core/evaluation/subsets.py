"""Which samples a row of the result covers: the task's own, those of seen and unseen labels, each external cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mint_core.errors import DataError
from mint_core.evaluation.fields import FREQUENCY, cells_of
from mint_core.evaluation.strata import UNSEEN, strata
from mint_core.files import digest_of
from mint_core.types import Sample, Split, some_of

ALL, SEEN = "all", "seen"


@dataclass(frozen=True, slots=True)
class Member:
    """What decides the subsets of one evaluated sample, and what the bootstrap draws."""

    group: str | None
    cohort: str | None
    seen: bool
    """Whether its label occurs on a labelled training sample."""
    content: str = ""
    """Digest of what is judged: text, image, label and group. Samples of one id in two runs need not be the same."""
    subgroups: Mapping[str, str | None] = field(default_factory=dict)
    """Its cell by field, label frequency among them; None = not known."""


def reported(samples: Sequence[Sample], wanted: Split | Literal["auto"]) -> Sequence[Sample]:
    """Those of all samples that are judged, in order.

    `auto` decides for the task's own data and for each external cohort alone: the test split where there is one, else
    val.

    Raises:
        DataError: The split has no samples.
    """
    if wanted != "auto":
        found = some_of(samples, lambda sample: sample.split == wanted)
        if not found:
            raise DataError(f"The split '{wanted}' has 0 samples; choose another with --set evaluate.split=….")
        return found
    tested = {sample.cohort for sample in samples if sample.split == "test"}
    return some_of(samples, lambda sample: sample.split == ("test" if sample.cohort in tested else "val"))


def members(samples: Sequence[Sample], train: Sequence[Sample], fields: Sequence[str] = ()) -> dict[str, Member]:
    """The evaluated samples by id; training samples without a label make no label seen.

    Args:
        samples: What is judged.
        train: Says how often each label was trained on.
        fields: Of the samples' subgroups, by which results are reported.
    """
    frequency = strata(sample.label for sample in train)
    cells = {name: cells_of(name, samples) for name in fields}
    found = {}
    for place, s in enumerate(samples):
        content = digest_of([s.text, s.image.key if s.image else None, s.label, s.group])
        stratum = frequency.get(str(s.label), UNSEEN)
        own = {**{name: column[place] for name, column in cells.items()}, FREQUENCY: stratum}
        found[s.id] = Member(s.group, s.cohort, stratum != UNSEEN, content, own)
    return found


def subsets(of: Mapping[str, Member]) -> dict[str, list[str]]:
    """Ids of the evaluated samples by subset, in the order in which a table shows them; no subset is empty.

    `all` holds the task's own samples; `seen` and `unseen` stand beside it where one of their labels is unseen. Every
    external cohort has a subset of its name, and `<cohort>: seen` and `<cohort>: unseen`.

    Raises:
        DataError: A cohort is called all, seen or unseen.
    """
    parts: dict[str, list[str]] = {}
    for name, ids in whole_sets(of).items():
        parts[name] = ids
        if name != ALL or not all(of[i].seen for i in ids):
            before = "" if name == ALL else f"{name}: "
            parts[before + SEEN] = [i for i in ids if of[i].seen]
            parts[before + UNSEEN] = [i for i in ids if not of[i].seen]
    return {name: ids for name, ids in parts.items() if ids}


def whole_sets(of: Mapping[str, Member]) -> dict[str, list[str]]:
    """Ids of the task's own samples (`all`) and of those of each external cohort; none is empty.

    Raises:
        DataError: A cohort is called all, seen or unseen.
    """
    sets: dict[str, list[str]] = {}
    for cohort in dict.fromkeys([None, *(member.cohort for member in of.values())]):
        if cohort in (ALL, SEEN, UNSEEN):
            raise DataError(f"An external data set cannot be called '{cohort}'; give it another cohort name.")
        sets[ALL if cohort is None else cohort] = [i for i, member in of.items() if member.cohort == cohort]
    return {name: ids for name, ids in sets.items() if ids}
