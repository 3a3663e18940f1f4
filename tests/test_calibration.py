"""Calibration, by hand: reliability bins, ECE, Brier score, accuracy against coverage, intervals over groups."""

import numpy as np
import pytest

from mint_core.comparison.calibrated import calibrated, calibration_lines
from mint_core.evaluation.calibration import Selective, brier, calibration, ece, equal_mass, probabilities
from mint_core.evaluation.statistics import estimate, spread, times_drawn
from mint_core.report.calibration import chapter
from mint_core.report.transfer import transfer_told

HOW = {"draws": 200, "confidence": 0.95, "seed": 0}


def test_probabilities_by_hand() -> None:
    """e^0 : e^log(3) = 1 : 3; what is impossible stays impossible, and a constant per row does not matter."""
    scores = np.array([[0.0, np.log(3), -np.inf], [7.0, 7.0, 7.0]], np.float32)
    assert probabilities(scores).tolist() == [pytest.approx([0.25, 0.75, 0]), pytest.approx([1 / 3] * 3)]


def test_brier_by_hand() -> None:
    """0.3^2 + 0.2^2 + 0.1^2 = 0.14, and 0.5^2 + 0.7^2 + 0.2^2 = 0.78; sure and wrong is 2."""
    shares = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
    assert brier(shares, np.array([0, 1, 2])).tolist() == pytest.approx([0.14, 0.78, 2.0])


def test_ece_by_hand() -> None:
    """20 answers, two bins of ten. At 0.6, 5 of 10 are right; at 0.9, 8 of 10: 0.5 * 0.1 + 0.5 * 0.1 = 0.1."""
    sure = np.array([0.9, 0.6] * 10)
    right = np.array([float(i < (10 if i % 2 else 16)) for i in range(20)])
    bins = equal_mass(sure)
    assert bins.tolist() == [1, 0] * 10
    assert ece(sure, right, bins) == pytest.approx(0.1)
    # Counted twice, the ten at 0.9 weigh 2 : 1, and with errors of equal size nothing changes; without them 0.6 stays.
    assert ece(sure, right, bins, np.where(sure > 0.8, 2.0, 1.0)) == pytest.approx(0.1)
    # In one bin the two errors are 0.1 each in one direction: 13 of 20 right at 0.75 on average.
    assert ece(sure, right, np.zeros(20, int)) == pytest.approx(0.75 - 13 / 20)


def test_bins_hold_ten_samples_or_more_and_do_not_cut_equal_ones_apart() -> None:
    assert np.bincount(equal_mass(np.linspace(0, 1, 100))).tolist() == [10] * 10
    assert np.bincount(equal_mass(np.linspace(0, 1, 45))).tolist() == [12, 11, 11, 11]
    assert np.bincount(equal_mass(np.linspace(0, 1, 9))).tolist() == [9]
    tied = np.array([0.5] * 15 + [0.9] * 5)
    assert equal_mass(tied).tolist() == [0] * 15 + [1] * 5


def test_accuracy_against_coverage_by_hand() -> None:
    """Right, right, wrong, right in the order of confidence: 1, 1, 2/3, 3/4; area (0 + 0 + 1/3 + 1/4) / 4 = 7/48."""
    sure, right = np.array([0.6, 0.9, 0.5, 0.8]), np.array([0.0, 1.0, 1.0, 1.0])
    selective = Selective(sure, right)
    accurate = selective.accuracies(np.ones(4))
    assert accurate.tolist() == pytest.approx([1, 1, 2 / 3, 3 / 4])
    assert np.mean(1 - accurate) == pytest.approx(7 / 48)
    assert [selective.threshold(m) for m in (1, 2, 3, 4)] == [0.9, 0.8, 0.6, 0.5]
    # The wrong one drawn twice and the first left out: 1, 1/2, 1/3, 2/4.
    assert selective.accuracies(np.array([2.0, 0.0, 1.0, 1.0])).tolist() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 2])
    # Two of one confidence, one of them right: half an answer is right where one of them is given.
    assert Selective(np.array([0.5, 0.5]), np.array([1.0, 0.0])).accuracies(np.ones(2)).tolist() == [0.5, 0.5]


def test_draws_are_those_of_an_estimate() -> None:
    values, groups = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0], ["a", "a", None, "b", "b", None]
    drawn = [float(times @ values / times.sum()) for times in times_drawn(groups, 50, 3)]
    known = estimate(values, groups, draws=50, confidence=0.9, seed=3)
    assert spread(0.5, drawn, groups, 0.9) == known
    assert all(times[0] == times[1] and times[3] == times[4] for times in times_drawn(groups, 5, 3))


