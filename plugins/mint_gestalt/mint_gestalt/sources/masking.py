"""Takes the names of the disease out of a text, in every spelling and in parts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from mint_core.plugin import NAME_HEADS, Masked, fold, masked, squashed
from mint_gestalt import ontology

_NUMBER = re.compile(r",?(?:\s+(?i:type|subtype|complementation group))?,?\s+(?:\d+[A-Za-z\d]*|[IVX]+[A-Za-z]?|[A-Z])$")
"""What tells the diseases of a series apart: `1`, `, type 2A`, `IV`."""
_KIND = re.compile(r",?(?:\s+[\w'-]+){1,2}\s+(?:type|subtype|form|variant)$", re.IGNORECASE)
"""`, vascular type`."""
_CAUSE = re.compile(r",?\s+(?:with|without|due to|caused by|associated with|secondary to)\s.*$", re.IGNORECASE)
_QUALIFIER = re.compile(
    r"^(?:autosomal|dominant|recessive|[xy]-linked|digenic|familial|hereditary|sporadic|congenital|neonatal|infantile|"
    r"childhood|juvenile|adult|(?:early|late|infantile|childhood|juvenile|adult)[- ]onset|severe|mild|classical|"
    r"classic|atypical|typical|isolated|syndromic|non-?syndromic|primary|secondary|acquired|partial|complete|hypermobile|"
    r"vascular|hypermobility|acute|chronic|progressive),?\s+",
    re.IGNORECASE,
)
"""Words in front of a disease that make a subtype of it."""
_FINDINGS = frozenset(
    {
        "deafness", "epilepsy", "mental retardation", "hearing loss", "intellectual disability", "blindness",
        "intellectual developmental disorder", "seizures", "dwarfism", "short stature", "encephalopathy",
        "developmental delay", "neuropathy", "cancer", "retinal dystrophy", "skeletal dysplasia",
    }
)  # fmt: skip
"""What a doctor finds, though HPO calls it something else."""
_ANY_CASE_FROM = 3
"""Shorter names stand for too much else to be looked for in any case."""
_SMALL = frozenset({"a", "an", "and", "by", "due", "for", "in", "of", "on", "or", "the", "to", "with", "without"})
"""Words that initials leave out."""
_EPONYM_FROM = 4
"""Letters of an eponym."""
_PARTICLE = 3
"""Letters of `de`, `von`, `der` in an eponym."""
_PARENT_FROM = 8
"""Letters of a parent name that is looked for."""
_ALIKE_FROM = 8
"""Letters of a name that is looked for under edit distance."""
_OWN = 4
"""And one in so many of the letters that belong to this name alone."""
_ALIKE = 5
"""One edit in so many letters is still a name in another spelling."""


def mask_disease(text: str, names: Iterable[str]) -> Masked:
    """The text with `[disease]` for every name of three or more letters, in every spelling, and for parent names.

    So are an eponym alone (`Marfan` for `Marfan syndrome`) and initials (`HHT`), in capitals as they are written.

    Args:
        text: What somebody wrote.
        names: All names of the patient's disease.
    """
    every = {form for name in names for form in (name, *parent_names(name)) if len(form) >= _ANY_CASE_FROM}
    text, count = masked(text, every, "[disease]", in_words=True)
    for short in sorted(
        {short for form in every for short in short_forms(form)}, key=lambda short: (-len(short), short)
    ):
        text, more = re.subn(rf"(?<![^\W_]){short}(?:['\u2019]?s)?(?![^\W_])", "[disease]", text)
        count += more
    return Masked(text, count)


@lru_cache(maxsize=65536)
def short_forms(name: str) -> tuple[str, ...]:
    """Patterns of an eponym without its `syndrome`, and of the initials of three or more words.

    Words that HPO uses for findings are no eponyms, and what is written in small letters is none.
    """
    found = []
    words = re.findall(r"[^\W\d_]+", name)
    own = words[:-1] if words and words[-1].lower() in NAME_HEADS else []
    if sum(map(len, own)) >= _EPONYM_FROM and not any(ontology.is_word(word) for word in own if len(word) > _PARTICLE):
        spelt = (
            f"(?:{re.escape(word.capitalize())}|{re.escape(word.upper())})" for word in own if len(word) > _PARTICLE
        )
        joint = r"[\W_]+(?:[^\W\d_]{1,3}[\W_]+)?"
        found.append(joint.join(spelt))
    initials = [word[0].upper() for word in words if word.lower() not in _SMALL]
    if len(initials) >= _ANY_CASE_FROM and not re.search(r"\d", name):
        found.append("".join(initials))
    return tuple(form for form in found if form)


@lru_cache(maxsize=65536)
def parent_names(name: str) -> tuple[str, ...]:
    """Names of the disease of which a name is a subtype.

    `Kabuki syndrome` for `Kabuki syndrome 1`, `Ehlers-Danlos syndrome` for `Ehlers-Danlos syndrome, vascular type`. A
    parent that is a finding by itself (microcephaly) is none, unless a number alone makes the subtype.
    """
    series = _NUMBER.sub("", name)
    found = {series: None}
    open_ones = [name, series]
    while open_ones:
        one = open_ones.pop()
        shorter = (_NUMBER.sub("", one), _KIND.sub("", one), _CAUSE.sub("", one), _QUALIFIER.sub("", one))
        for parent in (form.strip(" ,") for form in (*shorter, one.partition(",")[0])):
            if parent != one and parent not in found and tells(parent):
                found[parent] = None
                open_ones.append(parent)
    return tuple(form for form in found if form != name)


class Contained:
    """Finds known names inside other names: `Marfan syndrome` in `Neonatal Marfan syndrome`.

    Args:
        names: All names of all diseases.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._known = {_words(name): name for name in names if tells(name)}
        self._longest = max(map(len, self._known), default=0)

    def inside(self, name: str) -> list[str]:
        """The known names of which a longer name holds all words, one behind the other."""
        words = _words(name)
        ends = ((start, end) for start in range(len(words)) for end in range(start + 1, len(words) + 1))
        runs = (words[start:end] for start, end in ends if end - start < len(words) and end - start <= self._longest)
        return [self._known[run] for run in runs if run in self._known]


