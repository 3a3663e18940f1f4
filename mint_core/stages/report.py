"""The stage `report`: one HTML page from what the other stages measured."""

from __future__ import annotations

import base64
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mint_core.answering.endpoint import shown
from mint_core.files import read_json, storage_errors
from mint_core.preservation.results import FIGURE, read_preserved
from mint_core.report.html import Page, render_report
from mint_core.stages.outputs import ADAPTER, HISTORY, METRICS, REPORT
from mint_core.stages.run import Run
from mint_core.stages.stage import Facts, Stage


class Report(Stage):
    """report.html."""

    name = "report"
    writes = ("report.html",)
    judges = True
    reads = {"evaluate": ("metrics.json", "samples.parquet")}  # noqa: RUF012 - never changed

    def inputs(self, run: Run) -> dict[str, Any]:
        """The config, the version of mint and what was measured of general ability, which all stand on the page."""
        preserved = read_preserved(run.path, run.path / ADAPTER)
        measured = {"preserved": preserved} if preserved else {}
        return {"run": run.resolved.dump(), "mint": version("mint-core"), **measured}

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
            preserved=read_preserved(run.path, run.path / ADAPTER),
            ability=_figure(run.path / FIGURE),
            components=[chosen.record for chosen in run.resolved.chosen()],
        )
        with storage_errors(out):
            (out / REPORT).write_text(render_report(page), encoding="utf-8")
        return {}


def _figure(path: Path) -> str:
    """A figure as the source of an image; empty where there is none."""
    if not path.is_file():
        return ""
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
