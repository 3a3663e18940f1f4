"""The six hooks of mint, in pipeline order. There is no seventh registry.

A plugin is a distribution with an entry point in the group `mint`; the entry point names a module or object with
functions marked `@mint_core.hookimpl`. Each hook takes no argument and returns a list of component classes. It is
called once, when components are discovered, and must not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from mint_core.interfaces import Aligner, Metric, PreferenceStrategy, Retriever, Task, Teacher

GROUP = "mint"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def mint_tasks() -> list[type[Task]]:  # type: ignore[empty-body]
    """Returns the task classes: label space, data sources, prompts."""


@hookspec
def mint_teachers() -> list[type[Teacher]]:  # type: ignore[empty-body]
    """Returns the teacher classes: log-probabilities over all labels."""


@hookspec
def mint_strategies() -> list[type[PreferenceStrategy]]:  # type: ignore[empty-body]
    """Returns the preference strategy classes: ranking to preference groups."""


@hookspec
def mint_aligners() -> list[type[Aligner]]:  # type: ignore[empty-body]
    """Returns the aligner classes: student and preference groups to adapter."""


@hookspec
def mint_retrievers() -> list[type[Retriever]]:  # type: ignore[empty-body]
    """Returns the retriever classes: sample to passages."""


@hookspec
def mint_metrics() -> list[type[Metric]]:  # type: ignore[empty-body]
    """Returns the metric classes: per-sample values."""
