"""The stage `report`: one HTML page from what the other stages measured."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from mint_core.files import storage_errors
from mint_core.report.html import render_report
from mint_core.stages.outputs import REPORT
from mint_core.stages.run import Run
from mint_core.stages.stage import Facts, Stage


class Report(Stage):
    """report.html."""

    name = "report"
    reads = {"evaluate": ("metrics.json", "samples.parquet")}  # noqa: RUF012 - never changed

    def inputs(self, run: Run) -> dict[str, Any]:
        """The config and the version of mint, which both stand on the page."""
        return {"run": run.resolved.dump(), "mint": version("mint-core")}

    def make(self, run: Run, work: Path, out: Path) -> Facts:
        """See `Stage.make`."""
        page = render_report(run)
        with storage_errors(out):
            (out / REPORT).write_text(page, encoding="utf-8")
        return {}
