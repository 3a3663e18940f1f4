"""The preference groups to plan with: those of an earlier run where they exist, else groups of drawn rankings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np

from mint_core.runs.store import Store
from mint_core.stages.label import Label
from mint_core.stages.outputs import PREFERENCES, RANKINGS, read_preferences, read_rankings
from mint_core.stages.prefer import Prefer
from mint_core.stages.run import Run
from mint_core.stages.stage import Manifest
from mint_core.types import PreferenceGroup, Ranking

Basis = Literal["preferences", "rankings", "drawn"]


@dataclass(frozen=True, slots=True)
class PlannedGroups:
    """The groups, and what they were made from."""

    groups: tuple[PreferenceGroup, ...]
    basis: Basis
    """preferences = a run's own; rankings = made now from a run's rankings; drawn = from rankings drawn at random."""
    run: Path | None
    """The run folder that they come from."""


def planned_groups(run: Run, store: Store) -> PlannedGroups:
    """The groups that a run would train on, without running a teacher.

    Stages that are complete for the same inputs are looked for in the store. Where there are no rankings, every sample
    gets an order of the labels drawn at random: the truth and the sizes of the lists are then right, and the lengths of
    the labels are right on average.

    Args:
        run: The run; its folder need not exist.
        store: All runs beside it.
    """
    for folder in store.find("label", Label().key(run)):
        rankings = read_rankings(folder.path / RANKINGS, run.data.labels)
        labelled = replace(run, made={"label": cast(Manifest, folder.manifest("label"))})
        for other in store.find("prefer", Prefer().key(labelled)):
            return PlannedGroups(tuple(read_preferences(other.path / PREFERENCES)), "preferences", other.path)
        return PlannedGroups(tuple(run.groups_of(rankings)), "rankings", folder.path)
    return PlannedGroups(tuple(run.groups_of(_draw(run))), "drawn", None)


def some(groups: Sequence[PreferenceGroup], count: int | None, seed: Sequence[int]) -> Sequence[PreferenceGroup]:
    """That many groups, drawn at random, in their own order; all of them for None."""
    if count is None or count >= len(groups):
        return groups
    order = np.random.default_rng(seed).permutation(len(groups))[:count]
    return [groups[place] for place in sorted(order)]


def _draw(run: Run) -> dict[str, Ranking]:
    """A random order for every training sample, all labels equally likely."""
    rng = np.random.default_rng([run.resolved.config.seed, 13])
    names = run.data.labels.names
    even = np.full(len(names), -math.log(len(names)), np.float32)
    return {
        sample.id: Ranking(sample.id, tuple(names[place] for place in rng.permutation(len(names))), even)
        for sample in run.data.split("train")
    }
