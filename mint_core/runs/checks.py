"""What depends on the data and can be refused before the first stage, so that no hour is spent in vain."""

from __future__ import annotations

import math
from collections import Counter
from typing import cast

import numpy as np

from mint_core import processes
from mint_core.answering.endpoint import check_consent
from mint_core.answering.vllm import check_options
from mint_core.interfaces import Aligner
from mint_core.stages.fused import check_fusion
from mint_core.stages.prompts import check_example
from mint_core.stages.run import Run
from mint_core.types import Ranking


def check_sizes(run: Run) -> None:
    """Refuses what the data cannot give: sizes of the strategy, steps of a warm-up, samples to fit a weight on.

    Raises:
        ConfigError: One of them does not fit, or a tracker is not installed.
    """
    _ = run.reported
    check_fusion(run)
    check_example(run)
    predict = run.resolved.config.predict
    if predict.engine == "vllm":
        check_options(predict.vllm)
    if predict.engine == "endpoint":
        check_consent(predict.endpoint, run.task.modality)
    strategy = run.strategy
    aligner = run.resolved.aligner
    if aligner is None:
        return
    made = cast(Aligner, aligner.make())
    made.check_installed()
    phases = made.phases(0)
    if not phases:
        return
    train = run.data.split("train")
    labels = run.data.labels.names
    even = np.full(len(labels), -math.log(len(labels)), np.float32)
    first = Ranking(train[0].id, labels, even)
    known = Counter(sample.label is not None for sample in train)
    groups = {labelled: strategy.groups(first, labels[0] if labelled else None) for labelled in (True, False)}
    for phase in phases:
        units = sum(phase.units(groups[labelled]) * count for labelled, count in known.items())
        phase.warmup_steps(phase.steps(units, processes.count()))
