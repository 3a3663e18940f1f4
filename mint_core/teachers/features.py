"""The teacher `features`: logistic regression on what the samples hold, texts, images and columns alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from mint_core.errors import ConfigError, did_you_mean
from mint_core.files import digest_of
from mint_core.students.load import fingerprint
from mint_core.teachers.backbone import Backbone
from mint_core.teachers.feature_cache import batches
from mint_core.teachers.fitted import FittedConfig, FittedTeacher
from mint_core.teachers.pixels import pixel_features
from mint_core.types import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEW = 10
"""A column of so many different numbers or fewer is read as names."""
PIXELS, NONE = "pixels", "none"
_WORD = r"(?u)\b\w+\b"


class FeaturesConfig(FittedConfig):
    """Options of the teacher `features`."""

    text: bool = Field(True, description="Read the samples' texts: words and pairs of words, weighted by TF-IDF.")
    image: str = Field(
        PIXELS,
        description="What is read of images: `pixels` = colours, texture and a coarse look, without a model; a vision "
        "model of transformers (hub id or folder: CLIP, SigLIP, DINOv2 …), whose features stay frozen; `none`.",
    )
    privileged: bool | tuple[str, ...] = Field(
        True, description="Privileged fields that are read, as categories or as numbers: all, none, or these."
    )
    c: float | None = Field(
        None,
        gt=0,
        le=1e12,
        description="Inverse strength of the L2 penalty; null = that of 0.1, 1 … 1000 which makes the labels of a "
        "fold most likely that was not fitted on.",
    )


@dataclass(frozen=True, slots=True)
class Row:
    """What the teacher reads of one sample."""

    text: str
    image: NDArray[np.float32] | None
    fields: dict[str, str]


class Features(FittedTeacher):
    """Multinomial logistic regression (scikit-learn) on all that a sample holds: the first teacher of any task.

    Text: TF-IDF of words and pairs of words, 1 + log counts, unit length. Image: frozen features, made once per image;
    standardised, and divided by the root of their number. Privileged fields: a column whose values are all numbers,
    more than ten different ones, is standardised; any other is one column per value. What a sample lacks is the mean,
    with a column that says so. All of that is learnt anew in every fold. Training samples are ranked out of fold.

    Raises:
        ConfigError: A privileged field that no sample has is named.
        DataError: Fewer than two labels occur in the training split, there is nothing to read, or an image is damaged.
        ModelError: The vision model cannot be loaded.

        teacher:
          name: features
          image: facebook/dinov2-small
    """

    name = "features"
    Config: ClassVar[type[Any]] = FeaturesConfig
    config: FeaturesConfig
    nothing = "give the samples a text, an image or a privileged field, and leave teacher.text and teacher.image on"

    @cached_property
    def _backbone(self) -> Backbone:
        return Backbone(self.config.image, self.context.device)

    @classmethod
    def fingerprint(cls, config: Any) -> str:
        """What identifies the vision model."""
        return "" if config.image in (PIXELS, NONE) else fingerprint(config.image)

    @cached_property
    def cache_name(self) -> str:
        """One file per way to read images: the other options change none of what is kept."""
        return f"features-{digest_of([self.version, self.config.image, self.fingerprint(self.config)])[:24]}.sqlite"

    def content_key(self, sample: Sample) -> str:
        """The image's key: nothing else is kept."""
        return self.image_of(sample).key

    def prepare(self, sample: Sample) -> Any:
        """The image's features, or what the vision model reads of it."""
        image = self.image_of(sample).open()
        return pixel_features(image) if self.config.image == PIXELS else self._backbone.prepare(image)

    def features(self, samples: Sequence[Any]) -> NDArray[np.float32]:
        """Features of images, shape (n, dim)."""
        return np.stack(samples) if self.config.image == PIXELS else self._backbone.encode(samples)

    def stream(self, samples: Sequence[Sample], advance: Callable[[int], None]) -> Iterator[NDArray[Any]]:
        """A `Row` per sample, batch by batch: arrays of objects, shape (n,)."""
        shown = [] if self.config.image == NONE else [sample for sample in samples if sample.image is not None]
        if shown and self.config.image != PIXELS:
            _ = self._backbone  # loaded here, before several threads ask for it
        images = (image for part in super().stream(shown, lambda _: None) for image in part)
        for batch in batches(samples, self.batch_size):
            rows = [Row(self._text(one), self._image(one, images), self._fields(one)) for one in batch]
            advance(len(batch))
            yield np.fromiter(rows, object, len(rows))
        next(images, None)  # ends the stream, which closes the cache

    def extract(self, samples: Sequence[Sample]) -> None:
        """Reads the images ahead: only their features are kept."""
        if any(sample.image is not None for sample in samples) and self.config.image != NONE:
            super().extract(samples)
        else:
            self.context.advance(len(samples))

    def fit(self, samples: Sequence[Sample]) -> None:
        """See `FittedTeacher.fit`."""
        wanted = self.config.privileged if isinstance(self.config.privileged, tuple) else ()
        known = {field for sample in samples for field in sample.privileged}
        for field in wanted:
            if field not in known:
                raise ConfigError(f"teacher.privileged: no sample has a field '{field}'{did_you_mean(field, known)}.")
        super().fit(samples)

    def classifier(self, rows: NDArray[Any], c: float) -> Any:
        """A pipeline of the blocks that these rows have anything for; None where there is none."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import FeatureUnion, make_pipeline

        blocks = _blocks(list(rows))
        return make_pipeline(FeatureUnion(blocks), LogisticRegression(C=c, max_iter=1000)) if blocks else None

    def describe(self) -> dict[str, Any]:
        """What it read, how many columns that made, and on how many samples it was fitted."""
        blocks = dict(self._model[0].transformer_list)
        return {"reads": list(blocks), "columns": int(self._model[-1].n_features_in_), **super().describe()}

    def _image(self, sample: Sample, images: Iterator[NDArray[np.float32]]) -> NDArray[np.float32] | None:
        return None if sample.image is None or self.config.image == NONE else next(images)

    def _text(self, sample: Sample) -> str:
        return (sample.text or "") if self.config.text else ""

    def _fields(self, sample: Sample) -> dict[str, str]:
        wanted = self.config.privileged
        if isinstance(wanted, tuple):
            return {field: sample.privileged[field] for field in wanted if field in sample.privileged}
        return dict(sample.privileged) if wanted else {}


def _blocks(rows: Sequence[Row]) -> list[tuple[str, Any]]:
    """What is learnt from rows, by name: text, image, numbers and categories, as far as they occur."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=_WORD, max_features=100_000)
    analyse = words.build_analyzer()
    filled = partial(SimpleImputer, keep_empty_features=True)
    size = next((len(row.image) for row in rows if row.image is not None), 0)
    numbers = _number_fields(rows)
    blocks: list[tuple[str, Any]] = []
    if any(analyse(row.text) for row in rows):
        blocks.append(("text", make_pipeline(FunctionTransformer(_texts), words)))
    if size:
        images = FunctionTransformer(_images, kw_args={"size": size})
        shrink = FunctionTransformer(_of_unit_length)
        blocks.append(("image", make_pipeline(images, filled(), StandardScaler(), shrink)))
    if numbers:
        columns = FunctionTransformer(_numbers, kw_args={"fields": numbers})
        blocks.append(("numbers", make_pipeline(columns, filled(), StandardScaler())))
    if any(_categories(rows, numbers, shown=bool(size))):
        values = FunctionTransformer(_categories, kw_args={"numbers": numbers, "shown": bool(size)})
        blocks.append(("categories", make_pipeline(values, DictVectorizer())))
    return blocks


