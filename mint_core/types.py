"""The data that flow between two seams, all immutable and torch-free."""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, overload

from mint_core.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

Split = Literal["train", "val", "test"]
Modality = Literal["text", "image", "image+text"]
"""What a student reads: `"image" in modality` and `"text" in modality` tell the parts."""
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Channel = Literal["text", "image"]
"""What a model may read of a sample."""
Role = Literal["system", "user"]


_IGNORABLE = frozenset(
    map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)
"""Marks that change nothing that a reader sees."""
_JOINERS = "\u200c\u200d"
"""They shape letters of some scripts, and emoji; a comparison does without them."""


def _composed(text: str) -> str:
    """The text in composed Unicode (NFC), without what nobody sees: soft hyphens, zero-width and bidi marks."""
    if text.isascii():
        return text
    seen = "".join(
        mark for mark in text if mark in _JOINERS or (unicodedata.category(mark) != "Cf" and mark not in _IGNORABLE)
    )
    return unicodedata.normalize("NFC", seen)


def normalise_name(name: str) -> str:
    """A name as answers are compared: composed Unicode, lower case, punctuation dropped, single spaces.

    Letters of all scripts stay with their marks. Signs do not: two labels are told apart by `identity_of`.
    """
    lower = unicodedata.normalize("NFC", _composed(name).lower())
    if lower.isascii():
        return " ".join(re.sub(r"[^\w\s]|_", " ", lower).split())
    return " ".join("".join(mark if _in_word(mark) else " " for mark in lower if mark not in _JOINERS).split())


def _in_word(mark: str) -> bool:
    return mark.isalnum() or unicodedata.category(mark).startswith("M")


_TYPOGRAPHIC = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2212\u207b\u208b\ufe63\uff0d", "-"),
        **dict.fromkeys("\u2013\u2014\u2015", "\u2013"),
        **dict.fromkeys("\u207a\u208a\ufe62\uff0b", "+"),
        **dict.fromkeys("\u2018\u2019\u201b\u02bc\u00b4`", "'"),
    }
)
"""What keyboards, word processors and superscripts make of one sign."""
_SEPARATORS = frozenset("_,;:/.()[]{}\"'\u201c\u201d\u201e\u00ab\u00bb\u2013")
"""They part words, and tell no two labels apart; a point or a comma between two digits does."""


def identity_of(name: str) -> str:
    """A name as labels are told apart: like `normalise_name`, but signs stay.

    `HER2+` and `HER2-` are two labels, and so are `5q-` and `5q`. What only parts words is no sign: a hyphen inside
    `Bile-duct`, white space, commas, brackets. Names of one identity have one normalised form.
    """
    text = unicodedata.normalize("NFC", _composed(name).lower()).translate(_TYPOGRAPHIC)
    parts: list[str] = []
    for place, mark in enumerate(text):
        before, after = text[place - 1 : place], text[place + 1 : place + 2]
        if _in_word(mark):
            parts.append(mark)
        elif mark in _JOINERS:
            continue
        elif mark.isspace() or _parts_words(mark, before, after):
            parts.append(" ")
        else:
            parts.append(" - " if mark == "\u2013" else f" {mark} ")
    return " ".join("".join(parts).split())


def _parts_words(mark: str, before: str, after: str) -> bool:
    inside = bool(before and after and _in_word(before) and _in_word(after))
    if mark in ".,":
        return not (before.isdigit() and after.isdigit())
    if mark == "\u2013":  # behind a word it stands for a minus
        return inside or not (before and _in_word(before))
    return inside if mark == "-" else mark in _SEPARATORS


_BREAKS = ("Cc", "Zl", "Zp")
"""Categories of characters that break a line, or that no line can show."""


def squeezed(text: str) -> str:
    """A text on one line, in composed Unicode: white space and control characters become single spaces."""
    return " ".join("".join(" " if unicodedata.category(mark) in _BREAKS else mark for mark in _composed(text)).split())


def in_plural(modality: Modality) -> str:
    """`texts`, `images`, or `images and texts`."""
    return " and ".join(f"{part}s" for part in modality.split("+"))


class ImageRef(ABC):
    """An image that is opened when it is needed.

    `key` names the content, so that what was computed from it can be reused.
    """

    @property
    @abstractmethod
    def key(self) -> str:
        """A name of the content: equal keys mean equal pixels."""

    @property
    def quick_key(self) -> str:
        """Costs next to nothing. Two different quick keys prove two different contents; equal ones prove nothing."""
        return self.key

    @property
    def content_key(self) -> str:
        """A hash of the whole content. Equal exactly where the stored bytes are equal."""
        return self.key

    @abstractmethod
    def open(self) -> Image:
        """Returns the decoded RGB image.

        Raises:
            DataError: It cannot be decoded.
        """


