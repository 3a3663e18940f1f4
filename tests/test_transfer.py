"""Transfer efficiency: 0, 1/2 and 1 by hand, and predictors in which a signal tells all or nothing by construction."""

import numpy as np
import pytest

from mint_core.evaluation.transfer import cross_fitted_losses, efficiency, log_probabilities, places, transfer

HOW = {"draws": 200, "confidence": 0.95, "seed": 0}
ALONE = [None] * 400


def test_eta_by_hand() -> None:
    """Losses 2 without and 0.5 with all that the teacher knows: 2 - x over 1.5."""
    own, full = np.full(40, 2.0), np.full(40, 0.5)
    for through, eta, outside in ((2.0, 0.0, False), (1.25, 0.5, False), (0.5, 1.0, False), (0.2, 1.2, True)):
        found = efficiency(own, np.full(40, through), full, ALONE[:40], **HOW)
        assert found["eta"]["mean"] == pytest.approx(eta)
        assert found["outside"] is outside
        assert (found["gained"]["mean"], found["there"]["mean"]) == pytest.approx((2 - through, 1.5))


def test_a_share_of_nothing_is_left_open() -> None:
    noise = np.random.default_rng(0).normal(0, 1, 40)
    found = efficiency(noise, noise - 0.1, noise[::-1], ALONE[:40], **HOW)
    assert (found["eta"], found["outside"]) == (None, False)
    assert found["gained"]["mean"] == pytest.approx(0.1)


def test_what_preferences_show() -> None:
    """k = 2, q = 1 of four labels: places 1 and 2, the rest 3; one is rejected."""
    shown = places([[2, 0]], [[1]], 4)
    assert shown[0, :, 0].tolist() == pytest.approx([-np.log(2), -np.log(3), 0, -np.log(3)])
    assert shown[0, :, 1].tolist() == [0, 1, 0, 0]


def test_a_predictor_that_is_right_in_three_of_four_costs_its_entropy() -> None:
    """Two labels, the signal right with 3/4: H = -3/4 log 3/4 - 1/4 log 1/4, whatever odds the signal itself claims."""
    rng = np.random.default_rng(1)
    truths = rng.integers(0, 2, 4000)
    said = np.where(rng.random(4000) < 0.75, truths, 1 - truths)
    claimed = np.log(np.where(np.eye(2)[said] == 1, 0.999, 0.001))
    losses = cross_fitted_losses(log_probabilities(claimed)[:, :, None], truths, [None] * 4000, 0)
    assert losses.mean() == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25), abs=0.02)


@pytest.fixture(scope="module")
def world() -> dict[str, np.ndarray]:
    """Four labels; the student knows nothing, the teacher is right in nine of ten."""
    rng = np.random.default_rng(0)
    truths = rng.integers(0, 4, 400)
    best = np.where(rng.random(400) < 0.9, truths, (truths + 1) % 4)
    teacher = np.log(np.where(np.eye(4)[best] == 1, 0.9, 0.1 / 3))
    return {"truths": truths, "best": best, "teacher": teacher, "student": np.zeros((400, 4))}


def moved(world: dict[str, np.ndarray], shown: np.ndarray, **students: np.ndarray) -> dict:
    return transfer(students or {"aligned": world["student"]}, world["teacher"], shown, world["truths"], ALONE, **HOW)


def test_eta_is_1_where_the_preferences_show_all_that_the_teacher_knows(world) -> None:
    """Its best label is all that it knows, and the best label stands first among the chosen ones."""
    found = moved(world, places([[best] for best in world["best"]], [[] for _ in world["best"]], 4))
    assert found["preferences"]["eta"]["mean"] == pytest.approx(1, abs=0.02)
    assert found["cross_entropy"]["student"] == pytest.approx(np.log(4), abs=0.02)
    assert "student" not in found  # there was no base student


def test_eta_is_0_where_the_preferences_are_the_same_for_everybody(world) -> None:
    found = moved(world, places([[0]] * 400, [[3]] * 400, 4))
    assert found["preferences"]["eta"]["mean"] == pytest.approx(0, abs=0.02)
    assert found["preferences"]["there"]["mean"] > 0.5


def test_of_the_student_it_is_1_where_it_learnt_the_teacher_and_0_where_it_learnt_nothing(world) -> None:
    nothing = places([[0]] * 400, [[3]] * 400, 4)
    learnt = moved(world, nothing, base=world["student"], aligned=world["teacher"])
    assert learnt["student"]["eta"]["mean"] == pytest.approx(1, abs=0.02)
    assert learnt["preferences"]["eta"] is None  # nothing is left that preferences could show
    same = moved(world, nothing, base=world["student"], aligned=world["student"])
    assert same["student"]["eta"]["mean"] == pytest.approx(0, abs=0.02)


def test_few_samples_or_one_group_are_not_estimated(world) -> None:
    few = {name: values[:19] for name, values in world.items()}
    how = ({"aligned": few["student"]}, few["teacher"], np.zeros((19, 4, 2)), few["truths"])
    assert transfer(*how, ALONE[:19], **HOW) is None
    whole = ({"aligned": world["student"]}, world["teacher"], np.zeros((400, 4, 2)), world["truths"])
    assert transfer(*whole, ["one"] * 400, **HOW) is None
