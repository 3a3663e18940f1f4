"""Source `simulated`: patients drawn from the annotations of OMIM, their faces drawn when they are opened.

What a face can tell (`mint_gestalt.faces.visible`) goes into the face and nowhere else; every other phenotype goes
into the text and nowhere else. The diseases come in circles that resemble each other in the text and differ in the
face, so that a teacher that sees both knows more than a student that reads the text.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mint_core.plugin import (
    SPLITS,
    ConfigError,
    ImageRef,
    LabelSpace,
    Sample,
    Split,
    TaskData,
    check_samples,
    normalise_name,
)
from mint_gestalt import faces, ontology
from mint_gestalt.clinical import Patient, describe
from mint_gestalt.ontology import Disease
from mint_gestalt.sources.cases import subgroups_of
from mint_gestalt.sources.options import RareDiseaseOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

_OWN = ("diseases", "train_per_label", "val_per_label", "test_per_label", "faces")
READ = frozenset({"source", "data", "n", "train_prompt", "sample_seed", "labelled", *_OWN})
"""The options that this source reads."""
CIRCLE = 5
"""Diseases per circle of look-alikes in the text."""
ETHNICITIES = ("European", "African", "East Asian", "South Asian", "Latin American", "Middle Eastern")
MOST = 300
"""Diseases that a cohort can hold; with more, OMIM runs out of circles."""
_MIN_TEXT, _MAX_TEXT, _MIN_FACE = 8, 45, 5
_NEAREST = 60
_FACE_DISTANCE = 1.6
_NAME_RATIO = 0.75
"""Names closer than this could be taken for each other by the metrics, which compare at 0.8."""
_SHOWN_TEXT = 3.2
"""Phenotypes of the disease that a text holds on average."""
_FOREIGN_TEXT, _FOREIGN_FACE = 1.4, 0.5
"""Phenotypes per patient that have nothing to do with the disease, on average."""
_IMPRECISE = 0.3
"""Share of the phenotypes for which the text names a parent term."""
_SIBLINGS = 0.3
"""Share of the pairs of neighbouring patients who are brothers or sisters."""


class Profile(NamedTuple):
    """A disease of the cohort: its terms, and how often a patient shows them."""

    disease: Disease
    face: tuple[str, ...]
    face_rates: tuple[float, ...]
    text: tuple[str, ...]
    text_rates: tuple[float, ...]


class Family(NamedTuple):
    """What brothers and sisters share."""

    name: str
    identity: faces.Identity
    ethnicity: str


@dataclass(frozen=True, slots=True)
class DrawnFace(ImageRef):
    """A face that is drawn anew, and always the same, whenever it is opened."""

    phenotypes: tuple[str, ...]
    identity: faces.Identity
    draw: tuple[int, ...]
    """Seed of expression, pose and light."""

    @property
    def key(self) -> str:
        """A hash of the parameters and of the version of the drawing."""
        name = f"{faces.DRAWING} {self.phenotypes} {self.identity} {self.draw}"
        return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()

    def open(self) -> Image:
        """Draws the face: an RGB image of `mint_gestalt.faces.SIZE` pixels a side."""
        return _draw(self).copy()


@lru_cache(maxsize=4096)  # 110 MB at most; a face is read in every epoch
def _draw(face: DrawnFace) -> Image:
    rng = np.random.default_rng(face.draw)
    return faces.draw_face(rng.normal(1, 0.12) * faces.geometry(face.phenotypes), face.identity, rng)


def load(options: RareDiseaseOptions) -> TaskData:
    """Draws the cohort; no face is drawn yet.

    Args:
        options: Those of READ count.

    Raises:
        ConfigError: More than MOST diseases are asked for, or something that only other sources read.
    """
    _refuse_others(options)
    seed = options.sample_seed
    profiles = [_profile(disease, seed) for disease in choose_diseases(options.diseases, seed)]
    foreign = tuple(sorted({term for profile in profiles for term in profile.text}))
    labels = LabelSpace(tuple(profile.disease.name for profile in profiles))
    sizes: dict[Split, int] = {
        "train": options.train_per_label, "val": options.val_per_label, "test": options.test_per_label
    }  # fmt: skip
    samples = [
        sample
        for split, count in sizes.items()
        for profile in profiles
        for sample in islice(_patients(profile, split, seed, foreign, options.faces), count)
    ]
    if options.labelled is not None:
        samples = _take_labels(samples, options.labelled)
    check_samples(samples, labels)
    return TaskData(
        samples,
        labels,
        f"simulated patients of {len(labels)} diseases drawn from HPO/OMIM {ontology.version()}, "
        f"{'with drawn faces' if options.faces else 'without faces'}, seed {seed}: no real patient",
        simulated=True,
        subgroups=("sex", "age", "ethnicity"),
    )


def _refuse_others(options: RareDiseaseOptions) -> None:
    """An option that is silently not read would stand in the record of a run that it did not touch."""
    if options.external is not None:
        return  # its reader may read them
    for name, field in RareDiseaseOptions.model_fields.items():
        if name not in READ and getattr(options, name) != field.get_default(call_default_factory=True):
            raise ConfigError(f"The source 'simulated' does not read task.{name}; take it out, or name another source.")


def _take_labels(samples: Sequence[Sample], labelled: int) -> list[Sample]:
    """Takes the label of all but `labelled` training patients, evenly over the diseases."""
    numbers: Counter[str | None] = Counter()
    turns = []
    for at, sample in enumerate(samples):
        if sample.split == "train":
            turns.append((numbers[sample.label], at))
            numbers[sample.label] += 1
    if labelled > len(turns):
        raise ConfigError(f"task.labelled = {labelled} is more than the {len(turns)} training patients; lower it.")
    taken = {at for _, at in sorted(turns)[labelled:]}
    return [replace(sample, label=None) if at in taken else sample for at, sample in enumerate(samples)]


def split_terms(disease: Disease) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A disease's terms that can be drawn, and those that a text may name.

    What a face shows but the drawing does not (teeth, palate) is in neither.
    """
    face = tuple(term for term in disease.phenotypes if faces.effect(term))
    return face, tuple(term for term in disease.phenotypes if not faces.visible(term))