def _shared(one: str, other: str, form: str) -> DataError:
    if normalise_name(one) == normalise_name(other) and identity_of(one) != identity_of(other):
        return DataError(
            f"Labels '{one}' and '{other}' share the name '{form}': they differ in signs only, which answers are not "
            "compared by; put the difference into words."
        )
    return DataError(f"Labels '{one}' and '{other}' share the name '{form}'; rename one of them.")


@dataclass(frozen=True, slots=True)
class Sample:
    """One patch or one patient."""

    id: str
    """Unique in its data source. Shown in errors and reports: a pseudonym, never a name."""
    split: Split
    label: str | None = None
    """Canonical name of the true label; None where it is unknown (allowed in training, never in evaluation)."""
    group: str | None = None
    """What must not be torn apart by a split (patient, slide, family), and what the bootstrap draws."""
    image: ImageRef | None = field(default=None, repr=False)
    text: str | None = field(default=None, repr=False)
    privileged: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What only the teacher may read beside image and text, by field name; for example the causal gene."""
    cohort: str | None = None
    """Name of the external data set that the sample comes from; None where it belongs to the task's own data."""
    subgroups: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By whom results are reported (sex, age, site …), as the source writes it: neither student nor teacher reads it.

    What is not known is left out. Ages may be durations or words: reports show bands.
    """

    def for_student(self, modality: Modality) -> Sample:
        """What a prompt may be made of: the student's own modality, without label, privileged fields and subgroups."""
        image = self.image if "image" in modality else None
        text = self.text if "text" in modality else None
        return replace(self, label=None, privileged={}, subgroups={}, image=image, text=text)

    def for_teacher(self) -> Sample:
        """What a teacher may read: everything but the subgroups."""
        return replace(self, subgroups={}) if self.subgroups else self


@dataclass(frozen=True)
class LabelSpace:
    """The ordered set of labels that a task knows.

    Raises:
        DataError: There are no labels, two of them share a name after normalisation, one cannot stand on a line of its
            own, or the aliases are not one tuple per label.
    """

    names: tuple[str, ...]
    aliases: tuple[tuple[str, ...], ...] = ()
    """Further names per label, in the order of `names`; empty where there are none."""

    def __post_init__(self) -> None:
        if not self.names:
            raise DataError("The label space is empty; name at least two labels.")
        if self.aliases and len(self.aliases) != len(self.names):
            raise DataError(
                f"There are aliases for {len(self.aliases)} labels, and {len(self.names)} labels; give every label its "
                "own, empty where it has none."
            )
        _ = self._by_form

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _by_form(self) -> dict[str, str]:
        """The canonical name of every normalised name and alias, each of which must be one label's alone."""
        owners: dict[str, str] = {}
        for name, others in zip(self.names, self.aliases or ((),) * len(self.names), strict=True):
            for form in (name, *others):
                if any(unicodedata.category(mark) in (*_BREAKS, "Cs") for mark in form):
                    raise DataError(
                        f"The label {form!r} cannot be written on one line and read back; take line breaks and control "
                        "characters out of it."
                    )
            for form in {normalise_name(x) for x in (name, *others)}:
                if form in owners:
                    raise _shared(owners[form], name, form)
                owners[form] = name
        return owners

    @cached_property
    def _position(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.names)}

    def all_names(self, name: str) -> tuple[str, ...]:
        """The canonical name followed by its aliases."""
        return (name, *(self.aliases[self.index(name)] if self.aliases else ()))

    def index(self, name: str) -> int:
        """Position of a canonical name.

        Raises:
            KeyError: It is not a canonical name of this space.
        """
        return self._position[name]

    def find(self, name: str) -> str | None:
        """The canonical name whose name or alias equals `name` after normalisation, or None."""
        return self._by_form.get(normalise_name(name))


class Part(Sequence[Sample]):
    """Some of many samples that are made when they are asked for, in order, and likewise not kept.

    Args:
        samples: All of them.
        places: Positions of those that belong to it, ascending.
        change: What is done to each.
    """

    def __init__(
        self, samples: Sequence[Sample], places: Sequence[int], change: Callable[[Sample], Sample] | None = None
    ) -> None:
        self._samples, self._places, self._change = samples, places, change

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(place, slice):
            return Part(self._samples, self._places[place], self._change)
        return self._changed(self._samples[self._places[place]])

    def __iter__(self) -> Iterator[Sample]:
        for begin in range(0, len(self), _BLOCK):
            places = self._places[begin : begin + _BLOCK]
            first, last = places[0], places[-1]
            if last - first < _SPARSE * len(places):
                block = self._samples[first : last + 1]
                yield from (self._changed(block[place - first]) for place in places)
            else:
                yield from (self._changed(self._samples[place]) for place in places)

    def each(self, change: Callable[[Sample], Sample]) -> Part:
        """The same samples, each changed when it is asked for."""
        return Part(self._samples, self._places, change)

    def _changed(self, sample: Sample) -> Sample:
        return sample if self._change is None else self._change(sample)


_BLOCK, _SPARSE = 4096, 8
"""Samples that are made together, and how many more may be made with them than are wanted."""


