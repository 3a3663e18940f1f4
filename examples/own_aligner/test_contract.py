"""The loss, derived by hand, and its gradient."""

from types import SimpleNamespace

import pytest
import torch
from mint_squared_gap import SquaredGap, SquaredGapConfig


def side(*averages):
    return SimpleNamespace(average=torch.tensor(averages, requires_grad=True))


def test_the_loss_by_hand():
    """Chosen -1 and -3 (weights 3/4, 1/4), rejected -2: gaps 1 and -1, wanted 1; squares 0 and 4, mean 1; nll 1.5."""
    group = SimpleNamespace(
        chosen=side(-1.0, -3.0), rejected=side(-2.0),
        chosen_weights=torch.tensor([0.75, 0.25]), rejected_weights=torch.tensor([1.0]),
    )  # fmt: skip
    found = SquaredGap(SquaredGapConfig(gap=1.0, weight=0.5)).group_loss(group)
    assert found["loss"].item() == pytest.approx(1.5 + 0.5 * 1.0)
    assert (found["nll"].item(), found["squared"].item()) == pytest.approx((1.5, 1.0))
    found["loss"].backward()
    # d/d rejected: 0.5 * (-2) * (0.75 * 0 + 0.25 * -2) = 0.5: what is likelier than wanted among the rejected falls
    assert group.rejected.average.grad.tolist() == pytest.approx([0.5])
