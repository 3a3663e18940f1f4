"""`prefer`: a run up to its preferences, and how good these are before anybody is trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mint_core.config import Resolved
from mint_core.files import access
from mint_core.libraries import quiet_libraries
from mint_core.observer import Observer
from mint_core.runs import pipeline
from mint_core.runs.folder import RunFolder
from mint_core.runs.pipeline import RunResult, Shared
from mint_core.runs.store import Store
from mint_core.stages.quality import ask_student, quality_of, read_quality
from mint_core.stages.run import Run
from mint_core.stages.stage import Manifest


@dataclass(frozen=True, slots=True)
class Preferred:
    """A run up to its preferences."""

    run: RunResult
    quality: Mapping[str, Any] = field(repr=False)
    """Content of quality.json; under `student` what the base student holds of them, where it was asked."""


@quiet_libraries()
def prefer(
    config: Mapping[str, Any] | str | Path | None = None,
    *,
    student_groups: int | None = None,
    overrides: tuple[str, ...] = (),
    overwrite: bool = False,
    observer: Observer | None = None,
    **options: Any,
) -> Preferred:
    """Makes preferences, and says how good they are before any training.

    Args:
        config: As for `mint_core.run`.
        student_groups: Also let the base student score the responses of so many groups, drawn from the seed; None = the
            student is not loaded.
        overrides: `a.b=c` strings, as with --set.
        overwrite: Replace what a run of another config left in the folder, as with --overwrite.
        observer: Hears of the progress; silent by default.
        **options: Top-level keys of the config.

    Raises:
        MintError: Something is wrong with config, plugins, data or models; the message says what to do.
    """
    resolved = pipeline.resolve_given(config, overrides, options)
    shared = Shared(Store(resolved.config.out), overwrite=overwrite)
    return prefer_resolved(resolved, student_groups, shared, observer or Observer())


def prefer_resolved(
    resolved: Resolved, student_groups: int | None, shared: Shared, observer: Observer, command: str | None = None
) -> Preferred:
    """The same from a resolved config; the arguments are those of `prefer` and of `run_resolved`."""
    result = pipeline.run_resolved(resolved, until="prefer", observer=observer, shared=shared, command=command)
    run = Run(resolved, result.path, observer, shared.store.cache, shared.data)
    with access(resolved.config.access, run.path, run.cache), RunFolder(run.path) as folder:
        for stage in ("label", "prefer"):
            manifest = folder.manifest(stage)
            if isinstance(manifest, Manifest):
                run.made[stage] = manifest
        if student_groups is not None:
            ask_student(run, student_groups)
        known = read_quality(run.path, run.made["prefer"].outputs["preferences"])
        quality = known or quality_of(run, run.rankings(), run.preferences())  # made before mint judged preferences
    return Preferred(result, quality)
