"""The label space: which diseases there are, what they are called, and which names are one disease."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mint_core.plugin import (
    DataError,
    GivenLabel,
    LabelSpace,
    given_label,
    identity_of,
    names_of,
    normalise_name,
    read_labels,
)
from mint_gestalt import ontology
from mint_gestalt.sources.cases import Case
from mint_gestalt.sources.options import RareDiseaseOptions

DROPPED_ALIASES = "aliases dropped, two diseases share them"
MERGED = "diseases merged with one of the same name"
_LONGEST_NAME = 150
_LONG = " (a long name)"


@dataclass(frozen=True, slots=True)
class Diseases:
    """The label space, with the ids under which its diseases are found in data."""

    labels: LabelSpace
    by_id: Mapping[str, str]
    """Canonical name by id; ids of two diseases are left out."""

    def find(self, case: Case) -> str | None:
        """The canonical name of a case's disease, by id or else by name or alias; None where there is none.

        Raises:
            DataError: Its name is read like that of a label, and differs from it in signs (HER2+ and HER2-).
        """
        known = (self.by_id.get(disease_id) for disease_id in case.disease_ids)
        label = next((name for name in known if name is not None), None)
        if label is not None:
            return label
        for name in case.disease_names:
            label = self.labels.find(name)
            if label is not None:
                if identity_of(name) not in map(identity_of, self.labels.all_names(label)):
                    raise DataError(f"{case.where}. {_alike(name, label)}")
                return label
        return None


def choose(cases: Sequence[Case], options: RareDiseaseOptions, facts: Counter[str]) -> Diseases:
    """The label space that the options ask for.

    Args:
        cases: The patients; they are the label space where the user gives none, and teach the ids of given names.
        options: `labels` and `shared_aliases` count.
        facts: Gets the counts.

    Raises:
        DataError: No patient has a disease, a file cannot be read, or two labels share a name.
    """
    if options.labels is None:
        return settle(found(cases), options, facts)
    if options.labels == "omim":
        given = [GivenLabel(disease.name, (), (disease.id,)) for disease in ontology.diseases()]
    elif isinstance(options.labels, Path):
        given = read_labels(options.labels, options.missing)
    else:
        given = [given_label(label) for label in options.labels if names_of(label)]
    return _with_ids_of(cases, settle(given, options, facts))


def found(cases: Iterable[Case]) -> list[GivenLabel]:
    """The diseases of the patients, sorted by name.

    The name of a disease is what its patients are most often said to have; other spellings become aliases. An id is a
    name only where there is no other.

    Args:
        cases: Those without a disease do not count.

    Raises:
        DataError: No patient has a disease, or two names of one disease differ in signs only.
    """
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    aliases: dict[str, dict[str, None]] = defaultdict(dict)
    ids: dict[str, dict[str, None]] = defaultdict(dict)
    cases = list(cases)
    one_of = _linked(case.disease_ids for case in cases if case.disease_names)
    for case in cases:
        if case.disease_names:
            key = one_of(case.disease_ids[0]) if case.disease_ids else identity_of(case.disease_names[0])
            spellings[key][case.disease_names[0]] += 1
            aliases[key].update(dict.fromkeys(case.disease_names[1:]))
            ids[key].update(dict.fromkeys(case.disease_ids))
    if not spellings:
        raise DataError(
            "No patient has a disease, so there is nothing to rank; fill the diseases, or name --set task.labels."
        )
    diseases = []
    for key, counts in spellings.items():
        spelt = [spelling for spelling in counts if spelling not in ids[key]] or list(counts)
        name, *others = sorted(spelt, key=lambda spelling: (-counts[spelling], spelling))
        for other in (*others, *sorted(aliases[key])):
            if normalise_name(other) == normalise_name(name) and identity_of(other) != identity_of(name):
                raise DataError(_alike(name, other))
        diseases.append(GivenLabel(name, (*others, *sorted(aliases[key])), tuple(ids[key])))
    return sorted(diseases, key=lambda disease: (disease.name.casefold(), disease.ids))


_CATALOGUES = ("OMIM:", "ORPHA:", "MONDO:")
"""Their ids stand side by side for one disease."""


def _linked(ids: Iterable[tuple[str, ...]]) -> Callable[[str], str]:
    """Tells one id for all under which patients say that one disease goes: the first by catalogue and number."""
    joined: dict[str, set[str]] = {}
    for own in ids:
        if len(own) > 1 and all(one.startswith(_CATALOGUES) for one in own):
            whole = set(own).union(*(joined[one] for one in own if one in joined))
            joined.update(dict.fromkeys(whole, whole))
    return lambda one: min(joined[one], key=_by_catalogue) if one in joined else one


def _by_catalogue(disease_id: str) -> tuple[int, str]:
    return next(place for place, front in enumerate(_CATALOGUES) if disease_id.startswith(front)), disease_id


def settle(diseases: Sequence[GivenLabel], options: RareDiseaseOptions, facts: Counter[str]) -> Diseases:
    """Makes names unambiguous: equal names are one disease; an alias of two diseases is refused, or dropped from both.

    Args:
        diseases: In the order of the label space.
        options: `shared_aliases` counts.
        facts: Gets the counts.

    Raises:
        DataError: Two labels share a name, and `shared_aliases` is `refuse`; or they differ in signs alone.
    """
    merged: dict[str, GivenLabel] = {}
    for disease in diseases:
        form = normalise_name(disease.name)
        same = merged.get(form)
        if same is None:
            merged[form] = disease
            continue
        if identity_of(same.name) != identity_of(disease.name):
            raise DataError(_alike(same.name, disease.name))
        facts[MERGED] += 1
        merged[form] = GivenLabel(
            same.name,
            (*same.aliases, disease.name, *disease.aliases),
            tuple(dict.fromkeys((*same.ids, *disease.ids))),
        )
    kept = _without_shared_aliases(merged, options, facts)
    labels = LabelSpace(tuple(disease.name for disease in merged.values()), tuple(kept))
    return Diseases(labels, _ids(merged.values()))


def _without_shared_aliases(
    diseases: Mapping[str, GivenLabel], options: RareDiseaseOptions, facts: Counter[str]
) -> list[tuple[str, ...]]:
    """Aliases per disease, each form once; `diseases` by the form of their name."""
    holders: dict[str, list[str]] = defaultdict(list)
    forms: list[dict[str, str]] = []
    for own, disease in diseases.items():
        mine = {form: alias for alias in reversed(disease.aliases) if (form := normalise_name(alias)) and form != own}
        forms.append(dict(reversed(mine.items())))
        for form in mine:
            holders[form].append(disease.name)
    shared = {form for form, names in holders.items() if len(names) > 1 or form in diseases}
    if shared and options.shared_aliases == "refuse":
        form = min(shared)
        names = [*([diseases[form].name] if form in diseases else []), *holders[form]]
        raise DataError(
            f"The labels{quoted(names[0], _LONG)} and{quoted(names[1], _LONG)} share the name{quoted(form, _LONG)}, so "
            "an answer could mean either; rename one, or drop such aliases with --set task.shared_aliases=drop."
        )
    if shared:
        facts[DROPPED_ALIASES] += len(shared)
    return [tuple(alias for form, alias in mine.items() if form not in shared) for mine in forms]


def _ids(diseases: Iterable[GivenLabel]) -> dict[str, str]:
    names: dict[str, set[str]] = defaultdict(set)
    for disease in diseases:
        for disease_id in disease.ids:
            names[disease_id].add(disease.name)
    return {disease_id: found.pop() for disease_id, found in names.items() if len(found) == 1}


def _with_ids_of(cases: Iterable[Case], diseases: Diseases) -> Diseases:
    """The ids learnt from patients whose disease is found by name, so that its other spellings are found too."""
    learnt: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        name = diseases.find(case)
        if name is not None and case.disease_ids:
            learnt[case.disease_ids[0]].add(name)
    clear = {disease_id: names.pop() for disease_id, names in learnt.items() if len(names) == 1}
    return Diseases(diseases.labels, {**clear, **diseases.by_id})


def extend(
    diseases: Diseases, more: Sequence[GivenLabel], options: RareDiseaseOptions, facts: Counter[str]
) -> Diseases:
    """The label space with further diseases behind the known ones, whose place does not change.

    Args:
        diseases: The label space so far.
        more: Diseases that `Diseases.find` does not know.
        options: `shared_aliases` counts.
        facts: Gets the counts.

    Raises:
        DataError: See `settle`.
    """
    ids: dict[str, list[str]] = defaultdict(list)
    for disease_id, name in diseases.by_id.items():
        ids[name].append(disease_id)
    known = [GivenLabel(name, diseases.labels.all_names(name)[1:], tuple(ids[name])) for name in diseases.labels.names]
    return settle([*known, *more], options, facts)


def nearest(name: str, labels: LabelSpace) -> str:
    """`; did you mean 'Kabuki syndrome 1'?`, whatever the case, or nothing."""
    forms = {normalise_name(form): form for label in labels.names for form in labels.all_names(label)}
    near = difflib.get_close_matches(normalise_name(name), forms, n=1, cutoff=0.75)
    return f"; did you mean '{forms[near[0]]}'?" if near else ""


def quoted(name: str, instead: str = "") -> str:
    """` 'Kabuki syndrome 1'`; a long name may be a clinical note that stands in the wrong column, and is not quoted."""
    return f" '{name}'" if len(name) <= _LONGEST_NAME else instead


def _alike(one: str, other: str) -> str:
    return (
        f"The diseases{quoted(one, _LONG)} and{quoted(other, _LONG)} differ in punctuation only, which mint does not "
        "compare; put the difference into words."
    )
