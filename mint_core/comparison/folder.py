"""What a comparison leaves in its folder beside its runs, and whether what lies there is of another one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mint_core.comparison.schedule import Schedule
from mint_core.config import merge, resolve, with_whole_paths
from mint_core.errors import ConfigError, MintError
from mint_core.files import read_json
from mint_core.plugins import registry
from mint_core.runs.keep import WAYS_ON, differences

SAMPLES = "samples.parquet"
_NOT_COMPARED = ("compare", "sweep", "name", "out", "align_seed")


def record_of(made: Schedule) -> Path:
    """compare.json or sweep.json."""
    return made.path / f"{made.kind}.json"


def tables(made: Schedule) -> tuple[Path, ...]:
    """All files that tell of the runs, the record first."""
    drawn = (made.path / f"{made.kind}{suffix}" for suffix in (".html", ".md", ".png", ".svg"))
    return (record_of(made), *drawn, made.path / SAMPLES)


def config_of(made: Schedule) -> dict[str, Any]:
    """What `mint compare --config compare.json` and `mint sweep --config sweep.json` make the same from."""
    layer = with_whole_paths(made.layer, made.runs[0].resolved.dump())
    if made.kind == "sweep":
        return {**layer, "sweep": {"aor": [row.name for row in made.rows], "seeds": list(made.seeds)}}
    plain = {run.row.name: run.resolved.dump() for run in made.runs}
    section = {
        "rows": [{"name": row.name, **with_whole_paths(row.overlay, plain[row.name])} for row in made.rows],
        "seeds": list(made.seeds),
        "baselines": [row.name for row in made.baselines],
        "pairs": [list(pair) for pair in made.pairs],
        **({"preserve": made.preserve.model_dump(mode="json")} if made.preserve else {}),
    }
    return {**layer, "compare": section}


def refuse_another(made: Schedule) -> None:
    """Refuses to put a table in the place of one that was made from another config; rows and seeds may change.

    Raises:
        ConfigError: Such a table lies there.
    """
    try:
        before = read_json(record_of(made))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    old, new = _without_rows(before), _without_rows(config_of(made))
    if old == new:
        return
    overlay = made.rows[0].overlay
    try:
        told = differences(resolve(merge(old, overlay), registry()).dump(), resolve(merge(new, overlay), registry()))
    except MintError:  # what the old one names is not here any longer
        told = ["its config cannot be read here"]
    if told:
        raise ConfigError(f"{made.path} holds another comparison ({', '.join(told)}). {WAYS_ON}.")


def _without_rows(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _NOT_COMPARED}
