"""The stage `report`: one HTML page from what the other stages measured."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mint_core.answering.endpoint import shown
from mint_core.files import read_json, storage_errors
from mint_core.report.html import Page, render_report
from mint_core.stages.outputs import HISTORY, METRICS, REPORT
from mint_core.stages.run import Run
from mint_core.stages.stage import Facts, Stage


class Report(Stage):
    """report.html."""

    name = "report"
    writes = ("report.html",)
    judges = True
    reads = {"evaluate": ("metrics.json", "samples.parquet")}  # noqa: RUF012 - never changed

    def inputs(self, run: Run) -> dict[str, Any]:
        """The config and the version of mint, which both stand on the page."""
        return {"run": run.resolved.dump(), "mint": version("mint-core")}

    def make(self, run: Run, work: Path, out: Path) -> Facts:
        """See `Stage.make`."""
        config = run.resolved.dump()
        endpoint = config["predict"]["endpoint"]
        if endpoint["url"]:
            endpoint["url"] = shown(endpoint["url"])
        page = Page(
            title=run.path.name,
            metrics=read_json(run.path / METRICS),
            stages=[asdict(manifest) for manifest in run.made.values()],
            history=read_json(run.path / HISTORY) if run.resolved.aligner else None,
            student=run.embedded.description if run.embedded else None,
            licence=run.data.licence,
            facts=run.data.facts,
            config=config,
            components=[chosen.record for chosen in run.resolved.chosen()],
        )
        with storage_errors(out):
            (out / REPORT).write_text(render_report(page), encoding="utf-8")
        return {}
