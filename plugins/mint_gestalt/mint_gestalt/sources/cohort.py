"""From cases to samples: names settled, small diseases left out, splits made, text and privileged fields parted."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mint_core.plugin import (
    Candidate,
    ConfigError,
    DataError,
    LabelSpace,
    Sample,
    Split,
    TaskData,
    assign_splits,
    drop_copies,
    mask_privileged,
    names_of,
)
from mint_gestalt import ontology
from mint_gestalt.sources import gmdb, notes, phenopackets
from mint_gestalt.sources.cases import Case, Reading
from mint_gestalt.sources.labels import Diseases, choose, extend, found, nearest, quoted
from mint_gestalt.sources.masking import Contained, mask_disease, resembles
from mint_gestalt.sources.options import RareDiseaseOptions

READERS = {"phenopackets": phenopackets.read, "gmdb": gmdb.read, "csv": notes.read, "jsonl": notes.read}
"""The readers of files, by the name of the source."""
_RECOGNISE: Mapping[str, Callable[[Path, RareDiseaseOptions], bool]] = {
    "phenopackets": lambda place, _: phenopackets.recognises(place),
    "gmdb": gmdb.recognises,
    "csv": partial(notes.recognises, lines=False),
    "jsonl": partial(notes.recognises, lines=True),
}
_LOOKED = 200
"""Texts in which the name of the disease is looked for once more."""
_SHOWN = 3
_NAMED = 10
"""How many of the diseases that are left out are named."""
_UNNAMED = " a long name"


@dataclass(frozen=True, slots=True)
class _Placed:
    """A case with its settled disease and its split."""

    case: Case
    label: str | None
    split: Split = "train"
    taken: str | None = None
    """The disease of a patient whose label was taken: it is masked like that of the others."""


def recognises(place: Path, options: RareDiseaseOptions) -> tuple[str, ...]:
    """The sources that can read what lies there."""
    return tuple(name for name, knows in _RECOGNISE.items() if knows(place, options))


def load(options: RareDiseaseOptions) -> TaskData:
    """Reads the patients that `source` and `data` name, and those of `external`.

    Args:
        options: All but those of `simulated` count.

    Raises:
        ConfigError: Options contradict each other or the data.
        DataError: The data cannot be read, or nothing remains of them.
    """
    reading = _read(options.source, options.data or Path(), options)
    facts = Counter(reading.facts)
    given = _given_splits(reading)
    diseases = choose(reading.cases, options, facts)
    placed = _large_enough(_named(reading.cases, diseases, options, facts), given, options, facts)
    placed = _at_most(_most_groups(placed, options, facts), options, facts)
    if options.labels is None:
        diseases = _only(diseases, placed)
    facts["diseases"] = len(diseases.labels)
    unseen = _drawn_unseen(placed, given, options)
    placed = placed if given else _split(placed, unseen, options, facts)
    if unseen:
        facts["diseases held out as unseen"] = len(unseen)
    _count_untrained(placed, unseen, facts)
    samples = _samples(_fewer_labels(placed, options, facts), diseases.labels, options, facts)
    samples = _without_copies(samples, samples, options, facts)
    splits = "splits as given" if given else f"splits by mint, seed {options.sample_seed}"
    line = f"{reading.line}, {splits}"
    data = TaskData(samples, diseases.labels, line, facts=dict(+facts), subgroups=reading.subgroups)
    if options.external is None:
        return data
    return add_external(data, diseases.by_id, _publications_trained_on(placed), options)


def add_external(
    data: TaskData, by_id: Mapping[str, str], trained_on: frozenset[str], options: RareDiseaseOptions
) -> TaskData:
    """The data with a second data set behind them, all of it test.

    Its diseases are found in the label space by id, name or alias; the others are appended to it. Patients from a
    publication that was trained on are left out and counted: they could be the same patients. So are those whose text,
    written by somebody or under the same id, was trained on.

    Args:
        data: The task's own data.
        by_id: Canonical name by disease id.
        trained_on: Publications of the training and validation patients.
        options: `external`, `external_source`, `external_name` and the reader's own options count.

    Raises:
        DataError: It cannot be read, or no patient remains.
    """
    if options.external is None:
        return data
    place = options.external
    name = options.external_name or place.resolve().stem
    reading = _read(options.external_source or _source_of(place, options), place, options)
    met = Counter(reading.facts)
    own = Diseases(data.labels, by_id)
    cases = [case for case in reading.cases if case.disease_names and case.publication not in trained_on]
    met["left out, no disease"] += sum(not case.disease_names for case in reading.cases)
    met["left out, their publication was trained on"] += sum(
        bool(case.disease_names) and case.publication in trained_on for case in reading.cases
    )
    if not cases:
        raise DataError(
            f"No patient of {place.name} remains to be tested on: none has a disease, or all were trained on."
        )
    new = [case for case in cases if own.find(case) is None]
    diseases = extend(own, found(new), options, met) if new else own
    met["diseases appended to the label space"] += len(diseases.labels) - len(data.labels)
    placed = [_Placed(case, diseases.find(case), "test") for case in cases]
    samples = _samples(placed, diseases.labels, options, met, cohort=name)
    samples = _with_new_texts(samples, name, data, {f"{name}/{case.id}" for case in cases if case.free_text}, met)
    samples = _without_copies(samples, (*data.samples, *samples), options, met)
    if not samples:
        raise DataError(
            f"No patient of {place.name} remains to be tested on: all were trained on, or left out for what their text "
            "held."
        )
    facts = {**data.facts, **{f"{name}: {fact}": count for fact, count in (+met).items()}}
    return TaskData(
        (*data.samples, *samples),
        diseases.labels,
        f"{data.source}; external: {reading.line}",
        data.simulated,
        data.licence,
        facts,
        tuple(dict.fromkeys((*data.subgroups, *reading.subgroups))),
    )


def _source_of(place: Path, options: RareDiseaseOptions) -> str:
    """The source of a second data set that nobody names: the first one's, unless only another recognises it."""
    found = recognises(place, options)
    return found[0] if len(found) == 1 and options.source not in found else options.source