def test_all_measures_of_a_variant() -> None:
    """40 answers at 0.8, 30 of them right; 2 labels. ECE 0.05, Brier 2 * (0.75 * 0.2^2 + 0.25 * 0.8^2) = 0.38."""
    scores = np.log(np.tile([0.8, 0.2], (40, 1)))
    truths = np.array([int(i >= 30) for i in range(40)])
    found = calibration(scores, np.zeros(40, int), truths, [f"g{i // 2}" for i in range(40)], **HOW)
    assert (found["n"], found["clusters"]) == (40, 20)
    named = {key: found[key]["mean"] for key in ("accuracy", "confidence", "ece", "brier", "aurc")}
    assert named == pytest.approx({"accuracy": 0.75, "confidence": 0.8, "ece": 0.05, "brier": 0.38, "aurc": 0.25})
    assert found["accuracy"]["low"] < 0.75 < found["accuracy"]["high"]
    [only] = found["bins"]
    assert (only["n"], only["from"], only["to"]) == (40, pytest.approx(0.8), pytest.approx(0.8))
    assert [(point["coverage"], point["n"]) for point in found["curve"]][::19] == [(0.05, 2), (1.0, 40)]
    # |k/40 - 0.8| with k binomial (40, 0.8): a mean absolute deviation of about sqrt(2 / pi) * 0.0632 = 0.0505.
    assert found["ece_by_chance"] == pytest.approx(0.05, abs=0.01)


def test_confidence_is_that_of_the_first_answer_whatever_ranked_it() -> None:
    """With another order than that of the likelihoods, the first answer may be the second likeliest label."""
    found = calibration(np.log([[0.7, 0.3]] * 20), np.ones(20, int), np.ones(20, int), [None] * 20, **HOW)
    assert (found["confidence"]["mean"], found["accuracy"]["mean"]) == (pytest.approx(0.3), 1.0)


def test_a_comparison_tells_every_seed_and_their_spread() -> None:
    """ECE 10 and 20 percent: mean 15, SD 7.1; Brier scores 0.3 and 0.5: 0.4, SD 0.141."""

    def metrics(ece: float, brier: float) -> dict:
        one = {"ece": {"mean": ece, "low": 0.0, "high": 1.0}, "brier": {"mean": brier, "low": 0.0, "high": 1.0}}
        return {"calibration": {"variants": {"aligned": {"n": 9, "clusters": 9, "ece_by_chance": 0.05, **one}}}}

    found = calibrated({0: metrics(0.1, 0.3), 1: metrics(0.2, 0.5)}, "aligned")["calibration"]
    assert list(calibration_lines("orpo", found)) == [
        ["orpo", "9", "15.0 ±7.1", "", "0.400 ±0.141"],
        ["orpo, seed 0", "9", "10.0 [0.0, 100.0]", "5.0", "0.300 [0.000, 1.000]"],
        ["orpo, seed 1", "9", "20.0 [0.0, 100.0]", "5.0", "0.500 [0.000, 1.000]"],
    ]
    assert calibrated({0: metrics(0.1, 0.3)}, "base") == {}
    assert list(calibration_lines("base", {})) == []


def test_the_chapter_shows_what_there_is() -> None:
    scores = np.log(np.tile([0.8, 0.2], (40, 1)))
    one = calibration(scores, np.zeros(40, int), np.arange(40) % 2, [None] * 40, **HOW)
    shown = chapter({"calibration": {"subset": "all", "variants": {"aligned": one, "teacher": one}}})
    assert [title for title, _ in shown["rows"]] == ["aligned student", "teacher"]
    assert shown["rows"][0][1][:2] == [
        "40",
        f"50.0 [{100 * one['accuracy']['low']:.1f}, {100 * one['accuracy']['high']:.1f}]",
    ]
    assert "1 bin of 40" in shown["reliability"] and "aligned student" in shown["coverage"]
    assert shown["students"] is True
    assert chapter({"calibration": {"subset": "all", "variants": {"teacher": one}}})["students"] is False
    assert chapter({}) is None


def test_transfer_is_told_with_its_parts_and_its_doubts() -> None:
    nats = {"mean": 0.5, "low": 0.25, "high": 0.75}
    part = {"gained": nats, "there": nats, "eta": {"mean": 1.0, "low": 0.9, "high": 1.125}, "outside": True}
    content = {"n": 40, "clusters": 20, "cross_entropy": {"student": 1.5, "teacher": 1.0}, "preferences": part}
    told, basis = transfer_told({"transfer": content})
    assert "carry eta = 1.00 [0.90, 1.12]" in told and "0.500 [0.250, 0.750] of" in told and "leave [0, 1]" in told
    assert basis.endswith("40 samples in 20 groups, cross-fitted: student 1.50, teacher 1.00.")
    open_ = {**part, "eta": None, "outside": False}
    assert "not estimated" in transfer_told({"transfer": {**content, "preferences": open_}})[0]
    assert transfer_told({}) == []
