"""The teacher `regression`."""

from dataclasses import replace

import numpy as np
import pytest

from mint_core.errors import DataError
from mint_core.testing import TEACHER_CHECKS, teacher_context
from mint_core.types import LabelSpace, Sample
from mint_gestalt.regression import Regression, RegressionConfig

LABELS = LabelSpace(("Alpha syndrome", "Beta syndrome", "Gamma syndrome", "Never seen syndrome"))
GENES = ("AAA1", "BBB2", "CCC3")


def patients(count: int = 60, split: str = "train") -> list[Sample]:
    """The text tells Alpha from the others; only the gene tells Beta from Gamma."""
    return [
        Sample(
            f"{split}{i}",
            split,  # type: ignore[arg-type]
            LABELS.names[i % 3],
            group=f"{split}g{i // 2}",
            text=f"Sex {'fe' if i % 2 else ''}male. Phenotypes: {'Short philtrum' if i % 3 == 0 else 'Seizure'}, Tall.",
            privileged={"gene": GENES[i % 3]},
        )
        for i in range(count)
    ]


def fitted(tmp_path, samples=None, **options) -> Regression:
    teacher = Regression(RegressionConfig(**options), teacher_context(LABELS, tmp_path))
    teacher.fit(samples or patients())
    return teacher


@pytest.mark.parametrize("check", TEACHER_CHECKS)
def test_contract(check, tmp_path):
    check(fitted(tmp_path), [*patients(), *patients(9, "test")])


def test_the_gene_decides_what_the_text_cannot(tmp_path):
    asked = patients(30, "test")
    truth = [LABELS.index(sample.label) for sample in asked]
    with_gene = fitted(tmp_path).log_probs(asked).argmax(1)
    text_only = fitted(tmp_path, privileged=False).log_probs(asked)
    assert (with_gene == truth).all()
    others = [row for row, i in zip(text_only, truth, strict=True) if i > 0]
    assert all(abs(row[1] - row[2]) < 0.1 for row in others)
    assert all(row.argmax() == 0 for row, i in zip(text_only, truth, strict=True) if i == 0)


def test_a_disease_without_patients_is_last(tmp_path):
    rows = fitted(tmp_path).log_probs(patients(6, "test"))
    assert (rows.argmin(1) == 3).all()


def test_training_patients_are_ranked_by_a_model_that_did_not_see_their_family(tmp_path):
    odd = replace(patients(1)[0], id="odd", group="odd", label=LABELS.names[1], privileged={"gene": "ODD9"})
    samples = [*patients(), odd]
    assert fitted(tmp_path, samples, cross_fit=0).log_probs([odd]).argmax() == 1
    assert fitted(tmp_path, samples).log_probs([odd]).argmax() != 1


def test_unlabelled_patients_are_ranked_and_not_fitted_on(tmp_path):
    blind = [replace(sample, id=f"blind{i}", label=None) for i, sample in enumerate(patients(6))]
    teacher = fitted(tmp_path, [*patients(), *blind])
    assert teacher.describe()["fitted_on"] == 60
    assert (teacher.log_probs(blind).argmax(1) == [0, 1, 2, 0, 1, 2]).all()


def test_single_words_for_free_text(tmp_path):
    notes = [replace(sample, text=sample.text.replace(", Tall", " and was tall at birth")) for sample in patients()]
    assert fitted(tmp_path, notes, unit="word").describe()["features"] > fitted(tmp_path, notes).describe()["features"]


def test_nothing_to_learn_from_is_a_sentence(tmp_path):
    silent = [replace(sample, text="", privileged={}) for sample in patients()]
    with pytest.raises(DataError, match=r"No training sample has anything .* give it a word or a privileged value"):
        fitted(tmp_path, silent)
    rows = fitted(tmp_path, [*silent[:-2], *patients()[-2:]]).log_probs(silent[-6:])  # one group of one fold has words
    assert np.isfinite(rows).all()


def test_bad_input(tmp_path):
    with pytest.raises(DataError, match="at least two labels and found 1 among 20"):
        fitted(tmp_path, [sample for sample in patients() if sample.label == LABELS.names[0]])
    with pytest.raises(DataError, match="Sample 'train0' has no text"):
        fitted(tmp_path, [replace(sample, text=None) for sample in patients()])
    assert np.isfinite(fitted(tmp_path).log_probs(patients(3))).all()