def _words(name: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\W_]+", fold(name).text))


def tells(parent: str) -> bool:
    """Whether a part of a disease's name tells the disease, and is no finding of its own."""
    if len(squashed(parent)) < _PARENT_FROM or parent.lower() in _FINDINGS:
        return False
    return ontology.by_name(parent) is None and ontology.by_name(parent.removesuffix("s")) is None


def resembles(text: str, names: Iterable[str]) -> bool:
    """Whether a text holds something like one of the names: about one edit in five letters, or fewer.

    The words that many names share (`syndrome`) allow no edits of their own, and a name that is a finding without its
    number (`Microcephaly 5`) is not looked for.

    Args:
        text: What the student would read.
        names: All names of the patient's disease.
    """
    looked = squashed(text)
    forms = {form for name in names for form in (name, *parent_names(name))}
    return any(_is_near(form, looked) for form in forms)


def _is_near(form: str, looked: str) -> bool:
    series = _NUMBER.sub("", form)
    if series != form and not tells(series):
        return False
    pattern = squashed(form)
    own = len(pattern) - sum(len(word) for word in _words(form) if word in NAME_HEADS)
    edits = min((own + 2) // _OWN, len(pattern) // _ALIKE)
    return len(pattern) >= _ALIKE_FROM and nearest(pattern, looked) <= edits


def nearest(pattern: str, text: str) -> int:
    """The least edit distance of a pattern to any part of a text, both `squashed`.

    Source: Myers 1999, "A fast bit-vector algorithm for approximate string matching".
    """
    masks: dict[str, int] = {}
    for place, mark in enumerate(pattern):
        masks[mark] = masks.get(mark, 0) | 1 << place
    last, every = 1 << len(pattern) - 1, (1 << len(pattern)) - 1
    plus, minus, distance = every, 0, len(pattern)
    least = distance
    for mark in text:
        equal = masks.get(mark, 0)
        vertical = equal | minus
        horizontal = (((equal & plus) + plus) ^ plus) | equal
        up, down = minus | ~(horizontal | plus), plus & horizontal
        distance += bool(up & last) - bool(down & last)
        least = min(least, distance)
        up, down = up << 1, down << 1
        plus, minus = (down | ~(vertical | up)) & every, up & vertical & every
    return least
