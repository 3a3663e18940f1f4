"""The losses: numbers derived by hand, limits, and the same values as TRL where it is installed."""

import importlib.util
import math
import warnings
from types import SimpleNamespace

import pytest
import torch

from mint_core.aligners.losses import (
    MAX_LOG_PROB,
    candidate_loss,
    dpo_loss,
    log_odds,
    orpo_loss,
    response_log_probs,
    set_mean,
    simpo_loss,
)

HALF, FIFTH = math.log(1 / 2), math.log(1 / 5)


def naive_odds_ratio(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Equation 7 of Hong et al. as it is printed, in float64."""
    odds = [torch.exp(x) / (1 - torch.exp(x)) for x in (chosen.double(), rejected.double())]
    return -torch.log(torch.sigmoid(torch.log(odds[0] / odds[1])))


def test_orpo_of_known_probabilities() -> None:
    """By hand, for p_w = 1/2 and p_l = 1/5.

    odds_w = (1/2) / (1/2) = 1, odds_l = (1/5) / (4/5) = 1/4, so that the odds ratio is 4.
    -log sigmoid(log 4) = log(1 + 1/4) = log 1.25 = 0.22314; the SFT term is log 2 = 0.69315.
    With lambda = 0.1: 0.69315 + 0.02231 = 0.71546.
    """
    parts = orpo_loss(torch.tensor([HALF]), torch.tensor([FIFTH]), torch.tensor([-HALF]), 0.1)
    assert parts.odds_ratio.item() == pytest.approx(math.log(1.25), rel=1e-6)
    assert parts.nll.item() == pytest.approx(math.log(2), rel=1e-6)
    assert parts.loss.item() == pytest.approx(0.715462, abs=1e-6)


def test_orpo_of_equal_probabilities() -> None:
    """By hand: the odds ratio is 1, and -log sigmoid(0) = log 2, whatever p is."""
    same = torch.tensor([HALF, FIFTH, -1e-3, -30.0])
    parts = orpo_loss(same, same, -same, 1.0)
    assert parts.odds_ratio.tolist() == pytest.approx([math.log(2)] * 4, rel=1e-6)
    assert torch.allclose(parts.loss, math.log(2) - same)


def test_gradient_of_orpo_by_hand() -> None:
    """By hand, for p_w = 1/2 and p_l = 1/5 with lambda = 1.

    d(-log sigmoid z)/dz = -sigmoid(-z) = -1 / (1 + 4) = -1/5, and d log odds / d log p = 1 / (1 - p).
    d/d log p_w = -1 (SFT) - 1/5 * 1 / (1/2) = -1.4; d/d log p_l = 1/5 * 1 / (4/5) = 0.25.
    """
    chosen = torch.tensor([HALF], requires_grad=True)
    rejected = torch.tensor([FIFTH], requires_grad=True)
    orpo_loss(chosen, rejected, -chosen, 1.0).loss.sum().backward()
    assert chosen.grad.item() == pytest.approx(-1.4, rel=1e-5)
    assert rejected.grad.item() == pytest.approx(0.25, rel=1e-5)


def test_weight_zero_is_plain_sft() -> None:
    chosen = torch.tensor([HALF, 0.0], requires_grad=True)
    rejected = torch.tensor([0.0, 0.0], requires_grad=True)
    parts = orpo_loss(chosen, rejected, -chosen, 0.0)
    assert torch.equal(parts.loss, -chosen)
    parts.loss.sum().backward()
    assert chosen.grad.tolist() == [-1.0, -1.0]
    assert rejected.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("chosen", [0.0, -1e-8, -1e-6, HALF])
@pytest.mark.parametrize("rejected", [0.0, -1e-8, HALF, -80.0])
def test_value_and_gradient_are_finite_up_to_certainty(chosen: float, rejected: float) -> None:
    """At log p = -1e-8, fp32 rounds p to 1: TRL's form gives a finite loss there and a NaN gradient."""
    pair = [torch.tensor([x], requires_grad=True) for x in (chosen, rejected)]
    loss = orpo_loss(pair[0], pair[1], -pair[0], 1.0).loss
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert all(torch.isfinite(x.grad).all() for x in pair)
    assert pair[0].grad.item() < 0  # the chosen response is pushed up, even where it is already certain
    assert pair[1].grad.item() >= 0


def test_log_odds_stop_where_fp32_stops() -> None:
    """By hand: log(1 - p) = log(1e-6) = -13.8155 for the largest log p that counts."""
    found = log_odds(torch.tensor([0.0, -1e-8, MAX_LOG_PROB, HALF, -100.0]))
    assert found.tolist() == pytest.approx([13.8155, 13.8155, 13.8155, 0.0, -100.0], abs=1e-4)


def test_certain_responses_from_bf16_logits() -> None:
    """A logit gap of 90 in bf16: log p is exactly 0 in fp32, and the gradient on the logits stays finite."""
    logits = torch.zeros(2, 4, 8, dtype=torch.bfloat16)
    labels = torch.tensor([[-100, 3, 4, 5], [-100, 3, 4, 6]])
    for position, token in enumerate((3, 4, 5)):
        logits[:, position, token] = 90
    logits.requires_grad_()
    scored = response_log_probs(logits, labels)
    assert scored.average.dtype == torch.float32
    assert scored.average[0] == 0
    assert scored.average[1].item() == pytest.approx(-30)
    loss = orpo_loss(scored.average[:1], scored.average[1:], -scored.average[:1], 1.0).loss
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()


def test_the_gradient_is_that_of_the_printed_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    values = -torch.rand(200, 2, generator=generator) * 12 - 1e-3
    ours = values.clone().requires_grad_()
    printed = values.double().requires_grad_()
    found = orpo_loss(ours[:, 0], ours[:, 1], -ours[:, 0], 1.0).odds_ratio
    expected = naive_odds_ratio(printed[:, 0], printed[:, 1])
    found.sum().backward()
    expected.sum().backward()
    assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-6)
    assert torch.allclose(ours.grad.double(), printed.grad, rtol=1e-4, atol=1e-6)


