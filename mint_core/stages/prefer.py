"""The stage `prefer`: the strategy turns the training split's rankings into preference groups."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mint_core.files import storage_errors, write_json
from mint_core.report.quality import quality_line
from mint_core.stages.outputs import PREFERENCES, QUALITY, write_preferences
from mint_core.stages.quality import quality_of
from mint_core.stages.run import Run
from mint_core.stages.stage import Facts, Stage


class Prefer(Stage):
    """Preference groups of the training split, and how good they are."""

    name = "prefer"
    writes = ("preferences", "quality.json")
    reads = {"label": ("rankings",)}  # noqa: RUF012 - never changed
    aligns = True

    def inputs(self, run: Run) -> dict[str, Any]:
        """Data, N and the strategy."""
        return {"data": run.data_fingerprint, "n": run.n, "strategy": run.resolved.strategy.identity()}

    def make(self, run: Run, work: Path, out: Path) -> Facts:
        """See `Stage.make`."""
        rankings = run.rankings()
        groups = run.groups_of(rankings)
        quality = quality_of(run, rankings, groups)
        with storage_errors(out):
            (out / PREFERENCES).parent.mkdir(exist_ok=True)
            write_preferences(out / PREFERENCES, groups)
            write_json(out / QUALITY, quality)
        run.tell(quality_line(quality))
        unlabelled = sum(sample.label is None for sample in run.data.split("train"))
        first = next(iter(rankings.values()))
        sizes = {"k": len(run.strategy.top(first, None)), "q": len(run.strategy.bottom(first, None))}
        return {**sizes, "groups": len(groups), "samples_without_truth": unlabelled, "quality": _means(quality)}


def _means(quality: Mapping[str, Any]) -> dict[str, float]:
    return {key: round(one["mean"], 4) for key, one in quality["measures"].items() if one["mean"] is not None}
