"""The stage `prefer`: the strategy turns the training split's rankings into preference groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mint_core.files import storage_errors
from mint_core.stages.outputs import PREFERENCES, write_preferences
from mint_core.stages.run import Run
from mint_core.stages.stage import Facts, Stage


class Prefer(Stage):
    """Preference groups of the training split."""

    name = "prefer"
    writes = ("preferences",)
    reads = {"label": ("rankings",)}  # noqa: RUF012 - never changed
    aligns = True

    def inputs(self, run: Run) -> dict[str, Any]:
        """Data, N and the strategy."""
        return {"data": run.data_fingerprint, "n": run.n, "strategy": run.resolved.strategy.identity()}

    def make(self, run: Run, work: Path, out: Path) -> Facts:
        """See `Stage.make`."""
        groups = run.groups_of(run.rankings())
        with storage_errors(out):
            (out / PREFERENCES).parent.mkdir(exist_ok=True)
            write_preferences(out / PREFERENCES, groups)
        unlabelled = sum(sample.label is None for sample in run.data.split("train"))
        return {"groups": len(groups), "samples_without_truth": unlabelled}