def _with_new_texts(
    samples: Sequence[Sample], name: str, data: TaskData, written: set[str], facts: Counter[str]
) -> tuple[Sample, ...]:
    """Without those whose text was trained on. A text that nobody wrote, made of a few facts, needs the same id too.

    Args:
        samples: Of the external data.
        name: What the external data are called, which stands in front of their ids.
        data: The task's own data.
        written: Ids of the samples whose text somebody wrote.
        facts: Gets the count.
    """
    ids_of = defaultdict(set)
    for sample in data.samples:
        if sample.split != "test":
            ids_of[sample.text].add(f"{name}/{sample.id}")
    kept = tuple(
        sample
        for sample in samples
        if sample.text not in ids_of or not (sample.id in written or sample.id in ids_of[sample.text])
    )
    facts["left out, their text was trained on"] += len(samples) - len(kept)
    return kept


def _without_copies(
    samples: tuple[Sample, ...], among: Sequence[Sample], options: RareDiseaseOptions, facts: Counter[str]
) -> tuple[Sample, ...]:
    """Those whose face lies in no earlier split `among` all samples, where the options say so."""
    if options.duplicates != "drop":
        return samples
    ids = {sample.id for sample in drop_copies(among)}
    kept = tuple(sample for sample in samples if sample.id in ids)
    facts["faces left out, they lie in an earlier split"] += len(samples) - len(kept)
    return kept


def _read(source: str, place: Path, options: RareDiseaseOptions) -> Reading:
    if source not in READERS:
        raise ConfigError(
            "An external data set needs a source of its own; name it with --set task.external_source, out of "
            f"{', '.join(READERS)}."
        )
    return READERS[source](place, options)


def _given_splits(reading: Reading) -> bool:
    return any(case.split is not None for case in reading.cases)


# --- which patients and which diseases


