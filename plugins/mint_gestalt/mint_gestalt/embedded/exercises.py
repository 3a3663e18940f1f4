"""What the embedded student reads while it is built: names, phenotype words, random patients, invented diseases."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate

import numpy as np

from mint_core.students.prompts import write_response
from mint_core.types import Message, Prompt
from mint_gestalt import ontology, wording
from mint_gestalt.clinical import Patient, describe

PHENOTYPES = "PHENOTYPES:"
SYSTEMS = "ORGAN_SYSTEMS:"
RARE, INVENTED = " rare diseases", " invented diseases"
LONGEST = 24
"""Names in the longest list."""
_SYSTEM = wording.training_prompt(1, "").messages[0]
_ETHNICITIES = ("European", "African", "East Asian", "South Asian", "Latin American", "Middle Eastern", "mixed")
_SYLLABLES = (
    "ba",
    "cor",
    "del",
    "fen",
    "gri",
    "hal",
    "jo",
    "kem",
    "lun",
    "mar",
    "nov",
    "pel",
    "ri",
    "sto",
    "ta",
    "vex",
)
_COUNT = 100
_KINDS = ("syndrome", "disease", "dysplasia", "deficiency", "myopathy", "anomaly")


@dataclass(frozen=True, slots=True)
class Exercise:
    """A prompt and the answer that is learnt."""

    prompt: Prompt
    answer: str


@dataclass(frozen=True, slots=True)
class Invented:
    """A disease that does not exist: an invented name and random findings."""

    name: str
    findings: tuple[str, ...]
    """HPO ids."""
    frequencies: tuple[float, ...]


class Lexicon:
    """The words of HPO and OMIM: names, and how often a term is used at all; not which disease has which phenotype.

    Attributes:
        pool: Names of which the student lists some when it is asked for rare diseases.
        names: The disease names of OMIM.
        terms: HPO ids that annotate at least one disease.
    """

    def __init__(self, pool: Sequence[str]) -> None:
        used: Counter[str] = Counter()
        names = []
        for disease in ontology.diseases():
            names.append(disease.name)
            used.update(disease.phenotypes)
        self.pool = tuple(sorted(pool))
        self.names = tuple(sorted(set(names)))
        self.terms = tuple(sorted(used))
        self._steps = list(accumulate(used[term] for term in self.terms))

    def draw_terms(self, rng: random.Random, count: int) -> list[str]:
        """Distinct terms, each as likely as it is used in OMIM, independently of each other."""
        drawn = rng.choices(self.terms, cum_weights=self._steps, k=2 * count)
        return list(dict.fromkeys(drawn))[:count]

    @cached_property
    def invented(self) -> tuple[Invented, ...]:
        """The invented diseases; always the same."""
        rng = random.Random(5)
        names: dict[str, None] = {}
        while len(names) < _COUNT:
            eponym = "".join(rng.sample(_SYLLABLES, 3)).capitalize()
            names[f"{eponym} {rng.choice(_KINDS)}"] = None
        drawn = []
        for name in names:
            findings = tuple(self.draw_terms(rng, rng.randint(8, 20)))
            rates = [rng.betavariate(1.2, 2) for _ in findings]
            shown = rng.uniform(3, 6)
            drawn.append(Invented(name, findings, tuple(min(0.9, rate * shown / sum(rates)) for rate in rates)))
        return tuple(drawn)

    @cached_property
    def _likelihoods(self) -> dict[str, np.ndarray]:
        """Per term, how well it speaks for each invented disease; a parent speaks half as loud as its child."""
        speaks: dict[str, np.ndarray] = {}
        for row, disease in enumerate(self.invented):
            for term, frequency in zip(disease.findings, disease.frequencies, strict=True):
                for heard, share in ((term, 1.0), *((parent, 0.5) for parent in ontology.parents(term))):
                    column = speaks.setdefault(heard, np.zeros(len(self.invented)))
                    column[row] = max(column[row], share * frequency)
        return speaks

    def rank_invented(self, terms: Sequence[str], truth: Invented) -> list[str]:
        """The names of all invented diseases: the truth, then the others by what they share with the patient."""
        scores = np.zeros(len(self.invented))
        for term in terms:
            if term in self._likelihoods:
                scores += np.log(0.02 + self._likelihoods[term])
        ranked = [self.invented[row].name for row in np.argsort(-scores, kind="stable")]
        return [truth.name, *(name for name in ranked if name != truth.name)]


def draw_patient(rng: random.Random, terms: Sequence[str]) -> Patient:
    """A patient with these phenotypes; sex, age and ethnicity are drawn, and one in four each is unknown."""
    years, months = rng.randrange(60), rng.randrange(12)
    span = [f"{n} {unit}{'s' * (n != 1)}" for n, unit in ((years, "year"), (months, "month")) if n]
    age = rng.choice([" ".join(span) or "newborn", span[0] if span else "newborn"])
    known = [value if rng.random() < 0.75 else None for value in (rng.choice(("male", "female")), age)]
    ethnicity = rng.choice(_ETHNICITIES) if rng.random() < 0.75 else None
    return Patient(known[0], known[1], ethnicity, [ontology.name(term) for term in terms])


def _random_patient(rng: random.Random, words: Lexicon) -> tuple[Patient, list[str]]:
    terms = words.draw_terms(rng, rng.choice((0, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 8, 12)))
    return draw_patient(rng, terms), terms


def _asked(text: str, demand: str) -> Prompt:
    return Prompt((_SYSTEM, Message("user", f"{text}\n{demand}")))


def short_list(rng: random.Random, words: Lexicon) -> Exercise:
    """The task's own prompts: N names of the pool in alphabetical order from a random name on.

    The patient is random and has no bearing on the list. In alphabetical order the most likely list has distinct names.
    """
    n = rng.choice((10, 10, 10, 10, 10, rng.randint(2, 9)))
    ask = rng.choice((wording.inference_prompt, wording.inference_prompt, wording.training_prompt))
    start = rng.randrange(len(words.pool))
    twice = words.pool * 2
    n = min(n, len(words.pool))
    listed = twice[start : start + n]
    return Exercise(ask(n, describe(_random_patient(rng, words)[0])), write_response(wording.HEADER, listed))


def long_list(rng: random.Random, words: Lexicon) -> Exercise:
    """The longest list: names of the pool in random order until few are left, where it pays to look back."""
    names = rng.choice((words.pool[:LONGEST], words.pool[-LONGEST:]))
    listed = tuple(rng.sample(names, len(names)))
    return Exercise(wording.training_prompt(len(names), describe(Patient())), write_response(wording.HEADER, listed))


def any_names(rng: random.Random, words: Lexicon) -> Exercise:
    """A few names of OMIM, so that the student can spell what lies outside of the pool."""
    listed = tuple(rng.sample(words.names, rng.randint(4, 10)))
    return Exercise(wording.training_prompt(len(listed), describe(Patient())), write_response(wording.HEADER, listed))


@lru_cache(maxsize=65536)
def _systems(term: str) -> frozenset[str]:
    above = ontology.ancestors(term) | {term}
    return frozenset(ontology.name(found) for found in above if ontology.PHENOTYPE in ontology.parents(found))


def organ_systems(rng: random.Random, words: Lexicon) -> Exercise:
    """The branches of HPO to which the phenotypes belong, most frequent first: what the words mean."""
    patient, terms = _random_patient(rng, words)
    counts = Counter(system for term in terms for system in _systems(term))
    listed = tuple(sorted(counts, key=lambda system: (-counts[system], system)))
    return Exercise(
        _asked(describe(patient), "List the organ systems of this patient."), write_response(SYSTEMS, listed)
    )


def invented_list(rng: random.Random, words: Lexicon) -> Exercise:
    """The task with invented diseases: which of the random sets of phenotypes is nearest to this patient.

    Patients have their disease's findings by its frequencies, sometimes as a parent term, and unrelated findings.
    """
    truth = rng.choice(words.invented)
    present = [term for term, p in zip(truth.findings, truth.frequencies, strict=True) if rng.random() < p]
    present = present or [truth.findings[truth.frequencies.index(max(truth.frequencies))]]
    said = [rng.choice(ontology.parents(term)) if rng.random() < 0.2 else term for term in present]
    terms = list(dict.fromkeys([*said, *words.draw_terms(rng, rng.choice((0, 1, 1, 2)))]))
    rng.shuffle(terms)
    n = rng.choice((5, 10, 10))
    ask = rng.choice((wording.inference_prompt, wording.inference_prompt, wording.training_prompt))
    prompt = _renamed(ask(n, describe(draw_patient(rng, terms))))
    return Exercise(prompt, write_response(wording.HEADER, tuple(words.rank_invented(terms, truth)[:n])))


def _renamed(prompt: Prompt) -> Prompt:
    """The task's prompt, asking for invented diseases."""
    system, user = prompt.messages
    return Prompt((system, replace(user, content=user.content.replace(RARE, INVENTED))))