def some_of(samples: Sequence[Sample], belongs: Callable[[Sample], bool]) -> Sequence[Sample]:
    """Those samples that belong, in order: a list of what is there, a `Part` of what is made when it is asked for."""
    if isinstance(samples, list | tuple):
        return [sample for sample in samples if belongs(sample)]
    return Part(samples, array("q", (place for place, sample in enumerate(samples) if belongs(sample))))


@dataclass(frozen=True, slots=True)
class TaskData:
    """What a task's data source holds."""

    samples: Sequence[Sample]
    labels: LabelSpace
    source: str
    """One line for the run record and the report: where the data come from."""
    simulated: bool = False
    licence: str | None = None
    """Licence of the data, written into the adapter's card."""
    facts: Mapping[str, int] = field(default_factory=dict)
    """Counts that a reader of the report must know, for example `patients without a phenotype`."""
    subgroups: tuple[str, ...] = ()
    """Fields of `Sample.subgroups` that are reported where the user names none."""

    def split(self, split: Split) -> Sequence[Sample]:
        """The samples of one split, in order."""
        return some_of(self.samples, lambda sample: sample.split == split)


@dataclass(frozen=True, slots=True)
class Ranking:
    """A teacher's order of all labels for one sample, best first."""

    sample_id: str
    labels: tuple[str, ...]
    log_probs: NDArray[np.float32]
    """Natural logarithms, shape (n_labels,), in the order of `labels`."""


Response = tuple[str, ...]
"""The labels of one response, in order."""


@dataclass(frozen=True, slots=True)
class PreferenceGroup:
    """One prompt with its k' chosen and q' rejected responses."""

    sample_id: str
    chosen: tuple[Response, ...]
    rejected: tuple[Response, ...]
    chosen_weights: tuple[float, ...] = ()
    """Share of each chosen response in the loss, summing to 1; empty = equal shares."""
    rejected_weights: tuple[float, ...] = ()

    @property
    def answer(self) -> str:
        """The first label of the first chosen response: the truth, or what the teacher holds for it."""
        return self.chosen[0][0]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a prompt. Text only; the image stands in front of the first user turn."""

    role: Role
    content: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the student reads."""

    messages: tuple[Message, ...]
    image: ImageRef | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Variant:
    """Whose answers they are."""

    who: Literal["base", "aligned", "teacher", "retriever", "chance", "majority", "baseline"]
    free: bool = False
    """Beside constrained answers: written without constraints."""
    shuffled: bool = False
    """The control that reads another sample's image."""
    fused: bool = False
    """The student's ranking combined with the retriever's."""

    @property
    def blind(self) -> bool:
        """Whether nobody looked at the sample."""
        return self.who in ("chance", "majority")

    @property
    def name(self) -> str:
        """As files name it."""
        flags = {"free": self.free, "shuffled": self.shuffled, "fused": self.fused}
        return "-".join([self.who, *(flag for flag, there in flags.items() if there)])

    @property
    def title(self) -> str:
        """As tables name it."""
        return _TITLES[self]

    @classmethod
    def of(cls, name: str) -> Variant:
        """The variant of a name.

        Raises:
            KeyError: There is none.
        """
        return VARIANTS[name]


_TITLES = {
    Variant("base"): "base student",
    Variant("aligned"): "aligned student",
    Variant("aligned", free=True): "aligned, not constrained",
    Variant("base", free=True): "base, not constrained",
    Variant("aligned", shuffled=True): "aligned, images shuffled",
    Variant("base", fused=True): "base, fused",
    Variant("aligned", fused=True): "aligned, fused",
    Variant("teacher"): "teacher",
    Variant("retriever"): "retriever",
    Variant("chance"): "random list",
    Variant("majority"): "majority list",
    Variant("baseline"): "baseline",
}
VARIANTS: Mapping[str, Variant] = {variant.name: variant for variant in _TITLES}
"""All variants by name, in the order of a table."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a student answered."""

    sample_id: str
    variant: str
    """Name of the `Variant`."""
    text: str = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    """Distinct names in the order of the last list, as the student wrote them."""
    n_listed: int
    """Entries of that list before duplicates were merged."""
    well_formed: bool
    """The header, then entries numbered 1, 2, 3 …, and nothing else."""
    log_probs: tuple[float, ...] = ()
    """Natural logarithm of each label's probability, where the labels were scored; empty after free generation."""
    passages: tuple[str, ...] = ()
    """Sources of the retrieved passages that stood in the prompt, best first."""
    truncated: bool = False
    """It reached the limit on its length and was cut there, written freely."""
    scores: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    """Where labels were scored: natural logarithms for all of them, shape (n_labels,), in the label space's order."""

    @classmethod
    def of_labels(cls, sample_id: str, variant: str, labels: tuple[str, ...]) -> Prediction:
        """A list that no student wrote: the best labels of a teacher or a retriever, or a random draw."""
        return cls(sample_id, variant, "", labels, len(labels), True)
