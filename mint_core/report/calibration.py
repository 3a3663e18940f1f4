"""The report's chapter on probabilities: how far a confidence can be believed, and what may be left unanswered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mint_core.drawing import BLUE, GREEN, GREY, LETTER, PALE, PURPLE, VERMILION, as_svg, new_figure, style
from mint_core.evaluation.statistics import told, told_plain
from mint_core.types import VARIANTS, Variant

_COLOURS = {
    Variant("base"): GREY,
    Variant("aligned"): BLUE,
    Variant("aligned", shuffled=True): VERMILION,
    Variant("aligned", fused=True): PURPLE,
    Variant("teacher"): GREEN,
}
HEADINGS = ("n", "accuracy", "mean confidence", "ECE", "ECE by chance", "Brier score", "AURC")


def chapter(metrics: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the template needs; None where nobody scored the labels.

    Args:
        metrics: Content of metrics.json.
    """
    variants = metrics.get("calibration", {"variants": {}})["variants"]
    if not variants:
        return None
    return {
        "subset": metrics["calibration"]["subset"],
        "headings": HEADINGS,
        "rows": [(VARIANTS[name].title, _cells(one)) for name, one in variants.items()],
        "reliability": _reliability(variants),
        "coverage": _coverage(variants),
        "students": any(VARIANTS[name].who in ("base", "aligned") for name in variants),
    }


def _cells(one: Mapping[str, Any]) -> list[str]:
    shares = [told(one[key]) for key in ("accuracy", "confidence", "ece")]
    rest = [f"{100 * one['ece_by_chance']:.1f}", told_plain(one["brier"], 3), told_plain(one["aurc"], 3)]
    return [str(one["n"]), *shares, *rest]


def _reliability(variants: Mapping[str, Any]) -> str:
    """A panel per variant as SVG: accuracy over confidence by bin, with the number of samples in a bin."""
    with style():
        figure = new_figure(2.3 * len(variants) + 0.4, 2.7, (0.5, 0.4, 0.1, 0.4))
        panels = figure.subplots(1, len(variants), squeeze=False, sharex=True, sharey=True)[0]
        for axes, (name, one) in zip(panels, variants.items(), strict=True):
            axes.plot([0, 100], [0, 100], color=PALE, linestyle="--", linewidth=0.8)
            bins = [b for b in one["bins"] if b["accuracy"]["low"] is not None]
            places, means = ([100 * value for value in values] for values in zip(*map(_place, bins), strict=True))
            ends = [[100 * abs(b["accuracy"][end] - b["accuracy"]["mean"]) for b in bins] for end in ("low", "high")]
            colour = _COLOURS.get(VARIANTS[name], GREY)
            axes.errorbar(places, means, yerr=ends, fmt="o-", markersize=4, linewidth=0.8, capsize=2, color=colour)
            axes.set_title(f"{VARIANTS[name].title}\n{_sizes(one['bins'])}")
            axes.set_xlabel("confidence, percent")
            axes.set_xlim(-2, 102)
            axes.set_ylim(-2, 102)
        panels[0].set_ylabel("right, percent")
        return as_svg(figure)


def _place(one: Mapping[str, Any]) -> tuple[float, float]:
    return one["confidence"], one["accuracy"]["mean"]


def _sizes(bins: Sequence[Mapping[str, Any]]) -> str:
    """How many samples the bins hold, the least confident bin first."""
    sizes = list(dict.fromkeys(one["n"] for one in bins))
    if len(sizes) == 1:
        return f"{len(bins)} bin{'s' if len(bins) > 1 else ''} of {sizes[0]}"
    return f"{len(bins)} bins of {min(sizes)} to {max(sizes)}"


def _coverage(variants: Mapping[str, Any]) -> str:
    """Accuracy of the answers that are given, over the share that is answered, as SVG."""
    with style():
        titles = [VARIANTS[name].title for name in variants]
        right = 0.6 + LETTER * max(map(len, titles))
        figure = new_figure(3.8 + right, 2.9, (0.5, 0.4, right, 0.1))
        axes = figure.subplots()
        for title, (name, one) in zip(titles, variants.items(), strict=True):
            colour = _COLOURS.get(VARIANTS[name], GREY)
            covered = [100 * point["coverage"] for point in one["curve"]]
            mean, low, high = ([100 * p["accuracy"][key] for p in one["curve"]] for key in ("mean", "low", "high"))
            axes.plot(covered, mean, color=colour, label=title, linewidth=1.2)
            axes.fill_between(covered, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.set_xlabel("answered, percent (the least confident left out)")
        axes.set_ylabel("right, percent")
        axes.set_xlim(0, 100)
        axes.set_ylim(-2, 102)
        figure.legend(loc="upper right")
        return as_svg(figure)