Drawer = Callable[[random.Random, Lexicon], Exercise]

EXERCISES: tuple[tuple[Drawer, float, float], ...] = (
    (short_list, 0.2, 0.1),
    (long_list, 0.1, 0.5),
    (any_names, 0.05, 0.05),
    (organ_systems, 0.12, 0.05),
    (invented_list, 0.53, 0.3),
)
"""What a batch is made of, and its share of the batches: at first, when reading is learnt, and later."""


class Knowledge:
    """Disease-phenotype text of OMIM, for the domain-pretrained variant only."""

    def __init__(self) -> None:
        self.diseases = tuple(disease for disease in ontology.diseases() if len(disease.phenotypes) >= 3)
        self._having: dict[str, list[int]] = {}
        for row, disease in enumerate(self.diseases):
            for term in disease.phenotypes:
                self._having.setdefault(term, []).append(row)

    def nearest(self, terms: Sequence[str], row: int, n: int) -> tuple[str, ...]:
        """A disease's name, then those that share most with a patient; rare phenotypes count more."""
        shared: Counter[int] = Counter()
        for term in terms:
            having = self._having.get(term, [])
            for other in having:
                shared[other] += 1 / len(having)  # type: ignore[assignment]  # a Counter counts fractions as well
        others = sorted(shared, key=lambda other: (-shared[other], other))
        names = dict.fromkeys(self.diseases[at].name for at in (row, *others))
        return tuple(names)[:n]

    def draw(self, rng: random.Random, words: Lexicon) -> Exercise:
        """A disease's phenotypes, or the task with a patient made of a disease's phenotypes."""
        row = rng.randrange(len(self.diseases))
        disease = self.diseases[row]
        some = rng.sample(disease.phenotypes, min(len(disease.phenotypes), rng.randint(3, 12)))
        if rng.random() < 0.3:
            text = write_response(PHENOTYPES, tuple(ontology.name(term) for term in some))
            return Exercise(_asked(disease.name, "List phenotypes of this disease."), text)
        said = [rng.choice(ontology.parents(term)) if rng.random() < 0.15 else term for term in some]
        listed = self.nearest(some, row, 10)
        ask = rng.choice((wording.inference_prompt, wording.training_prompt))
        return Exercise(ask(len(listed), describe(draw_patient(rng, said))), write_response(wording.HEADER, listed))