def _named(
    cases: Sequence[Case], diseases: Diseases, options: RareDiseaseOptions, facts: Counter[str]
) -> list[_Placed]:
    """The cases with their canonical disease; those outside a given label space refused or dropped."""
    placed = []
    unknown: Counter[str] = Counter()
    for case in cases:
        label = diseases.find(case)
        if label is None and case.disease_names:
            if options.unknown_labels == "refuse":
                said = case.disease_names[0]
                raise DataError(
                    f"{case.where}: the disease{quoted(said)} is not in the label space"
                    f"{nearest(said, diseases.labels)}; mend the name, or leave such patients out with "
                    "--set task.unknown_labels=drop."
                )
            facts["left out, their disease is not in the label space"] += 1
            unknown[case.disease_names[0]] += 1
            continue
        placed.append(_Placed(case, label, case.split or "train"))
    for name, count in sorted(unknown.items())[:_NAMED]:
        facts[f"left out:{quoted(name, _UNNAMED)}, patients, not in the label space"] = count
    if not any(one.label for one in placed):
        raise DataError("No patient has a disease of the label space; check task.labels against the data.")
    return placed


def _large_enough(
    placed: Sequence[_Placed], given: bool, options: RareDiseaseOptions, facts: Counter[str]
) -> list[_Placed]:
    """Without the diseases that have too few patients or groups."""
    default = 1 if given else 2
    least = (options.min_patients or default, options.min_groups or default)
    patients, groups = _spread(placed)
    small = {name for name in patients if len(patients[name]) < least[0] or len(groups[name]) < least[1]}
    if len(small) == len(patients):
        most, spread = max((len(patients[name]), len(groups[name])) for name in patients)
        raise DataError(
            f"No disease has at least {least[0]} patients in {least[1]} groups (at most {most} in {spread} here), so "
            "none can be both trained and tested on; add patients, or lower task.min_patients and task.min_groups."
        )
    kept = [one for one in placed if one.label not in small]
    facts["diseases left out, too few patients or groups"] += len(small)
    for name in sorted(small)[:_NAMED]:
        few = len(patients[name]) < least[0]
        what, needed, counted = ("patients", least[0], patients) if few else ("groups", least[1], groups)
        facts[f"left out:{quoted(name, _UNNAMED)}, {what} where {needed} are needed"] = len(counted[name])
    facts["patients left out with them"] += _count(placed) - _count(kept)
    return kept


def _most_groups(placed: Sequence[_Placed], options: RareDiseaseOptions, facts: Counter[str]) -> list[_Placed]:
    """Without all but the diseases that have the most groups."""
    if options.most_groups is None:
        return list(placed)
    patients, groups = _spread(placed)
    ranked = sorted(patients, key=lambda name: (-len(groups[name]), -len(patients[name]), name))
    kept = set(ranked[: options.most_groups])
    facts["diseases left out, others have more groups"] += len(ranked) - len(kept)
    return [one for one in placed if one.label is None or one.label in kept]


def _at_most(placed: Sequence[_Placed], options: RareDiseaseOptions, facts: Counter[str]) -> list[_Placed]:
    """Without the patients above the limit; groups give one patient in turn."""
    if options.max_patients is None:
        return list(placed)
    by_group: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for one in placed:
        if one.label is not None:
            patients = by_group[one.label, one.split][one.case.group]
            if one.case.patient not in patients:
                patients.append(one.case.patient)
    kept = set()
    for disease, groups in by_group.items():
        turns = []
        for group, patients in groups.items():
            drawn = sorted(patients, key=lambda name: _draw(options, "patient", name))
            place = _draw(options, "group", group)
            turns += [(turn, place, patient) for turn, patient in enumerate(drawn)]
        kept |= {(*disease, patient) for *_, patient in sorted(turns)[: options.max_patients]}
    left = [one for one in placed if one.label is None or (one.label, one.split, one.case.patient) in kept]
    facts["patients left out, their disease has enough"] += _count(placed) - _count(left)
    return left


def _count(placed: Sequence[_Placed]) -> int:
    return len({one.case.patient for one in placed})