def test_log_odds_pass_gradcheck() -> None:
    values = torch.tensor([-1e-2, -0.3, -1.0, -9.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_odds, (values,))


def test_the_set_wise_mean_is_the_mean_over_expanded_pairs() -> None:
    generator = torch.Generator().manual_seed(1)
    chosen, rejected = -torch.rand(3, generator=generator), -torch.rand(4, generator=generator)
    grid = orpo_loss(chosen[:, None], rejected[None, :], -chosen[:, None], 0.7)
    pairs = [
        orpo_loss(chosen[i : i + 1], rejected[j : j + 1], -chosen[i : i + 1], 0.7) for i in range(3) for j in range(4)
    ]
    assert grid.loss.shape == (3, 4)
    assert grid.loss.mean().item() == pytest.approx(sum(p.loss.item() for p in pairs) / 12, rel=1e-6)
    # The SFT term counts every chosen response alike, since each stands in q' pairs.
    assert grid.nll.mean().item() == pytest.approx(-chosen.mean().item(), rel=1e-6)


def known_logits(rows: list[list[list[float]]]) -> torch.Tensor:
    """Logits from probabilities."""
    return torch.tensor(rows).log()


def test_the_last_prompt_token_predicts_the_first_response_token() -> None:
    """By hand: a prompt of two tokens, the response (2, 0), and what each position predicts.

    Position 1, the last of the prompt, gives token 2 the probability 1/2; position 2 gives token 0 the probability 1/4.
    Sum: log 1/8; mean: log(1/8) / 2. Positions 0 and 3 do not count, though they are certain.
    """
    logits = known_logits([[[1.0, 1e-9, 1e-9], [0.25, 0.25, 0.5], [0.25, 0.5, 0.25], [1e-9, 1e-9, 1.0]]])
    scored = response_log_probs(logits, torch.tensor([[-100, -100, 2, 0]]))
    assert scored.tokens.tolist() == [2]
    assert scored.total.item() == pytest.approx(math.log(1 / 8), rel=1e-5)
    assert scored.average.item() == pytest.approx(math.log(1 / 8) / 2, rel=1e-5)


def test_responses_of_one_token_and_of_several() -> None:
    """By hand: every token has probability 1/4, whatever the padding behind it holds."""
    logits = torch.zeros(2, 5, 4)
    logits[0, 2:] = torch.tensor([50.0, 0, 0, 0])  # behind the response
    scored = response_log_probs(logits, torch.tensor([[-100, -100, 1, -100, -100], [-100, -100, 1, 2, 3]]))
    assert scored.tokens.tolist() == [1, 3]
    assert scored.average.tolist() == pytest.approx([math.log(1 / 4)] * 2)
    assert scored.total.tolist() == pytest.approx([math.log(1 / 4), 3 * math.log(1 / 4)])


def test_an_empty_response_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        response_log_probs(torch.zeros(2, 3, 4), torch.tensor([[-100, 1, 2], [-100, -100, -100]]))
    # The first token of a row is predicted by nothing, so that it cannot be the whole response.
    with pytest.raises(ValueError, match="empty"):
        response_log_probs(torch.zeros(1, 3, 4), torch.tensor([[1, -100, -100]]))


def test_only_marked_positions_get_gradients() -> None:
    logits = torch.zeros(1, 4, 5, requires_grad=True)
    response_log_probs(logits, torch.tensor([[-100, -100, 3, -100]])).total.sum().backward()
    assert logits.grad.abs().sum(dim=-1)[0].bool().tolist() == [False, True, False, False]


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed; mint does not depend on it")
def test_the_odds_ratio_is_that_of_trl() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        orpo = pytest.importorskip("trl.experimental.orpo", reason="this trl has no ORPO", exc_type=ImportError)
    generator = torch.Generator().manual_seed(2)
    chosen, rejected = -torch.rand(2, 64, generator=generator) * 8 - 1e-2
    owner = SimpleNamespace(beta=0.3, accelerator=SimpleNamespace(device="cpu"))
    theirs, *_ = orpo.ORPOTrainer.odds_ratio_loss(owner, chosen, rejected)  # beta * log sigmoid, to be subtracted
    ours = orpo_loss(chosen, rejected, torch.zeros_like(chosen), 0.3)
    assert torch.allclose(ours.loss, -theirs, rtol=1e-5, atol=1e-6)


# DPO.


def test_dpo_of_known_ratios() -> None:
    """By hand, with beta = 1/2: the chosen response doubled its probability, the rejected one fell to 1/8 of it.

    p_w / p_ref = 2 and p_l / p_ref = 1/8, so that the gap of the log-ratios is log 2 - log(1/8) = log 16, and half of
    it log 4. L = -log sigmoid(log 4) = log(1 + 1/4) = log 1.25 = 0.22314.
    """
    chosen, rejected = torch.tensor([math.log(0.2)]), torch.tensor([math.log(0.01)])
    parts = dpo_loss(chosen, rejected, torch.tensor([math.log(0.1)]), torch.tensor([math.log(0.08)]), 0.5)
    assert parts.loss.item() == pytest.approx(math.log(1.25), rel=1e-5)
    assert parts.chosen_reward.item() == pytest.approx(0.5 * math.log(2), rel=1e-5)
    assert parts.rejected_reward.item() == pytest.approx(-0.5 * math.log(8), rel=1e-5)


def test_dpo_at_the_reference_is_log_2() -> None:
    """By hand: both ratios are 1, whatever the probabilities are, and -log sigmoid(0) = log 2."""
    chosen, rejected = torch.tensor([-1.0, -700.0]), torch.tensor([-9.0, 0.0])
    assert dpo_loss(chosen, rejected, chosen, rejected, 0.1).loss.tolist() == pytest.approx([math.log(2)] * 2)


def test_gradient_of_dpo_by_hand() -> None:
    """By hand, for the ratios above: dL/d log p_w = -beta * sigmoid(-log 4) = -1/2 * 1/5 = -0.1; p_l the opposite."""
    chosen = torch.tensor([math.log(0.2)], requires_grad=True)
    rejected = torch.tensor([math.log(0.01)], requires_grad=True)
    dpo_loss(chosen, rejected, torch.tensor([math.log(0.1)]), torch.tensor([math.log(0.08)]), 0.5).loss.backward()
    assert chosen.grad.item() == pytest.approx(-0.1, rel=1e-5)
    assert rejected.grad.item() == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize("chosen", [0.0, -1e-8, -50.0, -1e4])
@pytest.mark.parametrize("rejected", [0.0, -50.0, -1e4])
@pytest.mark.parametrize("reference", [0.0, -1e4])
def test_dpo_is_finite_at_the_extremes(chosen: float, rejected: float, reference: float) -> None:
    pair = [torch.tensor([x], requires_grad=True) for x in (chosen, rejected)]
    far = torch.tensor([reference])
    loss = dpo_loss(pair[0], pair[1], far, torch.tensor([0.0]), 1.0).loss
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert all(torch.isfinite(x.grad).all() and abs(x.grad.item()) <= 1 for x in pair)
    assert pair[0].grad.item() <= 0 <= pair[1].grad.item()


# Sets.


def test_the_weighted_mean_over_pairs_by_hand() -> None:
    """By hand: w = (3/4, 1/4), v = (1/2, 1/2) over ((1, 3), (5, 7)): 3/4 * 2 + 1/4 * 6 = 3."""
    pairs = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    assert set_mean(pairs, torch.tensor([0.75, 0.25]), torch.tensor([0.5, 0.5])).item() == 3.0


def test_equal_weights_are_the_plain_mean() -> None:
    pairs = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    found = set_mean(pairs, torch.full((3,), 1 / 3), torch.full((4,), 1 / 4))
    assert found.item() == pytest.approx(pairs.mean().item(), rel=1e-6)


def test_simpo_by_hand() -> None:
    """By hand, for log p_w = -0.5, log p_l = -1.5, beta = 2, margin = 1: z = 2 * 1 - 1 = 1.

    -log sigmoid(1) = log(1 + e^-1) = 0.313262; d/dz = -sigmoid(-1) = -0.268941, times beta = -0.537883.
    """
    chosen = torch.tensor([-0.5], requires_grad=True)
    loss = simpo_loss(chosen, torch.tensor([-1.5]), 2.0, 1.0)
    loss.sum().backward()
    assert loss.item() == pytest.approx(0.313262, abs=1e-6)
    assert chosen.grad.item() == pytest.approx(-0.537883, abs=1e-6)


def test_candidate_loss_by_hand() -> None:
    """By hand, for scores log 4 and log 2 (chosen, shares 3/4 and 1/4) and log 1 and log 1 (rejected).

    The softmax is 4/8, 2/8, 1/8, 1/8. Loss = 3/4 log 2 + 1/4 log 4 = 5/4 log 2 = 0.866434.
    Its gradient is softmax - shares: 1/2 - 3/4, 1/4 - 1/4, 1/8, 1/8.
    """
    chosen = torch.tensor([4.0, 2.0]).log().requires_grad_()
    rejected = torch.tensor([1.0, 1.0]).log().requires_grad_()
    loss = candidate_loss(chosen, rejected, torch.tensor([0.75, 0.25]))
    loss.backward()
    assert loss.item() == pytest.approx(1.25 * math.log(2), rel=1e-6)
    assert chosen.grad.tolist() == pytest.approx([-0.25, 0.0], abs=1e-6)
    assert rejected.grad.tolist() == pytest.approx([0.125, 0.125], abs=1e-6)


def test_candidate_loss_of_one_pair_is_dpo() -> None:
    """With one response on each side the softmax is a sigmoid of the difference of rewards."""
    chosen, rejected, references = torch.tensor([-3.0]), torch.tensor([-4.0]), torch.tensor([-3.5])
    pair = dpo_loss(chosen, rejected, references, references, 0.3).loss
    assert torch.allclose(
        candidate_loss(0.3 * (chosen - references), 0.3 * (rejected - references), torch.ones(1)), pair.squeeze()
    )


def test_candidate_loss_bounds_the_sum_over_orders_from_above() -> None:
    """Two chosen, one rejected: the marginal of Plackett-Luce over both orders is at most the multinomial's surrogate.

    By hand, with weights a, b and c of the rewards' exponentials and s = a + b + c:
    P(chosen first, in any order) = a/s * b/(b + c) + b/s * a/(a + c), and the surrogate's sum is -log(a/s) - log(b/s).
    """
    for a, b, c in ((1.0, 1.0, 1.0), (5.0, 2.0, 0.1), (0.2, 3.0, 4.0)):
        s = a + b + c
        marginal = -math.log(a / s * b / (b + c) + b / s * a / (a + c))
        scores = torch.tensor([a, b]).log(), torch.tensor([c]).log()
        surrogate = 2 * candidate_loss(*scores, torch.tensor([0.5, 0.5])).item()
        assert surrogate == pytest.approx(-math.log(a / s) - math.log(b / s), rel=1e-5)
        assert surrogate >= marginal