@lru_cache(maxsize=1)
def _candidates() -> tuple[Disease, ...]:
    """The diseases of OMIM with enough of both kinds of terms, and a name that a person would write."""
    found: dict[str, Disease] = {}
    for disease in ontology.diseases():
        face, text = split_terms(disease)
        plain = len(disease.name) <= 60 and not disease.name.isupper() and ";" not in disease.name
        if plain and len(face) >= _MIN_FACE and _MIN_TEXT <= len(text) <= _MAX_TEXT:
            found.setdefault(normalise_name(disease.name), disease)
    return tuple(found.values())


@lru_cache(maxsize=1)
def _resemblance() -> NDArray[np.float32]:
    """Cosine between the texts of all pairs of candidates, terms and their ancestors weighted by rarity; (n, n)."""
    closures = []
    for disease in _candidates():
        terms = split_terms(disease)[1]
        closures.append(sorted({*terms, *(above for term in terms for above in ontology.ancestors(term))}))
    counts = Counter(term for closure in closures for term in closure)
    column = {term: position for position, term in enumerate(sorted(counts))}
    vectors = np.zeros((len(closures), len(column)), np.float32)
    for row, closure in enumerate(closures):
        for term in closure:
            vectors[row, column[term]] = np.log(len(closures) / counts[term])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T


@lru_cache(maxsize=8)
def choose_diseases(count: int, seed: int) -> tuple[Disease, ...]:
    """Chooses diseases in circles of CIRCLE: alike in the text, apart in the face, no two names alike.

    Args:
        count: How many.
        seed: Another seed begins with other diseases.

    Returns:
        The diseases, sorted by id.

    Raises:
        ConfigError: More than MOST are asked for.
    """
    if count > MOST:
        raise ConfigError(f"The simulated cohort holds at most {MOST} diseases, not {count}; lower task.diseases.")
    candidates = _candidates()
    alike = _resemblance()
    shapes = [faces.geometry(split_terms(disease)[0]) for disease in candidates]
    chosen: list[int] = []
    for anchor in np.random.default_rng([seed, 1]).permutation(len(candidates)).tolist():
        if len(chosen) >= count:
            return tuple(sorted((candidates[i] for i in chosen[:count]), key=lambda disease: disease.id))
        circle: list[int] = []
        for near in [anchor, *np.argsort(-alike[anchor], kind="stable")[:_NEAREST].tolist()]:
            taken = near in chosen or any(np.linalg.norm(shapes[near] - shapes[i]) < _FACE_DISTANCE for i in circle)
            if not taken and _new_name(candidates[near], [candidates[other] for other in [*chosen, *circle]]):
                circle.append(near)
            if len(circle) == CIRCLE:
                chosen += circle
                break
    raise AssertionError("MOST diseases are always found")


