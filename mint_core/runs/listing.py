"""Which runs and comparisons lie in a folder, and what became of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout

from mint_core.files import read_json
from mint_core.interfaces import Metric
from mint_core.plugins import registry
from mint_core.runs.record import RECORD
from mint_core.stages.outputs import METRICS

COMPARISONS = ("compare.json", "sweep.json")
"""Records of finished comparisons."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One run, or one comparison."""

    folder: str
    """Below the folder of the runs."""
    task: str | None
    teacher: str | None
    aligner: str | None
    """Of a comparison its rows."""
    state: str
    """complete, complete until STAGE, running, interrupted, stopped: STAGE, stopped (killed), or damaged."""
    figure: str | None
    """The main metric in percent: of the aligned student, else of the base student; of a comparison of its best row."""
    date: str
    """When its record was written last, ISO 8601."""


def list_runs(out: Path) -> list[Listed]:
    """The runs in a folder and one level below, where those of comparisons lie, newest first.

    Args:
        out: Folder of the runs; one that does not exist holds none.
    """
    records = [path for depth in ("*", "*/*") for path in out.glob(f"{depth}/{RECORD}")]
    records += [path for name in COMPARISONS for path in out.glob(f"*/{name}")]
    return sorted((_listed(path, out) for path in records), key=lambda one: (one.date, one.folder), reverse=True)


def _listed(path: Path, out: Path) -> Listed:
    folder = path.parent.relative_to(out).as_posix()
    date = datetime.fromtimestamp(path.stat().st_mtime).astimezone().isoformat(timespec="seconds")
    try:
        about = (_run if path.name == RECORD else _comparison)(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):  # another program's, or cut off
        about = {"task": None, "teacher": None, "aligner": None, "state": "damaged", "figure": None}
    return Listed(folder=folder, date=date, **about)


def _run(path: Path) -> dict[str, Any]:
    record = read_json(path)
    metrics = path.parent / METRICS
    rows = {}
    if metrics.is_file():
        content = read_json(metrics)
        rows = {row["variant"]: row["metrics"] for row in reversed(content["rows"])}  # of several subsets the first
    figures = rows.get("aligned") or rows.get("base")
    figure = _in_words(_main(content["titles"]), content["titles"], figures) if figures else None
    return _components(record) | {"state": _state(path.parent, str(record["status"])), "figure": figure}


def _comparison(path: Path) -> dict[str, Any]:
    """The best of the student rows; task and teacher are those of the first run."""
    content = read_json(path)
    students = [row for row in content["rows"] if row["kind"] == "student"]
    titles = content["titles"]
    key = _main(titles)
    best = max(students, key=lambda row: row["subsets"][0]["metrics"][key]["mean"] or 0.0)
    figure = f"{_in_words(key, titles, best['subsets'][0]['metrics'])} ({best['name']})"
    named = _components(read_json(path.parent / students[0]["runs"][0] / RECORD))
    return named | {"aligner": ", ".join(row["name"] for row in students), "state": "complete", "figure": figure}


def _components(record: Mapping[str, Any]) -> dict[str, Any]:
    config = record["config"]
    return {key: str(config[key]["name"]) if config[key] else None for key in ("task", "teacher", "aligner")}


def _main(titles: Mapping[str, str]) -> str:
    """Key of the metric that says the most by itself; the first one where none of them claims to."""
    main = {one.component.name for one in registry().all("metric") if cast(type[Metric], one.component).main}
    return next((key for key in titles if re.split("[: ]", key)[0] in main), next(iter(titles)))


def _in_words(key: str, titles: Mapping[str, str], figures: Mapping[str, Mapping[str, float | None]]) -> str:
    value = figures[key]["mean"]
    return f"{titles[key]} {'-' if value is None else f'{100 * value:.1f}'}"


def _state(folder: Path, status: str) -> str:
    """The status as recorded; a run that nobody holds any more was stopped, whatever its record says."""
    if status != "running":
        return status
    try:
        with FileLock(folder / ".lock", timeout=0):
            return "stopped"
    except Timeout:
        return status
    except OSError:  # not ours to lock
        return "running or stopped"
