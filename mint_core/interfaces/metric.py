"""Seam 6: judges predictions."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from mint_core.interfaces.component import Component, ComponentConfig
from mint_core.types import LabelSpace, Prediction


@dataclass(frozen=True, slots=True)
class EvaluationSample:
    """All that a metric may look at for one test sample."""

    prediction: Prediction
    truth: str
    """Canonical name of the true label."""
    top: tuple[str, ...] = field(repr=False)
    """T_i: the teacher's top-k, with the truth placed as in training; empty where no teacher ranked the sample."""
    bottom: tuple[str, ...] = field(repr=False)
    """B_i: the teacher's bottom-q; empty where no teacher ranked the sample."""
    n: int
    """How many labels were asked for (N)."""
    labels: LabelSpace = field(repr=False)


class Metric(Component[ComponentConfig]):
    """Per-sample values; the core aggregates them as a mean with a clustered bootstrap interval.

    Clauses:
        1. `score` returns a value in [0, 1], or None where the sample cannot be scored (counted, but not as zero).
        2. It is deterministic and does not change its input.
        3. An empty response is scored, not raised on.
        4. `why` is None or one of a few fixed phrases, the same for all samples of one kind; it quotes no answer.
        5. `title` is one line, and `rule` says in one how the number is computed.
        6. Where there is a `claim`, every value is 0, 1 or None.
        7. No value is above the `ceiling` of its sample.
    """

    kind = "metric"
    reads_teacher: ClassVar[bool] = False
    """Whether it reads `top` or `bottom`: its values of two runs are compared only where these lists are equal."""
    main: ClassVar[bool] = False
    """Whether it says the most by itself, so that `mint runs` shows it; of several the first one counts."""

    @abstractmethod
    def score(self, sample: EvaluationSample) -> float | None:
        """The value of one sample, or None where it cannot be scored."""

    def why(self, sample: EvaluationSample) -> str | None:
        """Why a whole response is not credited, for example `no list`; None where it is, or nothing can be said.

        Reports count these phrases, so that a reader sees what to mend.
        """
        return None

    def ungated(self) -> Metric | None:
        """The same metric where another rule makes whole responses misses, without that rule.

        Reports show it beside where many responses fail that rule.
        """
        return None

    def ceiling(self, sample: EvaluationSample) -> float:
        """The most that a list of N labels can reach for this sample; tables say it where it is below 1.

        Args:
            sample: Whatever was answered.
        """
        return 1.0

    def title(self, n: int) -> str:
        """Column heading where N labels were asked for, for example `Top-5`."""
        return self.name

    def rule(self) -> str:
        """One sentence on how the number is computed; printed in the report."""
        return ""

    def claim(self, n: int) -> str:
        """How the report's conclusion tells what 1 means, as in "The student <claim> in 34 of 100 samples".

        Only where every value is 0 or 1; empty = the conclusion does not tell it. The last metric of the table that has
        a claim is the one by which students are compared.

        Args:
            n: As for `title`.
        """
        return ""
