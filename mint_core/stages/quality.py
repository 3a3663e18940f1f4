"""The quality of a run's preferences before any training: of the teacher's lists, and as the base student sees them."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mint_core.evaluation.statistics import estimate
from mint_core.files import digest_of, read_json, storage_errors, write_json
from mint_core.preferences.quality import sample_values
from mint_core.stages.outputs import OVERLAP, QUALITY
from mint_core.stages.prompts import passages_identity, training_prompts
from mint_core.stages.run import Run
from mint_core.types import PreferenceGroup, Ranking

_HOW: dict[str, Any] = {"draws": 1000, "confidence": 0.95, "seed": 0}


def quality_of(run: Run, rankings: Mapping[str, Ranking], groups: Sequence[PreferenceGroup]) -> dict[str, Any]:
    """Content of quality.json: `mint_core.preferences.quality.MEASURES` with intervals over groups of training samples.

    Args:
        run: The run.
        rankings: The teacher's, by sample id.
        groups: The preference groups of the training split.
    """
    train = run.data.split("train")
    of: dict[str, list[PreferenceGroup]] = {}
    for group in groups:
        of.setdefault(group.sample_id, []).append(group)
    values = sample_values(run.strategy, [rankings[s.id] for s in train], [s.label for s in train], of)
    owners = [sample.group for sample in train]
    return {
        "samples": len(train),
        "labelled": sum(sample.label is not None for sample in train),
        "groups": len(groups),
        "k": len(run.strategy.top(rankings[train[0].id], None)) if train else 0,
        "strategy": run.resolved.strategy.name,
        "measures": {name: asdict(estimate(found, owners, **_HOW)) for name, found in values.items()},
    }


def read_quality(path: Path, preferences: str) -> dict[str, Any] | None:
    """What is known of a run's preferences; None where nothing is.

    Args:
        path: The run folder.
        preferences: Digest of its preferences: what the student thought of others does not count.

    Returns:
        Content of quality.json, with that of overlap.json as `student` where the student was asked.
    """
    try:
        found: dict[str, Any] = read_json(path / QUALITY)
    except (OSError, ValueError):
        return None
    asked = read_overlap(path)
    return found | ({"student": asked} if asked and asked["preferences"] == preferences else {})


def read_overlap(path: Path) -> dict[str, Any] | None:
    """Content of overlap.json in a run folder; None where it is not there, or damaged."""
    try:
        found: dict[str, Any] = read_json(path / OVERLAP)
        _ = found["key"], found["preferences"], found["measures"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


def ask_student(run: Run, count: int) -> dict[str, Any]:
    """Content of overlap.json: what the base student holds of some preference groups; kept, and made once.

    Args:
        run: A run whose preferences are complete.
        count: Groups that are drawn from the run's seed; all where there are no more.

    Raises:
        ModelError: The student cannot be loaded.
    """
    from mint_core.aligners.overlap import overlap
    from mint_core.aligners.rows import TrainingRows
    from mint_core.students.load import load_student

    groups, seed = run.preferences(), run.resolved.config.seed
    preferences = run.made["prefer"].outputs["preferences"]
    trained = run.resolved.retriever is not None and run.resolved.config.retrieval.train
    passages = passages_identity(run) if trained else None
    key = digest_of([preferences, run.student_identity(), run.task_identity(), passages, seed, count])
    known = read_overlap(run.path)
    if known is not None and known["key"] == key:
        return known
    begin = time.monotonic()
    run.observer.stage("student", reused=False)
    drawn = np.sort(np.random.default_rng([seed, 41]).permutation(len(groups))[:count])
    some = [groups[place] for place in drawn]
    student = load_student(run.resolved.config.student, run.student_path)
    job = run.outlined_job(student, some, training_prompts(run, student, some).prompts)
    rows = TrainingRows(replace(job, cache=None))
    advance = run.advance(len(some), "groups")
    values = []
    for one in overlap(rows, student.model):
        values.append(one)
        advance(1)
    owners = {sample.id: sample.group for sample in run.data.split("train")}
    of = [owners[group.sample_id] for group in some]
    content = {
        "key": key,
        "preferences": preferences,
        "n": len(some),
        "of": len(groups),
        "seed": seed,
        "measures": {
            name: asdict(estimate([one[name] for one in values], of, **_HOW)) for name in (values[0] if values else ())
        },
    }
    with storage_errors(run.path):
        write_json(run.path / OVERLAP, content)
    del rows, job, student
    gc.collect()
    run.observer.finished("student", time.monotonic() - begin)
    return content
