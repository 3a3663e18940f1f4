"""The stage `report`: one HTML page from what the other stages measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow.parquet as pq

from mint_core.answering.endpoint import addresses_in, is_local, shown, without_queries
from mint_core.drawing import read_svg
from mint_core.explaining.results import read_explained, told_check
from mint_core.files import digest_of, read_json, storage_errors
from mint_core.interfaces import Aligner
from mint_core.preservation.results import FIGURE, read_preserved
from mint_core.report import samples
from mint_core.report.explained import chapter
from mint_core.report.html import Page, render_report
from mint_core.stages.outputs import ADAPTER, HISTORY, METRICS, RECORD_NAME, REPORT, SAMPLES
from mint_core.stages.quality import read_quality
from mint_core.stages.run import Run
from mint_core.stages.stage import Facts, Stage
from mint_core.types import in_plural

if TYPE_CHECKING:
    from PIL.Image import Image

PAGE = 5
"""Layout of the page: raise it when what stands on it changes."""


class Report(Stage):
    """report.html."""

    name = "report"
    writes = ("report.html",)
    judges = True
    reads = {"evaluate": ("metrics.json", "samples.parquet")}  # noqa: RUF012 - never changed

    def inputs(self, run: Run) -> dict[str, Any]:
        """The config, the version of mint, what was measured of general ability and explained: all of the page."""
        preserved = read_preserved(run.path, run.path / ADAPTER)
        measured: dict[str, Any] = {"preserved": preserved} if preserved else {}
        measured |= {"images": True} if run.with_images else {}
        quality = _quality(run)
        measured |= {"quality": quality} if quality else {}
        explained = read_explained(run.path, run.path / ADAPTER)
        measured |= {"explained": digest_of(explained)} if explained else {}
        return {"run": run.resolved.dump(), "mint": version("mint-core"), "page": PAGE, **measured}

    def make(self, run: Run, work: Path, out: Path) -> Facts:
        """See `Stage.make`."""
        config = without_queries(run.resolved.dump())
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
            explained=_explained(run),
            ability=read_svg(run.path / FIGURE),
            samples=samples.chapter(_records(run), _images(run)),
            versions=_versions(run),
            quality=_quality(run),
            command=_command(run),
            written=datetime.now().astimezone().date().isoformat(),
            sent=_sent(run),
            components=[chosen.record for chosen in run.resolved.chosen()],
        )
        with storage_errors(out):
            (out / REPORT).write_text(render_report(page), encoding="utf-8")
        return {}


def _explained(run: Run) -> dict[str, Any] | None:
    """The chapter on `mint explain`."""
    content = read_explained(run.path, run.path / ADAPTER)
    return chapter(content, told_check(content)) if content else None


def _records(run: Run) -> list[dict[str, Any]]:
    """What each one answered, sample by sample."""
    return cast(list[dict[str, Any]], pq.read_table(run.path / SAMPLES, columns=list(samples.COLUMNS)).to_pylist())


def _images(run: Run) -> Callable[[str], Image | None] | None:
    """The images that the student read, where they were asked for."""
    if not run.with_images:
        return None
    found = {sample.id: sample.image for sample in run.reported}

    def image(sample: str) -> Image | None:
        reference = found.get(sample)
        return reference.open() if reference is not None else None

    return image


def _versions(run: Run) -> Mapping[str, str | None]:
    """Those of the run's record: whoever draws the page later may have others."""
    try:
        return dict(read_json(run.path / RECORD_NAME)["versions"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _quality(run: Run) -> dict[str, Any] | None:
    """What is known of the preferences."""
    made = run.made.get("prefer")
    return read_quality(run.path, made.outputs["preferences"]) if made else None


def _command(run: Run) -> str:
    """What the user gave, or where that was no command what repeats the run from its record, in its folder."""
    if run.command is None:
        return "mint run --config run.json --out .."
    command = run.command
    for url in addresses_in(run.resolved.dump()):
        command = command.replace(url, shown(url))
    return command


def _sent(run: Run) -> list[str]:
    """What has left the machine, as far as mint has sent it."""
    server, aligner = run.resolved.config.predict.endpoint, run.resolved.aligner
    sent = [*run.resolved.sent_by_teachers().values()]
    if run.resolved.config.predict.engine == "endpoint" and not is_local(server.url):
        sent.append(f"the samples' {in_plural(run.task.modality)}, to {shown(server.url)}")
    if aligner and (trackers := cast(Aligner, aligner.make()).trackers()):
        sent.append(f"figures and settings, as far as these trackers send them: {', '.join(trackers)}")
    return sent
