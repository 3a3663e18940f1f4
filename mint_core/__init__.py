"""mint: a multimodal teacher's preferences align a unimodal student.

    import mint_core as mint

    result = mint.run(teacher="plip", aligner="orpo")
    print(result.metrics["rows"])

Importing this package imports neither torch nor any plugin.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mint_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from mint_core.comparison.compare import Comparison, compare, sweep
    from mint_core.errors import MintError
    from mint_core.observer import Observer
    from mint_core.runs.pipeline import RunResult, run
    from mint_core.runs.preserve import Preservation, preserve
    from mint_core.runs.quality import Preferred, prefer
    from mint_core.types import LabelSpace, Prediction, PreferenceGroup, Prompt, Ranking, Sample, TaskData

_WHERE = {
    "compare": "mint_core.comparison.compare",
    "Comparison": "mint_core.comparison.compare",
    "sweep": "mint_core.comparison.compare",
    "preserve": "mint_core.runs.preserve",
    "Preservation": "mint_core.runs.preserve",
    "prefer": "mint_core.runs.quality",
    "Preferred": "mint_core.runs.quality",
    "run": "mint_core.runs.pipeline",
    "RunResult": "mint_core.runs.pipeline",
    "Observer": "mint_core.observer",
    "MintError": "mint_core.errors",
    **dict.fromkeys(
        ("LabelSpace", "Prediction", "PreferenceGroup", "Prompt", "Ranking", "Sample", "TaskData"), "mint_core.types"
    ),
}

__all__ = [
    "Comparison",
    "LabelSpace",
    "MintError",
    "Observer",
    "Prediction",
    "PreferenceGroup",
    "Preferred",
    "Preservation",
    "Prompt",
    "Ranking",
    "RunResult",
    "Sample",
    "TaskData",
    "compare",
    "hookimpl",
    "prefer",
    "preserve",
    "run",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'mint_core' has no attribute '{name}'")
