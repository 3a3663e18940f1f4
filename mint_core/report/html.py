"""The HTML page of a run: self-contained, no script from outside, no network, no patients' text."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mint_core.preservation.results import cells, header, title
from mint_core.report import bars, calibration, confusions, samples, subgroups
from mint_core.report.citing import how_to_cite
from mint_core.report.conclusion import conclusion
from mint_core.report.failures import failures_told
from mint_core.report.frame import render
from mint_core.report.quality import quality_told
from mint_core.report.table import columns_of, how_asked, sections
from mint_core.report.training import chapter
from mint_core.report.transfer import transfer_told


@dataclass(frozen=True, slots=True)
class Page:
    """What stands on the page, in plain data."""

    title: str
    metrics: Mapping[str, Any]
    """Content of metrics.json."""
    stages: Sequence[Mapping[str, Any]]
    """The manifests of the complete stages."""
    history: Mapping[str, Any] | None
    """Content of history.json; None where nothing was aligned."""
    student: str | None
    """What the embedded student is; None where another one was used."""
    licence: str | None
    facts: Mapping[str, int]
    """Counts about the data."""
    config: Mapping[str, Any]
    command: str
    """What makes the run, to be pasted into a shell."""
    written: str
    """The day."""
    sent: Sequence[str]
    """What has left the machine, half a sentence each; none = nothing."""
    preserved: Mapping[str, Any] | None = None
    """Content of preserve.json; None where general ability was not measured."""
    ability: str = ""
    """Its figure, an `<svg>` element."""
    explained: Mapping[str, Any] | None = None
    """The chapter on `mint explain`, see `mint_core.report.explained`."""
    samples: Mapping[str, Any] | None = None
    """See `mint_core.report.samples.chapter`."""
    versions: Mapping[str, str | None] = field(default_factory=dict)
    """Of the libraries that the run used."""
    components: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    quality: Mapping[str, Any] | None = None
    """Content of quality.json, see `mint_core.report.quality`; None where nothing was aligned."""


_DECODE = {
    "free": "free: the student wrote its list without constraints",
    "score": "score: every label was scored by its likelihood, and the best ones are the list",
    "constrained": "constrained: the student wrote its list, and could write known labels only",
}


_AGAIN = """cd {folder}    # the folder of this page
mint run --config run.json --out ..    # makes what is not there, and this page
mint run --config run.json --out ELSEWHERE    # makes all of it again"""


def render_report(page: Page) -> str:
    """Renders the page; all text is escaped."""
    import yaml

    retrieval = {stage["stage"]: stage["facts"]["retrieval"] for stage in page.stages if "retrieval" in stage["facts"]}
    aligner = (page.config.get("aligner") or {}).get("name")
    return render(
        "report.html.jinja",
        title=page.title,
        simulated=page.metrics["simulated"],
        quick=page.metrics.get("quick"),
        page=page,
        explained=page.explained,
        metrics=page.metrics,
        columns=columns_of(page.metrics),
        conclusion=conclusion(page.metrics),
        decode=_DECODE[page.metrics["decode"]],
        failures=failures_told(page.metrics),
        asked=how_asked(page.metrics["asked"]),
        sections=sections(page.metrics),
        bars=bars.chapter(page.metrics),
        samples=page.samples,
        cite=how_to_cite({aligner} if aligner else set(), preserved=bool(page.preserved)),
        again=_AGAIN.format(folder=shlex.quote(page.title)),
        seeds=_seeds(page.config),
        calibration=calibration.chapter(page.metrics),
        transfer=transfer_told(page.metrics),
        preferences=quality_told(page.quality) if page.quality else [],
        subgroups=subgroups.chapter(page.metrics),
        confusions=confusions.chapter(page.metrics),
        examples=samples.examples(page.samples),
        retriever=next((stage["facts"]["retriever"] for stage in page.stages if "retriever" in stage["facts"]), {}),
        retrieval=retrieval,
        training=chapter(page.history, page.metrics["titles"]),
        ability=(title(page.preserved), header(page.preserved), cells(page.preserved)) if page.preserved else (),
        config=yaml.safe_dump(dict(page.config), sort_keys=False, allow_unicode=True).replace(str(Path.home()), "~"),
    )


def _seeds(config: Mapping[str, Any]) -> str:
    """The run's seed, and that of its alignment."""
    seed, alignment = config.get("seed"), config.get("align_seed")
    return f"{seed}, of the alignment {seed if alignment is None else alignment}"
