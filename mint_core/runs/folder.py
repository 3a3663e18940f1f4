"""The one file that talks to the run folder.

A stage works in `.work/<stage>-<key>/` and its outputs become visible together: they are moved into place and the
stage's manifest is written last, atomically. Without a manifest whose key fits, the stage counts as not done. What lies
in the working folder of an interrupted stage (checkpoints, predictions so far) is found again when the same key runs
next.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import TypeAdapter

from mint_core.files import (
    acquire,
    as_masked,
    contents,
    digest_of,
    intact,
    read_bytes,
    remove,
    remove_leftovers,
    storage_errors,
    sync,
    sync_names,
    write_json,
    write_line,
)
from mint_core.stages.stage import Manifest

_MANIFEST = TypeAdapter(Manifest)


class RunFolder:
    """One run's folder. Use it as a context manager: it holds a lock, so that two processes cannot share it.

    Args:
        path: Where it is, or will be.
        waiting: See `mint_core.files.acquire`.
    """

    def __init__(self, path: Path, waiting: Callable[[], None] | None = None) -> None:
        self.path = path
        self._waiting = waiting
        self._lock = FileLock(path / ".lock")

    def __enter__(self) -> RunFolder:
        with storage_errors(self.path):
            (self.path / "stages").mkdir(parents=True, exist_ok=True)
        acquire(self._lock, self._waiting)
        remove_leftovers(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def manifest(self, stage: str) -> Manifest | None:
        """The manifest of a stage that was completed, whatever its key; None where it is missing or damaged."""
        try:
            manifest = _MANIFEST.validate_json(read_bytes(self.path / "stages" / f"{stage}.json"), strict=True)
        except (OSError, ValueError):  # pydantic's errors are ValueErrors
            return None
        outside = [name for name in manifest.files if Path(name).is_absolute() or ".." in Path(name).parts]
        return None if outside or manifest.stage != stage else manifest

    def complete(self, stage: str, key: str) -> Manifest | None:
        """The manifest of a stage whose key fits and whose outputs are all as they were written; else None."""
        manifest = self.manifest(stage)
        if manifest is None or manifest.key != key or manifest.outputs != _outputs(manifest.files):
            return None
        return manifest if intact(self.path, manifest.files) else None

    def why_again(self, stage: str, key: str, inputs: Mapping[str, Any]) -> str:
        """Why a stage that is not complete runs, where it ran before; empty where it did not."""
        manifest = self.manifest(stage)
        if manifest is None:
            return "its manifest is damaged" if (self.path / "stages" / f"{stage}.json").exists() else ""
        if manifest.key == key:
            return "its files are damaged or were changed"
        changed = describe_change(manifest, inputs)
        return f"changed: {', '.join(changed)}" if changed else ""

    def workspace(self, stage: str, key: str) -> Path:
        """The working folder of a stage; it survives an interruption, but for `out` in it, which is empty.

        Those of other keys are removed.
        """
        mine = self._workspace(stage, key)
        with storage_errors(mine):
            for other in mine.parent.glob(f"{stage}-*"):
                if other != mine:
                    remove(other)
            remove(mine / "out")
            (mine / "out").mkdir(parents=True)
        return mine

    def clear(self, stage: str) -> None:
        """Removes the working folders of a stage that is complete; a process may have ended before it did so."""
        with storage_errors(self.path):
            for old in (self.path / ".work").glob(f"{stage}-*"):
                remove(old)

    def withdraw(self, stage: str, outputs: Sequence[str]) -> None:
        """Removes what a stage made, its manifest first.

        Args:
            stage: Its name.
            outputs: Files and folders that it may have written.
        """
        with storage_errors(self.path):
            remove(self.path / "stages" / f"{stage}.json")
            sync(self.path / "stages")
            for name in outputs:
                remove(self.path / name)

    def begun(self, stage: str, key: str) -> bool:
        """Whether a stage of another key was interrupted here, and left something to go on from."""
        mine = self._workspace(stage, key)
        kept = (
            part
            for other in mine.parent.glob(f"{stage}-*")
            if other != mine
            for part in other.iterdir()
            if part.name != "out"
        )
        files = (file for part in kept for file in (part, *part.rglob("*")))
        return any(file.stat().st_size for file in files if file.is_file())

    def _workspace(self, stage: str, key: str) -> Path:
        return self.path / ".work" / f"{stage}-{key[:16]}"

    def commit(
        self, stage: str, key: str, inputs: Mapping[str, Any], *, seconds: float, peak: int, facts: Mapping[str, Any]
    ) -> Manifest:
        """Makes the outputs in `<workspace>/out` visible; the manifest comes last."""
        workspace = self._workspace(stage, key)
        earlier = self.manifest(stage)
        outputs = sorted((workspace / "out").iterdir())
        with storage_errors(self.path):
            files = contents(workspace / "out")
            digests = _outputs(files)
            as_masked(workspace / "out")
            sync(workspace / "out")
            remove(self.path / "stages" / f"{stage}.json")
            sync(self.path / "stages")
            for path in outputs:
                self._replace(path, self.path / path.name)
            for name in set(earlier.outputs if earlier else ()) - set(digests):
                remove(self.path / Path(name).name)
            sync_names(self.path)
            manifest = Manifest(stage, key, dict(inputs), digests, round(seconds, 3), peak, files, dict(facts))
            write_json(self.path / "stages" / f"{stage}.json", asdict(manifest))
            shutil.rmtree(workspace)
        return manifest

    @staticmethod
    def _replace(new: Path, old: Path) -> None:
        if old.is_dir():
            shutil.rmtree(old)
        new.replace(old)

    def adopt(self, stage: str, key: str, other: RunFolder) -> Manifest | None:
        """Copies a stage that is complete in another run, its manifest last; None where it is not complete there.

        Args:
            stage: Name of the stage.
            key: The key that both runs have for it.
            other: The other run; it must not be at work.
        """
        found = other.complete(stage, key)
        if found is None:
            return None
        out = self.workspace(stage, key) / "out"
        with storage_errors(self.path):
            for name in found.outputs:
                source = other.path / name
                (shutil.copytree if source.is_dir() else shutil.copy2)(source, out / name)
            if not intact(out, found.files):  # the other run is at work, and replaces it
                return None
        return self.commit(
            stage, key, found.inputs, seconds=found.seconds, peak=found.peak_memory_bytes, facts=found.facts
        )

    def log(self, event: str, **facts: Any) -> None:
        """Appends to log.jsonl. Facts are counts, names and times, never patients' text."""
        path = self.path / "log.jsonl"
        if path.is_dir():  # damage
            remove(path)
        with storage_errors(self.path), path.open("a", encoding="utf-8") as stream:
            write_line(stream, {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **facts})


def _outputs(files: Mapping[str, str]) -> dict[str, str]:
    """Digest of each output, from those of its files by their path in the run folder."""
    names = sorted({name.partition("/")[0] for name in files})
    return {name: digest_of({f: d for f, d in files.items() if f.partition("/")[0] == name}) for name in names}


def describe_change(old: Manifest | None, inputs: Mapping[str, Any]) -> Sequence[str]:
    """The top-level inputs that differ from those of the last complete stage; says why a stage runs again."""
    if old is None:
        return ()
    return sorted(key for key in {*old.inputs, *inputs} if digest_of(old.inputs.get(key)) != digest_of(inputs.get(key)))
