"""The text that the teacher reads: phrases as token ids, as many as the model has positions for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mint_core.plugin import Sample

_HEADING = "phenotypes"
_PHRASE_END = re.compile(r"(?<=[,.;:])\s+|\n+")


@dataclass(frozen=True, slots=True)
class Reading:
    """One text, cut into phrases."""

    phrases: tuple[tuple[int, ...], ...]
    """Token ids of the phrases that fit, in order, without special tokens."""
    left_out: int
    """Phrases that did not fit; a first phrase that was too long alone counts too."""

    def ids(self, start: int, end: int) -> list[int]:
        """Token ids of the whole text between the two special tokens."""
        return [start, *(token for phrase in self.phrases for token in phrase), end]

    def thinned(self, share: float, rng: np.random.Generator) -> Reading:
        """The phrases in a new order, each left out with probability `share`, at least one kept."""
        order = rng.permutation(len(self.phrases)).tolist()
        kept = [place for place in order if rng.random() >= share] or order[:1]
        return Reading(tuple(self.phrases[place] for place in kept), self.left_out)


def render(sample: Sample, template: str, fields: Sequence[str], *, plain: bool) -> list[str]:
    """The phrases of a patient.

    Args:
        sample: Its text and privileged fields count.
        template: Holds `{text}` and `{privileged}`.
        fields: Privileged fields that are read.
        plain: Without punctuation and headings, as GestaltMML reads it: `Sex male age 3 years Seizure`.
    """
    told = [f"{name.capitalize()} {sample.privileged[name]}." for name in fields if sample.privileged.get(name)]
    text = template.replace("{privileged}", " ".join(told)).replace("{text}", sample.text or "")
    phrases = [phrase.strip() for phrase in _PHRASE_END.split(text)]
    if plain:
        phrases = [phrase.strip(" ,.;:") for phrase in phrases]
        phrases = [phrase for phrase in phrases if phrase.lower() != _HEADING]
    return [phrase for phrase in phrases if phrase]


def read(tokenizer: Any, texts: Sequence[Sequence[str]], positions: int) -> list[Reading]:
    """Encodes phrases and keeps, from the front, as many as fit.

    Args:
        tokenizer: A fast transformers tokenizer.
        texts: Phrases per patient.
        positions: Tokens that a text may have, two special tokens included.
    """
    known = sorted({phrase for phrases in texts for phrase in phrases})
    encoded = tokenizer(known, add_special_tokens=False, verbose=False)["input_ids"] if known else []
    ids = dict(zip(known, map(tuple, encoded), strict=True))
    return [_fit([ids[phrase] for phrase in phrases], positions - 2) for phrases in texts]


def _fit(phrases: Sequence[tuple[int, ...]], room: int) -> Reading:
    kept: list[tuple[int, ...]] = []
    for phrase in phrases:
        if sum(map(len, kept)) + len(phrase) > room:
            break
        kept.append(phrase)
    left_out = len(phrases) - len(kept)
    if phrases and not kept:
        kept = [phrases[0][:room]]
    return Reading(tuple(kept), left_out)
