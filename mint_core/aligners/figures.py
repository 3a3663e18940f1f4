"""What a method shows of its groups: a line of the training history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mint_core.aligners.batches import Tokens


class Figures:
    """Sums of what a method shows of its groups, and of the tokens that were read."""

    def __init__(self) -> None:
        self.steps = 0
        self.sums: dict[str, float] = {}
        self.real = self.computed = 0

    def add(self, values: Mapping[str, Tensor], size: Tokens, share: float) -> None:
        """Adds the groups of one forward pass.

        Args:
            values: (groups,) each.
            size: Of the forward pass.
            share: Of one group in its step.
        """
        totals = torch.stack([value.detach().float().sum() for value in values.values()]).tolist()
        for key, total in zip(values, totals, strict=True):
            self.sums[key] = self.sums.get(key, 0.0) + total * share
        self.real += size.real
        self.computed += size.computed

    def gather(self, accelerator: Any) -> None:
        """Adds what the other processes have."""
        own = torch.tensor([*self.sums.values(), self.real, self.computed], device=accelerator.device).float()
        *sums, real, computed = accelerator.reduce(own, reduction="sum").tolist()
        self.sums = dict(zip(self.sums, sums, strict=True))
        self.real, self.computed = int(real), int(computed)

    def means(self, processes: int = 1) -> dict[str, float]:
        """Means over the steps, and the share of tokens that is padding.

        Args:
            processes: How many share a step, where only one of them was added up.
        """
        if not self.steps:
            return {}
        return {
            **{key: total * processes / self.steps for key, total in self.sums.items()},
            "padding": 1 - self.real / self.computed,
        }
