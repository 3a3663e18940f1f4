"""A student in training answers a few samples at the start and at the end of each epoch, and nothing else changes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from mint_core import processes

_MARK = "validation_"
"""How the names begin under which the Trainer, its checkpoints and its trackers keep the values."""


class ByEpoch(TrainerCallback):  # type: ignore[misc]  # transformers is untyped to mypy here
    """Judges the student at the start and behind each epoch; the values lie in the Trainer's own history.

    A training that goes on from a checkpoint keeps the values of earlier epochs, and judges once more where the
    checkpoint was written between the end of an epoch and its judgement. Of torchrun's processes the first one judges,
    while the others wait with their next step.

    Args:
        trainer: The Trainer.
        judge: From the student with its adapter to values by name.
        tell: Hears them.
        titles: How people call them, by name.
        first: It is the first phase: a later one begins where the one before has ended.
    """

    def __init__(
        self,
        trainer: Any,
        judge: Callable[[Any], Mapping[str, float]],
        tell: Callable[[str], None],
        titles: Mapping[str, str],
        *,
        first: bool,
    ) -> None:
        self.trainer, self.judge, self.tell, self.titles, self.first = trainer, judge, tell, titles, first

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Judges the student as it is, unless that is known."""
        step, epoch = state.global_step, state.epoch or 0.0
        between = abs(epoch - round(epoch)) > 1e-6 and step < state.max_steps
        if not between and (step or self.first):
            self._judge(state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Judges it, unless the training was stopped within the epoch."""
        if not control.should_training_stop or state.global_step >= state.max_steps:
            self._judge(state)

    def _judge(self, state: Any) -> None:
        step = state.global_step
        if not processes.is_first() or any(entry["step"] == step for entry in _kept(state)):
            return
        with undisturbed(self.trainer.model):
            values = self.judge(self.trainer.model)
        self.trainer.log({f"{_MARK}{key}": value for key, value in values.items()})
        shown = ", ".join(f"{self.titles.get(key, key)} {100 * value:.1f} %" for key, value in values.items())
        self.tell(f"Epoch {state.epoch or 0:.3g}: {shown}")


def _kept(state: Any) -> Iterator[Mapping[str, Any]]:
    return (entry for entry in state.log_history if any(key.startswith(_MARK) for key in entry))


def validation(trainer: Any, before: int) -> tuple[dict[str, float], ...]:
    """The values of a phase in order: `step`, counted from the first phase on, `epoch` of this phase, and by name.

    Args:
        trainer: Whose history has them.
        before: Steps of earlier phases.
    """
    return tuple(
        {
            "step": entry["step"] + before,
            "epoch": entry.get("epoch", 0.0),
            **{key.removeprefix(_MARK): value for key, value in entry.items() if key.startswith(_MARK)},
        }
        for entry in _kept(trainer.state)
    )


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Puts a model into evaluation meanwhile; afterwards its modules and all random numbers are as before."""
    modes = {module: module.training for module in model.modules()}
    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            random.setstate(python)
            np.random.set_state(numbers)
