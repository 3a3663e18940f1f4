"""run.json: all that is needed to make a run again, and what it took."""

from __future__ import annotations

import platform
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mint_core.files import write_json
from mint_core.runs.folder import RunFolder
from mint_core.stages import NAMES
from mint_core.stages.outputs import RECORD_NAME
from mint_core.stages.run import Run
from mint_core.stages.stage import Manifest
from mint_core.students.load import precision

RECORD = RECORD_NAME
_LIBRARIES = [
    "torch",
    "torchvision",
    "transformers",
    "peft",
    "accelerate",
    "open_clip_torch",
    "datasets",
    "numpy",
    "pillow",
]


def write_record(run: Run, folder: RunFolder, status: str) -> None:
    """Writes run.json.

    Stages that this process has not come to yet stand in it with `current: false`, as an earlier one left them.
    """
    resolved = run.resolved
    known = {stage: run.made.get(stage) or folder.manifest(stage) for stage in NAMES}
    splits = {split: len(run.data.split(split)) for split in ("train", "val", "test")}
    write_json(
        folder.path / RECORD,
        {
            "status": status,
            "command": run.command,
            "config": resolved.dump(),
            "components": [{"kind": c.registered.component.kind, **c.record} for c in resolved.chosen()],
            "versions": {
                "mint-core": library_version("mint-core"),
                "python": platform.python_version(),
                **{name: library_version(name) for name in _LIBRARIES},
            },
            "data": {
                "source": run.data.source,
                "simulated": run.data.simulated,
                "licence": run.data.licence,
                "facts": dict(run.data.facts),
                "samples": splits,
                "labels": list(run.data.labels.names),
                "fingerprint": run.data_fingerprint,
                "reported_split": run.split,
                "N": run.n,
            },
            "student": _student(run),
            "stages": {
                name: record_of(manifest, current=name in run.made)
                for name, manifest in known.items()
                if manifest is not None
            },
        },
    )


def _student(run: Run) -> dict[str, Any]:
    """What must be known of the student beside its name."""
    held = {"weights": run.student_held} if run.student_held else {}
    if run.embedded:
        return {"embedded": run.embedded.description, **held}
    gguf = {"gguf": run.gguf.record(), "dtype": precision(run.resolved.config.student)} if run.gguf else {}
    return {**gguf, **held}


def record_of(manifest: Manifest, *, current: bool) -> dict[str, Any]:
    """What run.json says of a stage; `current`: whether the config in the record made it."""
    return {
        "current": current,
        "key": manifest.key,
        "seconds": manifest.seconds,
        "peak_memory_bytes": manifest.peak_memory_bytes,
        "facts": dict(manifest.facts),
        "outputs": dict(manifest.outputs),
    }


@lru_cache
def library_version(name: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def peak_memory() -> int:
    """Peak resident memory of this process in bytes."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