def _texts(rows: Sequence[Row]) -> list[str]:
    return [row.text for row in rows]


def _images(rows: Sequence[Row], size: int) -> NDArray[np.float64]:
    """(n, size); NaN where a sample has no image."""
    return np.stack([np.full(size, np.nan) if row.image is None else row.image for row in rows])


def _of_unit_length(standardised: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows that are on average as long as that of a text: else the penalty would count a block by its columns."""
    shrunk: NDArray[np.float64] = standardised / np.sqrt(standardised.shape[1])
    return shrunk


def _numbers(rows: Sequence[Row], fields: Sequence[str]) -> NDArray[np.float64]:
    """(n, fields); NaN where a value is missing or no number."""
    return np.array([[_number(row.fields.get(field, "")) for field in fields] for row in rows])


def _categories(rows: Sequence[Row], numbers: Sequence[str], *, shown: bool) -> list[dict[str, int]]:
    """Per sample the values of its other fields, and what it lacks of the rest."""
    found = []
    for row in rows:
        values = [f"{field}={value}" for field, value in row.fields.items() if field not in numbers]
        values += [f"{field} is missing" for field in numbers if np.isnan(_number(row.fields.get(field, "")))]
        values += ["there is no image"] if shown and row.image is None else []
        found.append(dict.fromkeys(values, 1))
    return found


def _number_fields(rows: Sequence[Row]) -> tuple[str, ...]:
    """The fields whose values are all numbers, more than a few different ones; sorted."""
    values: dict[str, set[str]] = {}
    for row in rows:
        for field, value in row.fields.items():
            values.setdefault(field, set()).add(value)
    numbers = {field: [_number(value) for value in of_field] for field, of_field in values.items()}
    return tuple(sorted(f for f, of_field in numbers.items() if len(of_field) > FEW and np.isfinite(of_field).all()))


def _number(value: str) -> float:
    """NaN where it is no finite number."""
    try:
        number = float(value)
    except ValueError:
        return float("nan")
    return number if np.isfinite(number) else float("nan")
