"""The preference groups to plan with: those of an earlier run where they exist, else groups of drawn rankings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mint_core.files import digest_of
from mint_core.runs.context import PREFERENCES, RANKINGS, Context
from mint_core.runs.folder import Manifest, RunFolder
from mint_core.runs.pipeline import stage_inputs
from mint_core.runs.tables import read_preferences, read_rankings
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


def planned_groups(context: Context) -> PlannedGroups:
    """The groups that a run would train on, without running a teacher.

    All run folders beside this run's are searched for stages that are complete for the same inputs. Where there are no
    rankings, every sample gets an order of the labels drawn at random: the truth and the sizes of the lists are then
    right, and the lengths of the labels are right on average.

    Args:
        context: The run; its folder need not exist.
    """
    labelled = list(_labelled(context))
    for folder, label in labelled:
        prefer = digest_of(stage_inputs(context, "prefer", {"label": label}))
        if folder.complete("prefer", prefer):
            return PlannedGroups(tuple(read_preferences(folder.path / PREFERENCES)), "preferences", folder.path)
    for folder, _ in labelled:
        rankings = read_rankings(folder.path / RANKINGS, context.data.labels)
        return PlannedGroups(_make(context, rankings), "rankings", folder.path)
    return PlannedGroups(_make(context, _draw(context)), "drawn", None)


def _labelled(context: Context) -> Iterator[tuple[RunFolder, Manifest]]:
    """Run folders whose rankings are those of this run, its own first."""
    key = digest_of(stage_inputs(context, "label", {}))
    own = context.folder.path
    others = sorted(path.parent.parent for path in own.parent.glob("*/stages/label.json"))
    for path in dict.fromkeys((own, *others)):
        folder = RunFolder(path)
        manifest = folder.complete("label", key)
        if manifest is not None:
            yield folder, manifest


def _make(context: Context, rankings: dict[str, Ranking]) -> tuple[PreferenceGroup, ...]:
    train = context.data.split("train")
    strategy = context.strategy
    strategy.fit([rankings[sample.id] for sample in train], [sample.label for sample in train])
    return tuple(group for sample in train for group in strategy.groups(rankings[sample.id], sample.label))


def _draw(context: Context) -> dict[str, Ranking]:
    """A random order for every training sample, all labels equally likely."""
    rng = np.random.default_rng([context.resolved.config.seed, 13])
    names = context.data.labels.names
    even = np.full(len(names), -math.log(len(names)), np.float32)
    return {
        sample.id: Ranking(sample.id, tuple(names[place] for place in rng.permutation(len(names))), even)
        for sample in context.data.split("train")
    }
