"""What depends on the data and can be refused before the first stage, so that no hour is spent in vain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mint_core import processes
from mint_core.aligners.settings import TrainingConfig, settle
from mint_core.errors import ConfigError
from mint_core.retrieval.rows import check_fusion
from mint_core.types import Ranking

if TYPE_CHECKING:
    from mint_core.runs.context import Context


def check_sizes(context: Context) -> None:
    """Refuses what the data cannot give: sizes of the strategy, steps of a warm-up, samples to fit a weight on.

    Args:
        context: The run, before its first stage.

    Raises:
        ConfigError: One of them does not fit.
    """
    check_fusion(context)
    strategy = context.strategy
    aligner = context.resolved.aligner
    if aligner is None or not isinstance(aligner.config, TrainingConfig) or aligner.config.engine != "mint":
        return  # another engine may count its steps in another way
    settings = settle(aligner.config, parameters=0)  # the student's size decides the LoRA rank only
    train = context.data.split("train")
    labels = context.data.labels.names
    even = np.full(len(labels), -math.log(len(labels)), np.float32)
    first = Ranking(train[0].id, labels, even)
    per_sample = {known: len(strategy.groups(first, labels[0] if known else None)) for known in (True, False)}
    groups = sum(per_sample[sample.label is not None] for sample in train)
    batches = math.ceil(groups / (aligner.config.batch_size * processes.count()))
    per_epoch = math.ceil(batches / aligner.config.accumulation)
    steps = min(math.ceil(per_epoch * epochs) for epochs in aligner.config.phase_epochs())
    if settings.warmup >= 1 and int(settings.warmup) >= steps:
        raise ConfigError(
            f"The warm-up of {int(settings.warmup)} steps is as long as the training ({steps} steps for {len(train)} "
            "training samples); set a share instead, for example --set aligner.warmup=0.1."
        )
