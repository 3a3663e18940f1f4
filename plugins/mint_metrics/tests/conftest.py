from collections.abc import Callable

import pytest

from mint_core.interfaces import EvaluationSample
from mint_core.students.prompts import parse_response, write_response
from mint_core.types import LabelSpace, Prediction

HEADER = "MOST_LIKELY_TISSUE:"
TISSUES = LabelSpace(("Adrenal gland", "Breast", "Colon", "Esophagus", "Kidney", "Liver", "Lung", "Prostate", "Skin"))

MakeSample = Callable[..., EvaluationSample]


@pytest.fixture
def tissues() -> LabelSpace:
    return TISSUES


@pytest.fixture
def sample() -> MakeSample:
    """Builds a sample from names (written in the asked format) or from the raw text of a response."""

    def build(
        *names: str,
        text: str | None = None,
        n: int | None = None,
        truth: str = "Colon",
        top: tuple[str, ...] = (),
        bottom: tuple[str, ...] = (),
        labels: LabelSpace = TISSUES,
    ) -> EvaluationSample:
        text = write_response(HEADER, names) if text is None else text
        parsed = parse_response(text, HEADER)
        prediction = Prediction("s1", "aligned", text, parsed.labels, parsed.n_listed, parsed.well_formed)
        return EvaluationSample(prediction, truth, top, bottom, len(names) if n is None else n, labels)

    return build