def _spread(placed: Sequence[_Placed]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Patients and groups of every disease."""
    patients, groups = defaultdict(set), defaultdict(set)
    for one in placed:
        if one.label is not None:
            patients[one.label].add(one.case.patient)
            groups[one.label].add(one.case.group)
    return patients, groups


def _only(diseases: Diseases, placed: Sequence[_Placed]) -> Diseases:
    """The label space of the diseases that are left."""
    present = {one.label for one in placed}
    names = tuple(name for name in diseases.labels.names if name in present)
    labels = LabelSpace(names, tuple(diseases.labels.all_names(name)[1:] for name in names))
    return Diseases(labels, {key: name for key, name in diseases.by_id.items() if name in present})


# --- splits


def _draw(options: RareDiseaseOptions, what: str, name: str) -> str:
    """A place in a random order that depends on the seed and the name only."""
    return hashlib.blake2b(f"{options.sample_seed}\0{what}\0{name}".encode(), digest_size=16).hexdigest()


def _drawn_unseen(placed: Sequence[_Placed], given: bool, options: RareDiseaseOptions) -> frozenset[str]:
    """The diseases that are held out."""
    if not options.unseen:
        return frozenset()
    if given:
        raise ConfigError(
            "task.unseen needs mint's own split; take the split column out, or move those patients yourself."
        )
    names = sorted(
        {one.label for one in placed if one.label is not None}, key=lambda name: _draw(options, "unseen", name)
    )
    if len(names) - options.unseen < 2:
        raise ConfigError(
            f"task.unseen = {options.unseen} leaves fewer than two of {len(names)} diseases to train on; lower it."
        )
    return frozenset(names[: options.unseen])


def _split(
    placed: Sequence[_Placed], unseen: frozenset[str], options: RareDiseaseOptions, facts: Counter[str]
) -> list[_Placed]:
    """Unseen diseases, and whoever shares a group with their patients, are test; the others are shared out."""
    held_out = {one.case.group for one in placed if one.label in unseen}
    rest = [one for one in placed if one.case.group not in held_out]
    train = 1 - options.val_fraction - options.test_fraction
    if train <= 0:
        raise ConfigError("val_fraction and test_fraction together must be below 1, so that train keeps a share.")
    candidates = [Candidate(one.case.id, one.label, one.case.group, one.case.image) for one in rest]
    fractions: dict[Split, float] = {"train": train, "val": options.val_fraction, "test": options.test_fraction}
    splits = dict(
        zip((one.case.id for one in rest), assign_splits(candidates, fractions, options.sample_seed), strict=True)
    )
    kept = [one for one in placed if one.label is not None or one.case.id in splits]
    facts["left out, no disease and one group with an unseen disease"] += len(placed) - len(kept)
    return [_Placed(one.case, one.label, splits.get(one.case.id, "test")) for one in kept]


def _count_untrained(placed: Sequence[_Placed], unseen: frozenset[str], facts: Counter[str]) -> None:
    trained = {one.label for one in placed if one.split == "train"}
    tested = {one.label for one in placed if one.split != "train"}
    facts["further diseases in test without a training patient"] += len(tested - trained - unseen)


def _publications_trained_on(placed: Sequence[_Placed]) -> frozenset[str]:
    return frozenset(one.case.publication for one in placed if one.split != "test" and one.case.publication)


def _fewer_labels(placed: Sequence[_Placed], options: RareDiseaseOptions, facts: Counter[str]) -> list[_Placed]:
    """Takes the label of all but `labelled` training patients, evenly over the diseases and one of each first."""
    if options.labelled is None:
        return list(placed)
    known = _patients(placed)
    if options.labelled > len(known):
        raise ConfigError(
            f"task.labelled = {options.labelled} is more than the {len(known)} training patients with a disease; "
            "lower it."
        )
    by_label: dict[str | None, list[str]] = defaultdict(list)
    for cases in known.values():
        by_label[cases[0].label].append(min(one.case.id for one in cases))
    places = []
    for ids in by_label.values():
        ids.sort(key=lambda name: _draw(options, "labelled", name))
        places += [
            (rank > 0, (rank + 0.5) / len(ids), _draw(options, "turn", name), name) for rank, name in enumerate(ids)
        ]
    drawn = {name for *_, name in sorted(places)[: options.labelled]}
    keep = {one.case.id for cases in known.values() if drawn & {one.case.id for one in cases} for one in cases}
    facts["training patients with a label"] = len(drawn)
    facts["training patients whose label was taken"] = len(known) - len(drawn)
    facts["diseases without a labelled training patient"] += sum(drawn.isdisjoint(ids) for ids in by_label.values())
    return [
        replace(one, label=None, taken=one.label) if one.split == "train" and one.case.id not in keep else one
        for one in placed
    ]


def _patients(placed: Sequence[_Placed]) -> dict[str, list[_Placed]]:
    """The labelled training cases of every patient, who may have several faces or notes."""
    found = defaultdict(list)
    for one in placed:
        if one.split == "train" and one.label is not None:
            found[one.case.patient].append(one)
    return found


# --- samples


def _samples(
    placed: Sequence[_Placed],
    labels: LabelSpace,
    options: RareDiseaseOptions,
    facts: Counter[str],
    cohort: str | None = None,
) -> tuple[Sample, ...]:
    """What the core gets. Ids and groups of an external data set carry its name, publications do not."""
    samples = []
    contained = Contained(form for label in labels.names for form in labels.all_names(label))
    written = []
    for one in placed:
        names = _names(one, labels, contained) if one.case.free_text else []
        text = _blind(one, names, options, facts)
        if text is None:
            continue
        case = one.case
        if case.free_text:
            written.append(_Written(case.where, text, names))
        ours = cohort is None or case.group == case.publication
        samples.append(
            Sample(
                id=case.id if cohort is None else f"{cohort}/{case.id}",
                split=one.split,
                label=one.label,
                group=case.group if ours else f"{cohort}/{case.group}",
                image=case.image,
                text=text,
                privileged=case.privileged,
                cohort=cohort,
                subgroups=case.subgroups,
            )
        )
    _look_for_the_truth(written, facts)
    return tuple(samples)


class _Written(NamedTuple):
    """A text that somebody wrote, as the student reads it."""

    where: str
    text: str
    names: Sequence[str]
    """Of the patient's disease."""


def _look_for_the_truth(written: Sequence[_Written], facts: Counter[str]) -> None:
    """Samples texts and warns where one still holds something like the name of its disease."""
    looked = written[:: max(1, -(-len(written) // _LOOKED))]
    found = [one.where for one in looked if resembles(one.text, one.names)]
    if not found:
        return
    facts[f"of {len(looked)} texts looked at, hold something like the name of their disease"] += len(found)
    warnings.warn(
        f"{len(found)} of {len(looked)} texts that were looked at hold something like the name of their disease, which "
        f"was not masked, for example {', '.join(found[:_SHOWN])}; look at them, and add such spellings as aliases.",
        stacklevel=2,
    )


def _names(one: _Placed, labels: LabelSpace, contained: Contained) -> list[str]:
    """All names of a patient's disease: of the label space, the data, OMIM and Orphanet, and labels inside them."""
    label = one.label or one.taken
    catalogued = (ontology.disease_name(disease_id) for disease_id in one.case.disease_ids)
    names = [
        *(labels.all_names(label) if label else ()),
        *one.case.disease_names,
        *(form for name in catalogued if name for form in names_of(name)),
    ]
    return list(dict.fromkeys([*names, *(known for name in names for known in contained.inside(name))]))


def _blind(one: _Placed, names: Sequence[str], options: RareDiseaseOptions, facts: Counter[str]) -> str | None:
    """The text without its disease, where somebody wrote it, and without privileged values; None = leave out.

    Args:
        one: The case.
        names: Of its disease; empty where nobody wrote the text.
        options: `named_in_text` counts.
        facts: Gets the counts.
    """
    case = one.case
    # The disease comes first: its name may hold the gene, and would not be found once the gene is masked.
    without_disease = mask_disease(case.text, names)
    text, values = mask_privileged(without_disease.text, case.privileged)
    if not (without_disease.times or values):
        return case.text
    by_field = values > 0
    if options.named_in_text == "refuse":
        what = "a privileged value" if by_field else "the name of the disease"
        raise DataError(
            f"{case.where}: the text holds {what}, which the student may not read; mend the text, or use "
            "--set task.named_in_text=mask."
        )
    facts["texts that held a privileged value"] += by_field
    facts["texts that named the disease"] += without_disease.times > 0
    facts["privileged values in them"] += values
    facts["names of the disease in them"] += without_disease.times
    if options.named_in_text == "drop":
        facts["left out for what their text held"] += 1
        return None
    return text
