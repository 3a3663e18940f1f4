"""Calibration of a comparison's rows: what metrics.json of each seed says of ECE and Brier score."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from mint_core.evaluation.statistics import told, told_plain

_KEPT = ("n", "clusters", "ece", "ece_by_chance", "brier")


def calibrated(metrics: Mapping[int | None, Mapping[str, Any]], variant: str) -> dict[str, Any]:
    """What the record of a comparison says of a row under `calibration`; empty where it did not score the labels.

    Args:
        metrics: Content of metrics.json by seed of the alignment; the seed is None where nothing was aligned.
        variant: Whose the row is.
    """
    found = {seed: content["calibration"]["variants"].get(variant) for seed, content in metrics.items()}
    per_seed = {
        "-" if seed is None else str(seed): {key: one[key] for key in _KEPT}
        for seed, one in found.items()
        if one is not None
    }
    if not per_seed:
        return {}
    content: dict[str, Any] = {"per_seed": per_seed}
    for key in ("ece", "brier"):
        means = [one[key]["mean"] for one in per_seed.values()]
        content[key] = {"mean": statistics.mean(means), "sd": statistics.stdev(means) if len(means) > 1 else None}
    return {"calibration": content}


def calibration_lines(name: str, content: Mapping[str, Any]) -> Iterator[list[str]]:
    """The lines of a row in the table: one per seed with its intervals, and of several seeds mean and SD.

    Args:
        name: Of the row.
        content: From `calibrated`; empty = no line.
    """
    per_seed = content.get("per_seed", {})
    if len(per_seed) > 1:
        ece, brier = content["ece"], content["brier"]
        spread = (f"{100 * ece['mean']:.1f} ±{100 * ece['sd']:.1f}", f"{brier['mean']:.3f} ±{brier['sd']:.3f}")
        yield [name, str(next(iter(per_seed.values()))["n"]), spread[0], "", spread[1]]
    for seed, one in per_seed.items():
        own = f"{name}, seed {seed}" if len(per_seed) > 1 else name
        yield [own, str(one["n"]), told(one["ece"]), f"{100 * one['ece_by_chance']:.1f}", told_plain(one["brier"], 3)]
