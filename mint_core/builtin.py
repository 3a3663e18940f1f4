"""What mint-core itself registers, through the same hooks as any other plugin."""

from __future__ import annotations

from mint_core.aligners.dpo import Dpo, MultDpo
from mint_core.aligners.kl import Kl
from mint_core.aligners.orpo import Orpo
from mint_core.aligners.sft import Sft
from mint_core.aligners.simpo import Simpo
from mint_core.hookspecs import hookimpl
from mint_core.interfaces import Aligner, PreferenceStrategy, Task, Teacher
from mint_core.preferences.near_miss import NearMiss
from mint_core.preferences.topk import Listwise, Pairwise
from mint_core.tasks.table import TableTask
from mint_core.teachers.ensemble import Ensemble
from mint_core.teachers.features import Features
from mint_core.teachers.file import RankingsFile
from mint_core.teachers.vlm import Vlm


@hookimpl
def mint_tasks() -> list[type[Task]]:
    """The built-in tasks."""
    return [TableTask]


@hookimpl
def mint_teachers() -> list[type[Teacher]]:
    """The built-in teachers."""
    return [Ensemble, Features, RankingsFile, Vlm]


@hookimpl
def mint_strategies() -> list[type[PreferenceStrategy]]:
    """The built-in preference strategies."""
    return [Listwise, Pairwise, NearMiss]


@hookimpl
def mint_aligners() -> list[type[Aligner]]:
    """The built-in aligners."""
    return [Sft, Dpo, Orpo, Simpo, MultDpo, Kl]
