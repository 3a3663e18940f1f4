"""What `make robust` tries, and how much of it the ordinary suite does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.robustness.canaries import canaries
from tests.robustness.corruption import matrix
from tests.robustness.disks import full_disks
from tests.robustness.fuzzing import bad_inputs
from tests.robustness.kills import kills, power_cuts
from tests.robustness.memory import short_memories
from tests.robustness.table import Trial
from tests.robustness.world import World


@dataclass(frozen=True)
class Part:
    """One part of the table."""

    trials: Callable[[World, int], Iterator[Trial]]
    whole: int
    """Trials of `make robust`."""
    sample: int
    """Trials of the ordinary suite."""


PARTS = {
    "kills": Part(kills, 200, 4),
    "power": Part(power_cuts, 60, 2),
    "disks": Part(full_disks, 50, 4),
    "memory": Part(short_memories, 20, 1),
    "damage": Part(matrix, 0, 6),
    "inputs": Part(bad_inputs, 60, 4),
    "canaries": Part(canaries, 0, 1),
}
