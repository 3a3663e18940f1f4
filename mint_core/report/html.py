"""The HTML page of a run: self-contained, no script, no network, no patients' text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mint_core.files import read_json
from mint_core.report.table import sections, titles

if TYPE_CHECKING:
    from mint_core.runs.context import Context

_WITHOUT_ALIGNER = ("label", "predict", "evaluate")


def render_report(context: Context) -> str:
    """Renders the page from metrics.json and the manifests of the stages.

    Args:
        context: The run, complete up to the evaluation.
    """
    import yaml
    from jinja2 import Environment, PackageLoader

    metrics: dict[str, Any] = read_json(context.folder.path / "metrics.json")
    own = ("label", "prefer", "align", "predict", "evaluate") if context.resolved.aligner else _WITHOUT_ALIGNER
    manifests = [m for m in map(context.folder.manifest, own) if m]
    history = read_json(context.folder.path / "training" / "history.json") if context.resolved.aligner else None
    environment = Environment(
        loader=PackageLoader("mint_core", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.jinja").render(
        title=context.folder.path.name,
        metrics=metrics,
        titles=titles(metrics),
        sections=sections(metrics),
        stages=manifests,
        retriever=next((m.facts["retriever"] for m in manifests if "retriever" in m.facts), {}),
        retrieval={m.stage: m.facts["retrieval"] for m in manifests if "retrieval" in m.facts},
        history=history,
        curve=_curve(history["history"]) if history else "",
        embedded=context.embedded,
        licence=context.data.licence,
        facts=context.data.facts,
        config=yaml.safe_dump(context.resolved.dump(), sort_keys=False, allow_unicode=True),
        components=[chosen.record for chosen in context.resolved.chosen()],
    )


def _curve(history: list[dict[str, float]]) -> str:
    """Points of the training loss for an SVG polyline of 600 x 120."""
    if len(history) < 2:
        return ""
    steps = [float(entry["step"]) for entry in history]
    losses = [float(entry["loss"]) for entry in history]
    low, high = min(losses), max(losses)
    width = max(steps[-1] - steps[0], 1)
    height = max(high - low, 1e-9)
    return " ".join(
        f"{600 * (s - steps[0]) / width:.1f},{115 - 110 * (v - low) / height:.1f}"
        for s, v in zip(steps, losses, strict=True)
    )
