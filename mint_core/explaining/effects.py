"""What each part of a sample does to a label's log-probability, and whether the ranked parts matter more than others.

Effect of a part: log p(label | sample) - log p(label | sample without the part), in nats; log p as `score` has it, not
normalised over the labels. Deletion check: the fall of log p when the m parts with the largest effects are taken away
together, against m parts drawn at random.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mint_core.answering.alike import label_log_probs
from mint_core.answering.generate import not_finite
from mint_core.errors import DataError
from mint_core.explaining.parts import Parts
from mint_core.types import LabelSpace, Prompt, Sample

if TYPE_CHECKING:
    from mint_core.interfaces import Student


@dataclass(frozen=True, slots=True)
class Check:
    """The deletion check of one sample."""

    m: int
    """Parts that are taken away together."""
    top: float
    """Fall of log p without the m parts with the largest effects, in nats."""
    random: tuple[float, ...]
    """The same without m parts at random, one per draw."""


@dataclass(frozen=True, slots=True)
class Effects:
    """The effects of all parts of one sample."""

    log_prob: float
    """Of the label, for the whole sample; natural logarithm."""
    effects: NDArray[np.float64]
    """(parts,), in nats; positive where the part speaks for the label."""
    check: Check | None
    """None where so many parts are taken away that no choice is left."""

    @property
    def order(self) -> NDArray[np.int64]:
        """The parts by their effects, largest first."""
        return np.argsort(-self.effects, kind="stable")


def taken_away(parts: int) -> int:
    """How many parts the deletion check takes away: a quarter, and never less than 2.

    Of one part the check would say nothing: what is ranked first is what lowers log p most when taken away alone.
    """
    return max(2, round(parts / 4))


@dataclass(frozen=True, slots=True)
class Explainer:
    """A student whose answers are explained."""

    student: Student
    model: Any
    """The student, with its adapter where it has one."""
    labels: LabelSpace
    header: str
    batch_size: int
    ask: Callable[[Sequence[Sample]], Mapping[str, Prompt]]
    """From samples, as the student may read them, to the prompt of each id."""

    def log_probs(self, samples: Sequence[Sample], label: str) -> NDArray[np.float64]:
        """Log p(label) for a sample and what is like it: shape (samples,), natural logarithms.

        Raises:
            DataError: The student's scores are not finite.
        """
        own_ids = [replace(one, id=f"{one.id}#{number}" if number else one.id) for number, one in enumerate(samples)]
        prompts = self.ask(own_ids)
        found = label_log_probs(
            self.student,
            {one.id: prompts[one.id] for one in own_ids},
            self.labels,
            label,
            self.header,
            batch_size=self.batch_size,
            model=self.model,
        )
        if not np.isfinite(found).all():
            raise DataError(not_finite(samples[0].id))
        return found.astype(float)

    def effects(self, parts: Parts, label: str, *, draws: int, seed: int) -> Effects:
        """The effect of every part of a sample on a label, with the deletion check.

        Args:
            parts: The sample's.
            label: Canonical name.
            draws: Random choices of the check.
            seed: Of these, together with the sample's id: they do not depend on what else is explained.

        Raises:
            DataError: A prompt does not fit, or the scores are not finite.
        """
        alone = [parts.without({number}) for number in range(len(parts))]
        whole, *others = self.log_probs([parts.sample, *alone], label).tolist()
        effects = whole - np.array(others)
        found = Effects(whole, effects, None)
        m = taken_away(len(parts))
        if m >= len(parts):
            return found
        rng = np.random.default_rng([seed, 29, zlib.crc32(parts.sample.id.encode("utf-8", "replace"))])
        chosen = [found.order[:m], *(rng.choice(len(parts), m, replace=False) for _ in range(draws))]
        without = [parts.without({int(number) for number in gone}) for gone in chosen]
        again, *left = self.log_probs([parts.sample, *without], label).tolist()
        top, *random = (again - one for one in left)
        return replace(found, check=Check(m, top, tuple(random)))
