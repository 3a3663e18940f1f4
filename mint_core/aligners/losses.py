"""The losses, as pure functions of fp32 tensors.

ORPO (Hong et al. 2024, section 4.1) and the SFT term take log-probabilities averaged over the response tokens,
log p(y|x) = 1/|y| * sum_t log p(y_t | x, y_<t); DPO takes their sum.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_LOG_PROB = -1e-6
"""Log-probabilities nearer to 0 than this count as this: p = 1 has infinite odds."""


class ResponseLogProbs(NamedTuple):
    """What the losses need of each response."""

    average: Tensor
    """(rows,) fp32: mean log-probability per response token."""
    total: Tensor
    """(rows,) fp32: sum over the response tokens."""
    tokens: Tensor
    """(rows,) int64: response tokens."""


def response_log_probs(logits: Tensor, labels: Tensor) -> ResponseLogProbs:
    """Log-probabilities of the tokens that `labels` marks.

    Args:
        logits: (rows, length, vocabulary), any precision; position t predicts token t + 1.
        labels: (rows, length): token ids where they count, -100 elsewhere.

    Returns:
        Sums and means over the marked tokens, computed in fp32.

    Raises:
        ValueError: A row has no marked token: an empty response has no probability.
    """
    targets = labels[:, 1:]  # (rows, length - 1)
    marked = targets != -100
    tokens = marked.sum(dim=1)
    if not bool((tokens > 0).all()):
        raise ValueError("a response is empty")
    rows, positions = marked.nonzero(as_tuple=True)
    log_probs = -F.cross_entropy(logits[rows, positions].float(), targets[rows, positions], reduction="none")
    total = torch.zeros(len(labels), device=logits.device).index_add(0, rows, log_probs)
    return ResponseLogProbs(total / tokens, total, tokens)


class _LogOdds(torch.autograd.Function):
    """log p - log(1 - p) from x = log p, with value and gradient finite up to p = 1.

    The gradient is -1 / expm1(x). Differentiating log(1 - exp(x)) through `torch.where` gives NaN near 0, because both
    branches are differentiated.
    """

    @staticmethod
    def forward(ctx: Any, log_p: Tensor) -> Tensor:
        clamped = log_p.clamp(max=MAX_LOG_PROB)
        ctx.save_for_backward(clamped)
        return clamped - torch.log(-torch.expm1(clamped))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (clamped,) = ctx.saved_tensors
        return gradients[0] * (-1 / torch.expm1(clamped))


def log_odds(log_p: Tensor) -> Tensor:
    """log(p / (1 - p)) from log p.

    Args:
        log_p: Natural logarithms, at most 0, any shape.

    Returns:
        Same shape; at most 13.8 (p = 1 - 1e-6).
    """
    return cast(Tensor, _LogOdds.apply(log_p))


class OrpoLoss(NamedTuple):
    """The parts of ORPO, one value per pair."""

    loss: Tensor
    nll: Tensor
    odds_ratio: Tensor
    """-log sigmoid(log odds(y_w) - log odds(y_l))."""


def orpo_loss(chosen: Tensor, rejected: Tensor, nll: Tensor, weight: float) -> OrpoLoss:
    """ORPO: L = L_SFT + lambda * -log sigmoid(log odds(y_w) - log odds(y_l)), odds(y) = p(y) / (1 - p(y)).

    Source: Hong et al. 2024, equations 6 and 7; MINT, section "Align".

    Args:
        chosen: (pairs,) mean log-probability per token of the chosen response.
        rejected: (pairs,) the same of the rejected response.
        nll: (pairs,) the SFT term: mean negative log-likelihood per token.
        weight: lambda.
    """
    odds_ratio = -F.logsigmoid(log_odds(chosen) - log_odds(rejected))
    return OrpoLoss(nll + weight * odds_ratio, nll, odds_ratio)


class DpoLoss(NamedTuple):
    """The parts of DPO, one value per pair."""

    loss: Tensor
    chosen_reward: Tensor
    """beta * (log p - log p_ref) of the chosen response; the rejected one below."""
    rejected_reward: Tensor


def dpo_loss(
    chosen: Tensor, rejected: Tensor, chosen_reference: Tensor, rejected_reference: Tensor, beta: float
) -> DpoLoss:
    """DPO: L = -log sigmoid(beta * log(p(y_w) / p_ref(y_w)) - beta * log(p(y_l) / p_ref(y_l))).

    Source: Rafailov et al. 2023, equation 7; MINT, section "Align". All arguments are log-probabilities summed over the
    response tokens, of shapes that broadcast to the pairs.

    Args:
        chosen: Under the student, of the chosen response.
        rejected: The same of the rejected response.
        chosen_reference: Under the frozen reference.
        rejected_reference: The same of the rejected response.
        beta: How far the student may move from the reference: the smaller, the farther.
    """
    chosen_reward = beta * (chosen - chosen_reference)
    rejected_reward = beta * (rejected - rejected_reference)
    return DpoLoss(-F.logsigmoid(chosen_reward - rejected_reward), chosen_reward, rejected_reward)


def simpo_loss(chosen: Tensor, rejected: Tensor, beta: float, margin: float) -> Tensor:
    """SimPO: L = -log sigmoid(beta * (log p(y_w) - log p(y_l)) - margin), log p a mean over the response tokens.

    Source: Meng et al. 2024; it has no reference model.

    Args:
        chosen: Mean log-probability per token of the chosen response; shapes broadcast to the pairs.
        rejected: The same of the rejected response.
        beta: Scale of the reward.
        margin: gamma, by how much the chosen reward should be larger.
    """
    return -F.logsigmoid(beta * (chosen - rejected) - margin)


def candidate_loss(chosen: Tensor, rejected: Tensor, chosen_weights: Tensor) -> Tensor:
    """Cross-entropy of a distribution over all responses of a group: -sum_i w_i log softmax(s)_i.

    The softmax runs over the scores s of chosen and rejected responses alike; the rejected ones have no share.

    Args:
        chosen: (k',) scores.
        rejected: (q',) scores.
        chosen_weights: (k',), summing to 1.

    Returns:
        A scalar, at least the entropy of the weights.
    """
    everything = torch.logsumexp(torch.cat([chosen, rejected]), dim=0)
    return chosen_weights @ (everything - chosen)


def set_mean(pairs: Tensor, chosen_weights: Tensor, rejected_weights: Tensor) -> Tensor:
    """The weighted mean over all pairs of a group: sum_ij w_i v_j pair_ij.

    With equal weights it is the mean over the k' * q' pairs.

    Args:
        pairs: (k', q').
        chosen_weights: (k',), summing to 1.
        rejected_weights: (q',), summing to 1.
    """
    return chosen_weights @ pairs @ rejected_weights