def _new_name(disease: Disease, others: Sequence[Disease]) -> bool:
    name = disease.name.lower()
    return all(SequenceMatcher(None, name, other.name.lower(), False).ratio() < _NAME_RATIO for other in others)


def _number(disease: Disease) -> int:
    return int(disease.id.removeprefix("OMIM:"))


def _profile(disease: Disease, seed: int) -> Profile:
    """Draws how often the disease's terms are present: OMIM does not say."""
    rng = np.random.default_rng([seed, 2, _number(disease)])
    face, text = split_terms(disease)
    rates = rng.beta(1.2, 2.0, len(text))
    rates = np.clip(rates * _SHOWN_TEXT / rates.sum(), 0, 0.85)
    return Profile(disease, face, tuple(rng.uniform(0.6, 0.95, len(face))), text, tuple(rates))


def _patients(profile: Profile, split: Split, seed: int, foreign: Sequence[str], with_faces: bool) -> Iterator[Sample]:
    """The patients of one disease in one split, without end; more of them never change the first."""
    place = (seed, 3, SPLITS.index(split), _number(profile.disease))
    number = 0
    while True:
        of_pair = np.random.default_rng([*place, number // 2])
        siblings = of_pair.random() < _SIBLINGS
        families = [_family(f"{split}-{_number(profile.disease)}-{number + k:03d}", of_pair) for k in (0, 1)]
        for member in (0, 1):
            rng = np.random.default_rng([*place, number // 2, member])
            family = families[0 if siblings else member]
            face = _present(profile.face, profile.face_rates, rng)
            face += tuple(str(term) for term in rng.choice(faces.drawn_terms(), rng.poisson(_FOREIGN_FACE)))
            image = DrawnFace(face, family.identity, (*place, number // 2, member, 1)) if with_faces else None
            known = _facts(profile, family, foreign, rng)
            yield Sample(
                id=f"{split}-{_number(profile.disease)}-p{number:03d}",
                split=split,
                label=profile.disease.name,
                group=f"family-{family.name}",
                image=image,
                text=describe(known),
                subgroups=subgroups_of(sex=known.sex, age=known.age, ethnicity=known.ethnicity),
            )
            number += 1


def _family(name: str, rng: np.random.Generator) -> Family:
    return Family(name, faces.draw_identity(rng), str(rng.choice(ETHNICITIES)))


def _present(terms: Sequence[str], rates: Sequence[float], rng: np.random.Generator) -> tuple[str, ...]:
    """The terms that this patient shows."""
    return tuple(term for term, draw, rate in zip(terms, rng.random(len(terms)), rates, strict=True) if draw < rate)


def _facts(profile: Profile, family: Family, foreign: Sequence[str], rng: np.random.Generator) -> Patient:
    """What the clinician wrote down."""
    shown = list(_present(profile.text, profile.text_rates, rng))
    shown = shown or [profile.text[int(np.argmax(profile.text_rates))]]
    shown += [str(term) for term in rng.choice(foreign, rng.poisson(_FOREIGN_TEXT))]
    written = [_imprecise(term, rng) if rng.random() < _IMPRECISE else term for term in shown]
    names = dict.fromkeys(ontology.name(term) for term in rng.permutation(written).tolist())
    sex = ("male", "female")[int(rng.integers(2))]
    return Patient(sex, _age(rng), family.ethnicity, tuple(names))


def _imprecise(term: str, rng: np.random.Generator) -> str:
    """A parent term where there is one that a text may name, else the term."""
    above = [
        parent
        for parent in ontology.parents(term)
        if not faces.visible(parent) and ontology.PHENOTYPE in ontology.ancestors(parent)
    ]
    return str(rng.choice(above)) if above else term


def _age(rng: np.random.Generator) -> str:
    """An age in words: half of the patients are younger than four."""
    months = int(min(rng.exponential(70), 60 * 12))
    if months == 0:
        return "newborn"
    years, rest = divmod(months, 12)
    parts = [f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((years, "year"), (rest, "month")) if n]
    return " ".join(parts)
