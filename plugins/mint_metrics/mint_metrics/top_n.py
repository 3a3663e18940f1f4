"""Top-N and Top-1: is the truth among the labels of the response?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mint_core.plugin import RECOGNISED, ComponentConfig, EvaluationSample, Metric, recognise
from mint_metrics.hfa import is_hallucination_free


class TopN(Metric):
    """Top-N accuracy: the share of responses whose first N names contain the true label.

    Per sample 1 or 0, no unit; the report shows the mean. A name is recognised as the label that it is nearest to where
    the ratio is at least 0.8, so a name near to the truth but nearer to another label is no hit. A response that fails
    HFA fails here too; the option `hfa` says by which rule. For N = 2 and the truth Lung, `1. Colon`, `2. Lung` scores
    1 and `1. Colon`, `2. Liver` scores 0.

    Source: both papers; the threshold is theirs.
    """

    name = "top-n"
    main = True
    version = "1"

    class Config(ComponentConfig):
        """Options of `top-n` and `top-1`."""

        hfa: Literal["strict", "lenient", "off"] = Field(
            default="strict",
            description="The HFA rule that a response must pass to count as a hit: strict, lenient, or off for none.",
        )

    config: Config

    def score(self, sample: EvaluationSample) -> float:
        """1.0 where the truth is among the first names that count, else 0.0."""
        if self.config.hfa != "off" and not is_hallucination_free(sample, self.config.hfa):
            return 0.0
        names = sample.prediction.labels[: self._depth(sample.n)]
        return float(sample.truth in recognise(names, sample.labels))

    def ungated(self) -> Metric | None:
        """With `hfa=off`; None where it is off already."""
        if self.config.hfa == "off":
            return None
        return type(self)(self.config.model_copy(update={"hfa": "off"}))

    def title(self, n: int) -> str:
        """`Top-5` where five labels were asked for; a rule other than strict HFA is named too."""
        gate = {"strict": "", "lenient": " (lenient HFA)", "off": " (HFA off)"}[self.config.hfa]
        return f"Top-{self._depth(n)}{gate}"

    def rule(self) -> str:
        """The rule in force."""
        return self._rule("Top-N is the share of responses whose first N names contain the truth")

    def claim(self, n: int) -> str:
        """What counts as a hit."""
        depth = self._depth(n)
        return "names the right label first" if depth == 1 else f"has the right label among its first {depth}"

    def _depth(self, n: int) -> int:
        """How many names count where `n` were asked for."""
        return n

    def _rule(self, what: str) -> str:
        mode = self.config.hfa
        gate = "HFA is not asked for" if mode == "off" else f"a response that fails {mode} HFA is a miss"
        return f"{what}, recognised at a ratio of at least {RECOGNISED}; {gate}."


class Top1(TopN):
    """Top-1 accuracy: the share of responses whose first name is the true label.

    Per sample 1 or 0, no unit; the report shows the mean. Recognition and the option `hfa` are those of `top-n`.

    Source: both papers.
    """

    name = "top-1"
    main = False
    version = "1"

    def rule(self) -> str:
        """The rule in force."""
        return self._rule("Top-1 is the share of responses whose first name is the truth")

    def _depth(self, n: int) -> int:
        return 1
