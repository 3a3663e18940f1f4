"""The teacher `ensemble`: several teachers, whose log-probabilities are averaged."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from pydantic import Field, field_validator

from mint_core.config import Configured, configured
from mint_core.errors import ConfigError
from mint_core.files import digest_of
from mint_core.folds import log_softmax
from mint_core.interfaces import ComponentConfig, Context, Teacher
from mint_core.plugins import registry
from mint_core.teachers.accuracy import top_1
from mint_core.types import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FLOOR = -30.0
"""In nats: what a teacher holds for impossible, the others may still hold for true."""
_ROUNDS, _STEP, _ENOUGH = 500, 1.0, 1e-9


class EnsembleConfig(ComponentConfig):
    """Options of the teacher `ensemble`."""

    teachers: tuple[dict[str, Any], ...] = Field(
        (), description="The teachers, two or more: names, or `name` and options, for example [plip, regression]."
    )
    weights: tuple[float, ...] | None = Field(
        None,
        description="Their weights, in this order, which are divided by their sum; null = those that make the labelled "
        "training samples most likely.",
    )

    @field_validator("teachers", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """`a,b` and [a, b] name teachers without options."""
        listed = value.split(",") if isinstance(value, str) else value
        if not isinstance(listed, list | tuple):
            return listed
        return tuple({"name": one.strip()} if isinstance(one, str) else one for one in listed)


class Ensemble(Teacher):
    """A log-linear pool: log p(label) = sum over teachers of w log p_teacher(label), less the logarithm of its sum.

    The weights w are not negative and add up to 1. Where none are given they maximise the mean log p(truth) over the
    labelled training samples, which teachers that are fitted rank out of fold; with equal weights where there is none.
    Source: Heskes 1998, "Selecting weighting factors in logarithmic opinion pools" (NeurIPS 10), eq. 2.

    Raises:
        ConfigError: There are fewer than two teachers, or the weights do not fit them.
    """

    name = "ensemble"
    together = True
    Config: ClassVar[type[Any]] = EnsembleConfig
    config: EnsembleConfig

    def __init__(self, config: EnsembleConfig | None = None, context: Context | None = None) -> None:
        super().__init__(config, context)
        self._parts = _configured(self.config)
        self._fitted_on: list[Sample] = []
        self._told: dict[str, Any] = {}

    @classmethod
    def parts(cls, config: EnsembleConfig) -> tuple[Mapping[str, Any], ...]:
        """See `mint_core.interfaces.teacher.Teacher.parts`."""
        _ = _configured(config)
        return config.teachers

    @classmethod
    def asks(cls, config: EnsembleConfig) -> bool:
        """Whether one of its teachers does."""
        parts = _configured(config).values()
        return any(cast(type[Teacher], part.registered.component).asks(part.config) for part in parts)

    @classmethod
    def fingerprint(cls, config: EnsembleConfig) -> str:
        """What identifies its teachers: their versions, options and weights."""
        return digest_of([part.identity() for part in _configured(config).values()])

    def fit(self, samples: Sequence[Sample]) -> None:
        """Keeps the training split: each teacher is fitted when it is its turn, so that one is in memory at a time."""
        self._fitted_on = list(samples)

    def log_probs(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """See `mint_core.interfaces.teacher.Teacher.log_probs`."""
        rows = []
        facts = {}
        for place, (name, part) in enumerate(self._parts.items()):
            teacher = cast(Teacher, part.make(replace(self.context, advance=lambda _: None)))
            if self._fitted_on:
                teacher.fit(self._fitted_on)
            found = teacher.log_probs(samples)
            rows.append(np.maximum(found, _FLOOR))
            facts[name] = {"top_1": top_1(samples, self.labels, found), **teacher.describe()}
            del teacher
            gc.collect()
            share = [len(samples) * turn // len(self._parts) for turn in (place, place + 1)]
            self.context.advance(share[1] - share[0])
        stacked = np.stack(rows)
        weights, count = self._weights(stacked, samples)
        self._told = {
            "weights": dict(zip(facts, (round(float(weight), 4) for weight in weights), strict=True)),
            "weights_fitted_on": count,
            "parts": facts,
        }
        return log_softmax(np.tensordot(weights, stacked, 1))

    def describe(self) -> dict[str, Any]:
        """Weights, on how many samples they were fitted, and each teacher's own Top-1 and facts."""
        return self._told

    def _weights(self, rows: NDArray[np.float32], samples: Sequence[Sample]) -> tuple[NDArray[np.float64], int]:
        if self.config.weights is not None:
            given = np.array(self.config.weights)
            return given / given.sum(), 0
        trained = {sample.id for sample in self._fitted_on}
        known = [
            (place, self.labels.index(sample.label))
            for place, sample in enumerate(samples)
            if sample.id in trained and sample.label is not None
        ]
        places, truths = (list(column) for column in zip(*known, strict=True)) if known else ([], [])
        return fit_weights(rows[:, places].astype(np.float64), truths), len(known)


def fit_weights(rows: NDArray[np.float64], truths: Sequence[int]) -> NDArray[np.float64]:
    """The weights of a log-linear pool that make the truths most likely; equal ones where there are no samples.

    The mean log-likelihood is concave in the weights; exponentiated gradients climb it, which keeps them positive and
    their sum 1 (Kivinen and Warmuth 1997).

    Args:
        rows: Log-probabilities, shape (n_teachers, n_samples, n_labels), all finite.
        truths: Column of each sample's truth.

    Returns:
        Shape (n_teachers,).
    """
    count = len(rows)
    weights = np.full(count, 1 / count)
    if not len(truths):
        return weights
    own = rows[:, np.arange(len(truths)), truths]  # (teachers, samples)

    def likelihood(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        pooled = np.tensordot(at, rows, 1)
        top = pooled.max(1, keepdims=True)
        odds = np.exp(pooled - top)
        total = odds.sum(1, keepdims=True)
        value = float((at @ own - (top + np.log(total))[:, 0]).mean())
        return value, (own - np.einsum("tsl,sl->ts", rows, odds / total)).mean(1)

    value, slope = likelihood(weights)
    step = _STEP
    for _ in range(_ROUNDS):
        tried = weights * np.exp(step * (slope - slope.max()))
        tried /= tried.sum()
        better, next_slope = likelihood(tried)
        if better < value:
            step /= 2
            continue
        gained = better - value
        weights, value, slope, step = tried, better, next_slope, 1.5 * step
        if gained < _ENOUGH:
            break
    return weights


def _configured(config: EnsembleConfig) -> dict[str, Configured]:
    """The teachers by name; of equal names the later ones are numbered.

    Raises:
        ConfigError: There are fewer than two, an ensemble is one of them, or the weights do not fit.
    """
    if len(config.teachers) < 2:
        raise ConfigError(
            "The teacher 'ensemble' needs two teachers or more; name them, for example "
            "--set teacher.teachers=[plip,file]."
        )
    weights = config.weights
    if weights is not None and (len(weights) != len(config.teachers) or min(weights) < 0 or sum(weights) <= 0):
        raise ConfigError(
            f"teacher.weights: {len(config.teachers)} teachers need as many weights, none below 0 and one above it."
        )
    found: dict[str, Configured] = {}
    count: Counter[str] = Counter()
    for choice in config.teachers:
        part = configured("teacher", choice, registry())
        if part.name == Ensemble.name:
            raise ConfigError("teacher.teachers: an ensemble cannot be one of an ensemble's teachers; name its own.")
        count[part.name] += 1
        found[part.name if count[part.name] == 1 else f"{part.name} {count[part.name]}"] = part
    return found
