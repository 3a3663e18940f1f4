"""A plugin whose labels follow one phrase of a text, or one quarter of an image: attributions can be known right."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import Field

from mint_core import hookimpl
from mint_core.plugin import (
    ImageRef,
    LabelSpace,
    Message,
    Prompt,
    Sample,
    Task,
    TaskConfig,
    TaskData,
    Teacher,
    Unreadable,
)

LABELS = ("Colon", "Liver", "Skin")
WORDS = {"redness": "Colon", "wheezing": "Liver", None: "Skin"}
"""The phrase that decides; without one it is skin."""
COLOURS = {(250, 20, 20): "Colon", (20, 20, 250): "Liver", None: "Skin"}
"""The colour of the quarter that decides; without one it is skin."""
OTHERS = ("short stature", "long palpebral fissure", "fever", "pain", "cough", "rash", "itch", "vomiting")
SIDE = 28
DECIDES = 2
"""Number of the quarter that decides: the lower left one."""


class Quarters(ImageRef):
    """Four squares of grey noise, of which one may be coloured."""

    def __init__(self, number: int, colour: tuple[int, int, int] | None) -> None:
        self.number, self.colour = number, colour

    @property
    def key(self) -> str:
        return f"quarters-{self.number}-{self.colour}"

    def open(self) -> Image.Image:
        rng = np.random.default_rng(self.number)
        pixels = rng.integers(90, 160, (SIDE, SIDE, 3)).astype(np.uint8)
        half = SIDE // 2
        if self.colour is not None:
            pixels[half:, :half] = self.colour
        return Image.fromarray(pixels)


class RuleConfig(TaskConfig):
    count: int = Field(48, description="Training samples.")


class Rule(Task):
    """Text in, organ out: the phrase `redness` or `wheezing` decides."""

    name = "rule"
    Config: ClassVar[type[Any]] = RuleConfig
    header = "MOST_LIKELY_TISSUE:"
    modality = "text"
    default_teacher = "ruler"
    sources = ("simulated",)

    def sample(self, number: int, split: Any) -> Sample:
        rng = np.random.default_rng(number)
        word, label = list(WORDS.items())[number % 3]
        phrases = [*([] if word is None else [word]), *rng.choice(OTHERS, 4, replace=False)]
        text = f"Phenotypes: {', '.join(rng.permutation(phrases))}."
        return Sample(f"s{number}", split, label, f"g{number}", text=text)

    def load(self) -> TaskData:
        count = self.config.count
        parts = {"train": range(count), "val": range(1000, 1008), "test": range(2000, 2008)}
        samples = tuple(self.sample(number, split) for split, numbers in parts.items() for number in numbers)
        return TaskData(samples, LabelSpace(LABELS), "a rule", simulated=True)

    def list_length(self, n_labels: int) -> int:
        return 1

    def training_prompt(self, sample: Sample, n: int) -> Prompt:
        return Prompt((Message("user", f"{sample.text or ''} Name {n}."),), sample.image)

    inference_prompt = training_prompt

    def read_inputs(self, place: Path, facts: Any) -> Iterator[Sample | Unreadable]:
        for line in Path(place).read_text().splitlines():
            record = json.loads(line)
            yield Sample(record["id"], "test", text=record["text"])


class Picture(Rule):
    """Image in, organ out: one quarter decides."""

    name = "picture"
    modality = "image"

    def sample(self, number: int, split: Any) -> Sample:
        colour, label = list(COLOURS.items())[number % 3]
        return Sample(f"s{number}", split, label, f"g{number}", image=Quarters(number, colour))


class Ruler(Teacher):
    """Knows the rule."""

    name = "ruler"

    def log_probs(self, samples: Any) -> Any:
        rows = np.full((len(samples), len(LABELS)), -4.0, np.float32)
        for row, sample in enumerate(samples):
            rows[row, LABELS.index(sample.label)] = 0.0
        return rows - np.log(np.exp(rows).sum(1, keepdims=True))


@hookimpl
def mint_tasks() -> Any:
    return [Rule, Picture]


@hookimpl
def mint_teachers() -> Any:
    return [Ruler]
