"""The label space: which diseases there are, what they are called, and which names are one disease."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mint_core.plugin import (
    DataError,
    LabelSpace,
    check_columns,
    identity_of,
    normalise_name,
    parse_json,
    present,
    read_utf8,
    split_rows,
    warn_of_words,
)
from mint_gestalt import ontology
from mint_gestalt.sources.cases import Case, names_of
from mint_gestalt.sources.options import RareDiseaseOptions

DROPPED_ALIASES = "aliases dropped, two diseases share them"
MERGED = "diseases merged with one of the same name"
_LONGEST_NAME = 150
_LONG = " (a long name)"


@dataclass(frozen=True, slots=True)
class Disease:
    """One disease as a file, an ontology or the patients name it."""

    name: str
    aliases: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


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
        given = [Disease(disease.name, (), (disease.id,)) for disease in ontology.diseases()]
    elif isinstance(options.labels, Path):
        given = read_names(options.labels, options.missing)
    else:
        given = [_named(label) for label in options.labels if names_of(label)]
    return _with_ids_of(cases, settle(given, options, facts))


def found(cases: Iterable[Case]) -> list[Disease]:
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
        diseases.append(Disease(name, (*others, *sorted(aliases[key])), tuple(ids[key])))
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


def settle(diseases: Sequence[Disease], options: RareDiseaseOptions, facts: Counter[str]) -> Diseases:
    """Makes names unambiguous: equal names are one disease; an alias of two diseases is refused, or dropped from both.

    Args:
        diseases: In the order of the label space.
        options: `shared_aliases` counts.
        facts: Gets the counts.

    Raises:
        DataError: Two labels share a name, and `shared_aliases` is `refuse`; or they differ in signs alone.
    """
    merged: dict[str, Disease] = {}
    for disease in diseases:
        form = normalise_name(disease.name)
        same = merged.get(form)
        if same is None:
            merged[form] = disease
            continue
        if identity_of(same.name) != identity_of(disease.name):
            raise DataError(_alike(same.name, disease.name))
        facts[MERGED] += 1
        merged[form] = Disease(
            same.name,
            (*same.aliases, disease.name, *disease.aliases),
            tuple(dict.fromkeys((*same.ids, *disease.ids))),
        )
    kept = _without_shared_aliases(merged, options, facts)
    labels = LabelSpace(tuple(disease.name for disease in merged.values()), tuple(kept))
    return Diseases(labels, _ids(merged.values()))


def _without_shared_aliases(
    diseases: Mapping[str, Disease], options: RareDiseaseOptions, facts: Counter[str]
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


def _ids(diseases: Iterable[Disease]) -> dict[str, str]:
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


def extend(diseases: Diseases, more: Sequence[Disease], options: RareDiseaseOptions, facts: Counter[str]) -> Diseases:
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
    known = [Disease(name, diseases.labels.all_names(name)[1:], tuple(ids[name])) for name in diseases.labels.names]
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


# --- files of names


def read_names(path: Path, missing: Collection[str] = ()) -> list[Disease]:
    """Reads a file of names in the order of the label space; `;` parts a name from its aliases.

    `.json` holds an index (`{"0": "NAME; ALIAS"}`, as GestaltMML publishes it) or a list. `.csv` has a column `name`
    and perhaps `aliases` and `id`. Any other file holds one label per line.

    Args:
        path: UTF-8.
        missing: Words that mean that a cell is empty.

    Raises:
        DataError: It cannot be read, or holds no names.
    """
    try:
        text = read_utf8(path)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise DataError(
            f"The label file {path} cannot be read as UTF-8 text ({why}); check the path after task.labels."
        ) from error
    readers = {".json": _from_json, ".csv": _from_csv}
    reader = readers.get(path.suffix.lower())
    diseases = reader(path, text, missing) if reader else [_named(line) for line in text.split("\n") if names_of(line)]
    if not diseases:
        raise DataError(f"The label file {path} holds no names; write one label per line.")
    return diseases


def _named(label: str, ids: str = "") -> Disease:
    name, *aliases = names_of(label)
    return Disease(name, tuple(aliases), names_of(ids))


def _from_json(path: Path, text: str, missing: Collection[str]) -> list[Disease]:
    try:
        content = parse_json(text)
    except ValueError as error:
        raise DataError(f"The label file {path} is not valid JSON; fetch it again.") from error
    if isinstance(content, dict):
        if sorted(content) != sorted(map(str, range(len(content)))):
            raise DataError(f"The label file {path} must count its labels from 0 without a gap; mend the keys.")
        content = [content[str(index)] for index in range(len(content))]
    if not isinstance(content, list) or not all(isinstance(label, str) and names_of(label) for label in content):
        raise DataError(f"The label file {path} must map numbers to names, or list names; an entry is no name.")
    return [_named(label) for label in content]


def _from_csv(path: Path, text: str, missing: Collection[str]) -> list[Disease]:
    found = split_rows(path, text, "The label file", ",")
    check_columns(f"The label file {path}", found.columns, {("name",): ""}, "the others are 'aliases' and 'id'")
    cells = (dict(zip(found.columns, row, strict=False)) for _, row in found.rows)
    read = ({column: present(row.get(column), missing) for column in ("name", "aliases", "id")} for row in cells)
    rows = [row for row in read if names_of(row["name"])]
    warn_of_words(
        path.name, {column: [row[column] for row in rows] for column in ("name", "aliases", "id")}, "--set task.missing"
    )
    return [_named(f"{row['name']};{row['aliases']}", row["id"]) for row in rows]
