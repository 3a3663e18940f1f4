"""`sweep`: one row per AoR, the ratio of chosen to rejected labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mint_core.comparison.compare import SEEDS, Comparison, carry_out, gather, make_schedule
from mint_core.comparison.rows import parse_ratios
from mint_core.config import merge
from mint_core.errors import ConfigError, did_you_mean
from mint_core.observer import Observer

_QUICK = {"predict": {"shuffled": False}}
"""The control with shuffled images says nothing about a ratio."""


def sweep(
    config: Mapping[str, Any] | str | Path | None = None,
    *,
    aor: Sequence[str] = (),
    seeds: str | int | Sequence[int] | None = None,
    overrides: Sequence[str] = (),
    observer: Observer | None = None,
    **options: Any,
) -> Comparison:
    """Makes one run per ratio and seed, on one set of labels, and draws every metric over q.

    Args:
        config: As for `mint_core.run`; its `sweep` section may hold `aor` and `seeds`.
        aor: Ratios k/q as `"10/15"`: k chosen against q rejected labels.
        seeds: A count (from the config's seed on) or a list of seeds of the alignment; default 3.
        overrides: `a.b=c` strings, as with --set.
        observer: Hears of the progress; silent by default.
        **options: Top-level keys of the config.

    Raises:
        MintError: Something is wrong with ratios, seeds, config, data or models; the message says what to do.
    """
    layer = gather(config, overrides, options)
    section = layer.pop("sweep", None) or {}
    if not isinstance(section, Mapping):
        raise ConfigError("`sweep` must be a mapping with `aor` and `seeds`.")
    for key in section:
        if key not in ("aor", "seeds"):
            raise ConfigError(f"Unknown key '{key}' in sweep{did_you_mean(str(key), ('aor', 'seeds'))}.")
    wanted = next(given for given in (seeds, section.get("seeds"), SEEDS) if given is not None)
    rows = parse_ratios(aor or section.get("aor"))
    made = make_schedule("sweep", merge(_QUICK, layer), rows, wanted)
    if any(run.aligner is None for run in made.runs):
        raise ConfigError("A sweep compares alignments; name an aligner with --aligner.")
    return carry_out(made, observer or Observer())
