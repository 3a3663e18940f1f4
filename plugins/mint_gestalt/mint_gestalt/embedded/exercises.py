"""What the embedded student reads while it is built: names, phenotype words, random patients, meaningless rules."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from mint_core.plugin import Message, Prompt, write_response
from mint_gestalt import ontology, wording
from mint_gestalt.clinical import Patient, describe

PHENOTYPES = "PHENOTYPES:"
LONGEST = 24
"""Names in the longest list."""
FEATURES = 96
"""Length of the vector that stands for what phenotypes mean."""
_SHARPNESS = 3.0
"""Spread of the votes, in nats: how sure the rule is of its order."""
_SYSTEM = wording.PROMPT.short(1, "").messages[0]
_ETHNICITIES = ("European", "African", "East Asian", "South Asian", "Latin American", "Middle Eastern", "mixed")


@dataclass(frozen=True, slots=True)
class Exercise:
    """A prompt and the answer that is learnt; for lists of the pool, also what the answer follows from."""

    prompt: Prompt
    answer: str
    meaning: np.ndarray | None = None
    """What the phenotypes of the prompt mean, (FEATURES,)."""
    votes: np.ndarray | None = None
    """How much they speak for each name of the pool, (n_pool,); nats."""


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
    def _directions(self) -> dict[str, np.ndarray]:
        """A direction per term, (FEATURES,), of length one.

        Terms that share ancestors in HPO point the same way; the nearer an ancestor is to the root, the more it counts.
        """
        depths = _depths({node for term in self.terms for node in (*ontology.ancestors(term), term)})
        lot = np.random.default_rng(5)
        own = {node: lot.normal(size=FEATURES) / depth for node, depth in sorted(depths.items())}
        sums = {t: np.sum([own[n] for n in (*sorted(ontology.ancestors(t)), t) if n in own], 0) for t in self.terms}
        centre = np.mean(list(sums.values()), axis=0)
        return {term: (total - centre) / np.linalg.norm(total - centre) for term, total in sums.items()}

    @cached_property
    def _rule(self) -> np.ndarray:
        """How much each feature speaks for each name of the pool: drawn by lot; (FEATURES, n_pool)."""
        return np.random.default_rng(6).normal(size=(FEATURES, len(self.pool)))

    def meaning(self, terms: Sequence[str]) -> np.ndarray:
        """What phenotypes mean together, (FEATURES,), each feature with a variance of about one.

        Args:
            terms: HPO ids out of `terms`.
        """
        total: np.ndarray = sum((self._directions[term] for term in terms), np.zeros(FEATURES))
        meaning: np.ndarray = total * (FEATURES / max(1, len(terms))) ** 0.5
        return meaning

    def votes(self, meaning: np.ndarray) -> np.ndarray:
        """How much a meaning speaks for each name of the pool, by a rule that has none; (n_pool,), nats."""
        votes: np.ndarray = meaning @ self._rule * (_SHARPNESS / FEATURES**0.5)
        return votes


def _depths(nodes: set[str]) -> dict[str, int]:
    """How many steps each finding stands below the root of all findings."""
    depths: dict[str, int] = {}
    level, depth = {ontology.PHENOTYPE}, 0
    while level:
        depths.update(dict.fromkeys(level, depth))
        depth += 1
        level = {node for node in nodes - depths.keys() if level.intersection(ontology.parents(node))}
    del depths[ontology.PHENOTYPE]
    return depths


def draw_patient(rng: random.Random, terms: Sequence[str]) -> Patient:
    """A patient with these phenotypes; sex, age and ethnicity are drawn, and one in four each is unknown."""
    years, months = rng.randrange(60), rng.randrange(12)
    span = [f"{n} {unit}{'s' * (n != 1)}" for n, unit in ((years, "year"), (months, "month")) if n]
    age = rng.choice([" ".join(span) or "newborn", span[0] if span else "newborn"])
    known = [value if rng.random() < 0.75 else None for value in (rng.choice(("male", "female")), age)]
    ethnicity = rng.choice(_ETHNICITIES) if rng.random() < 0.75 else None
    return Patient(known[0], known[1], ethnicity, [ontology.name(term) for term in terms])


def _list(rng: random.Random, words: Lexicon, terms: Sequence[str], prompt: Prompt, n: int) -> Exercise:
    """N names, drawn one after the other with the votes as log-odds, none of them twice."""
    meaning = words.meaning(terms)
    votes = words.votes(meaning)
    luck = [-math.log(-math.log(1 - rng.random())) for _ in words.pool]
    drawn = tuple(words.pool[row] for row in np.argsort(-(votes + luck), kind="stable")[:n])
    return Exercise(prompt, write_response(wording.HEADER, drawn), meaning, votes)


def first_name(rng: random.Random, words: Lexicon) -> Exercise:
    """One name for few phenotypes: rows so short that reading is learnt from many."""
    terms = words.draw_terms(rng, rng.randint(1, 3))
    text = describe(Patient(phenotypes=[ontology.name(term) for term in terms]))
    return _list(rng, words, terms, wording.PROMPT.short(1, text), 1)


def whole_list(rng: random.Random, words: Lexicon) -> Exercise:
    """The task's own prompts; the list is fluent, and says nothing of the patient."""
    terms = words.draw_terms(rng, rng.choice((0, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 8, 12)))
    n = min(rng.choice((10, 10, 10, rng.randint(1, LONGEST))), len(words.pool))
    ask = rng.choice((wording.PROMPT.full, wording.PROMPT.full, wording.PROMPT.short))
    return _list(rng, words, terms, ask(n, describe(draw_patient(rng, terms))), n)


def any_names(rng: random.Random, words: Lexicon) -> Exercise:
    """A few names of OMIM, so that the student can spell what lies outside of the pool."""
    listed = tuple(rng.sample(words.names, rng.randint(4, 10)))
    return Exercise(wording.PROMPT.short(len(listed), describe(Patient())), write_response(wording.HEADER, listed))


Drawer = Callable[[random.Random, Lexicon], Exercise]


class Kind(NamedTuple):
    """A kind of exercise, its share of the batches, and how many times larger a batch of it is."""

    draw: Drawer
    at_first: float
    later: float
    times: int = 1


EXERCISES = (Kind(first_name, 1.0, 0.1, times=3), Kind(whole_list, 0.0, 0.87), Kind(any_names, 0.0, 0.03))


def _asked(text: str, demand: str) -> Prompt:
    return Prompt((_SYSTEM, Message("user", f"{text}\n{demand}")))


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
        ask = rng.choice((wording.PROMPT.full, wording.PROMPT.short))
        return Exercise(ask(len(listed), describe(draw_patient(rng, said))), write_response(wording.HEADER, listed))
