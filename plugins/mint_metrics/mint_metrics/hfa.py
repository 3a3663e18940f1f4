"""Hallucination-free accuracy: does the student keep to the format and to labels that exist?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mint_core.plugin import KNOWN, ComponentConfig, EvaluationSample, Metric, best_matches

Mode = Literal["strict", "lenient"]

RULES: dict[Mode, str] = {
    "strict": f"the asked format and nothing else, exactly N entries, N distinct labels, every name matches a known "
    f"label at a ratio of at least {KNOWN}",
    "lenient": f"at least one name matches a known label at a ratio of at least {KNOWN}",
}


def is_hallucination_free(sample: EvaluationSample, mode: Mode) -> bool:
    """Whether a response passes the rule of `mode`; see `HFA`."""
    prediction = sample.prediction
    found = {match.label for match in best_matches(prediction.labels, sample.labels) if match}
    if mode == "lenient":
        return bool(found)
    # N names with N different nearest labels: none is unknown, and no two are names of one label.
    return prediction.well_formed and prediction.n_listed == sample.n == len(prediction.labels) == len(found)


class HFA(Metric):
    """Hallucination-free accuracy (HFA): the share of responses that hold no made-up label.

    Per sample 1 or 0, no unit; the report shows the mean.

    Strict: the response is the header and N numbered entries and nothing else, the N names are N distinct labels (no
    name twice, no two names of one label), and every name matches a known label at a ratio of at least 0.6. For N = 2,
    `1. Colon`, `2. Lung` scores 1; `1. Colon`, `2. Colonn` scores 0, for both are names of one label.

    Lenient: at least one name matches a known label at a ratio of at least 0.6, whatever else the response holds.

    Source: strict is the rule of the workshop paper (ICML 2025 GenBio); lenient is near to the authors' scripts,
    which let any one label pass.
    """

    name = "hfa"
    version = "1"

    class Config(ComponentConfig):
        """Options of `hfa`."""

        mode: Mode = Field(
            default="strict",
            description="strict: the format, exactly N distinct labels, all known; lenient: at least one known label.",
        )

    config: Config

    def score(self, sample: EvaluationSample) -> float:
        """1.0 where the response passes the rule in force, else 0.0."""
        return float(is_hallucination_free(sample, self.config.mode))

    def why(self, sample: EvaluationSample) -> str | None:
        """What is wrong with the response, the first of: no list, its length, an unknown name, a name twice, more."""
        prediction = sample.prediction
        if is_hallucination_free(sample, self.config.mode):
            return None
        if self.config.mode == "lenient":
            return "no known name"
        matches = best_matches(prediction.labels, sample.labels)
        faults = {
            "no list": not prediction.labels,
            "too few names": prediction.n_listed < sample.n,
            "too many names": prediction.n_listed > sample.n,
            "an unknown name": not all(matches),
            "a name twice": len({match.label for match in matches if match}) < sample.n,
        }
        return next((fault for fault, there in faults.items() if there), "more than the list")

    def title(self, n: int) -> str:
        """`HFA`, or `HFA (lenient)`."""
        return "HFA" if self.config.mode == "strict" else "HFA (lenient)"

    def rule(self) -> str:
        """The rule in force."""
        return f"HFA ({self.config.mode}) is the share of responses that pass: {RULES[self.config.mode]}."

    def claim(self, n: int) -> str:
        """What passes."""
        return (
            "keeps to the asked format and to known labels" if self.config.mode == "strict" else "names a known label"
        )
