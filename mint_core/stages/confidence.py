"""What an adapter's folder learns of its val split, so that a moved adapter can choose a threshold."""

from __future__ import annotations

from typing import cast

import numpy as np

from mint_core.answering.confidence import Confidences, how_asked, write_confidences
from mint_core.answering.record import read_record
from mint_core.answering.scores import ScoreTable
from mint_core.evaluation.calibration import probabilities
from mint_core.evaluation.statistics import cluster_of
from mint_core.files import storage_errors
from mint_core.stages.outputs import ADAPTER, SCORES
from mint_core.stages.prompts import passages_identity
from mint_core.stages.run import Run
from mint_core.students.adapter_files import WEIGHTS


def keep_confidences(run: Run) -> None:
    """Writes confidence.json into the adapter's folder, where the aligned student scored the val split.

    Args:
        run: A run whose answers are made.
    """
    samples = run.held_out
    table = ScoreTable.read(run.path / SCORES) if samples else None
    if table is None:
        return
    record = read_record(run.path / ADAPTER)
    shares = probabilities(table.rows("aligned", [sample.id for sample in samples]))
    truths = [run.data.labels.index(cast(str, sample.label)) for sample in samples]
    sure = np.round(shares.max(axis=1), 6)
    order = np.argsort(-sure, kind="stable")
    right = shares.argmax(axis=1) == truths
    config = run.resolved.config.predict
    passages = passages_identity(run) if run.resolved.retriever else None
    found = Confidences(
        weights=record.files[WEIGHTS].digest if record.files else "",
        asked=how_asked(run.n, config, passages),
        groups=int(cluster_of([sample.group for sample in samples]).max()) + 1,
        confidence=tuple(sure[order].tolist()),
        right=tuple(right[order].tolist()),
    )
    with storage_errors(run.path):
        write_confidences(run.path / ADAPTER, found)
