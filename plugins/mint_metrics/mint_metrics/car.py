"""The coverage-avoidance ratio: does the student decide like its teacher?"""

from __future__ import annotations

from pydantic import Field

from mint_core.plugin import RECOGNISED, ComponentConfig, EvaluationSample, Metric, normalise_name, recognise


class CAR(Metric):
    """Coverage-avoidance ratio (CAR): the response names what the teacher ranks high, not what it ranks low.

    Per sample, in [0, 1], no unit; the report shows the mean:

        C = |T & R| / |R|        coverage; T = the teacher's top-k, with the truth placed as in training
        A = 1 - |R & B| / |R|    avoidance; B = the teacher's bottom-q
        CAR = (1 + w) C A / (w C + A)

    R holds the distinct names of the response. A name is recognised as its nearest label where the ratio is at least
    0.8; names of one label count once; a name that is not recognised is in neither T nor B but counts in |R|. An empty
    response scores 0, and so does C = A = 0. Where no teacher ranked the sample it is unscored.

    For example, with five names, two of them in T and one in B: C = 2/5, A = 4/5, and for w = 1
    CAR = 2 * 0.32 / (0.4 + 0.8) = 0.533...

    w > 1 favours avoidance: as w grows the value tends to A, and as w falls to 0 it tends to C. The text of the
    preprint says the opposite of its own formula; the formula is what counts here.

    Source: MINT, preprint arXiv 2505.05736v1 and workshop paper (ICML 2025 GenBio). The authors' scripts compare the
    bottom list with the truth instead of the response; that is not followed.
    """

    name = "car"
    version = "1"
    reads_teacher = True

    class Config(ComponentConfig):
        """Options of `car`."""

        weight: float = Field(
            default=1.0,
            gt=0,
            allow_inf_nan=False,
            le=1e9,
            description="w: 1 weighs coverage and avoidance alike, above 1 favours avoidance, below 1 coverage.",
        )

    config: Config

    def score(self, sample: EvaluationSample) -> float | None:
        """The ratio of one response, or None where no teacher ranked the sample."""
        if not sample.top or not sample.bottom:
            return None
        names = sample.prediction.labels
        # A name that is not recognised stands for itself; it equals no label's name, or it would be recognised.
        response = {
            label or normalise_name(name) for name, label in zip(names, recognise(names, sample.labels), strict=True)
        }
        if not response:
            return 0.0
        return self._ratio(response, sample)

    def ceiling(self, sample: EvaluationSample) -> float:
        """The ratio of the teacher's top-k, and where N is larger than k, of labels of neither list behind it."""
        if not sample.top or not sample.bottom:
            return 1.0
        neither = (name for name in sample.labels.names if name not in sample.top and name not in sample.bottom)
        return self._ratio({*(*sample.top, *neither, *sample.bottom)[: sample.n]}, sample)

    def _ratio(self, response: set[str], sample: EvaluationSample) -> float:
        coverage = len(response.intersection(sample.top)) / len(response)
        avoidance = 1 - len(response.intersection(sample.bottom)) / len(response)
        weight = self.config.weight
        denominator = weight * coverage + avoidance
        return (1 + weight) * coverage * avoidance / denominator if denominator else 0.0

    def title(self, n: int) -> str:
        """`CAR`, with the weight where it is not 1."""
        return "CAR" if self.config.weight == 1 else f"CAR (w = {self.config.weight:g})"

    def rule(self) -> str:
        """The rule in force."""
        return (
            f"CAR is the mean of (1 + w) C A / (w C + A) with w = {self.config.weight:g}, where C is the share of the "
            f"response's distinct names in the teacher's top-k and A one minus the share in its bottom-q, names "
            f"recognised at a ratio of at least {RECOGNISED}."
        )
