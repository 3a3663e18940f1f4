"""Fits the head of a ViLT alone, on pooled outputs that are computed once; ranks training patients out of fold."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mint_core.plugin import StorageError, TrainingError, group_folds
from mint_gestalt.fitting import (
    Fitted,
    Patients,
    Plan,
    autocast,
    batches,
    load_checkpoint,
    save_checkpoint,
    warm_cosine,
)
from mint_gestalt.vilt import Vilt, pooled

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

VIEWS = 4
"""How often a patient is read with other phrases and faces left out."""


@dataclass(frozen=True, slots=True)
class _Features:
    """Pooled outputs of n patients."""

    whole: Tensor
    """(n, hidden): nothing left out."""
    views: Tensor
    """(VIEWS, n, hidden): phrases and faces left out, drawn anew for every view."""
    targets: Tensor
    """(n,)."""

    def rows(self, rows: NDArray[np.int64]) -> _Features:
        """Some of the patients."""
        return _Features(self.whole[rows], self.views[:, rows], self.targets[rows])


@dataclass(frozen=True, slots=True)
class Folds:
    """How patients are parted to rank each part by a head that saw none of it."""

    groups: Sequence[str]
    """n names; patients of one group share a fold."""
    count: int
    """Below two parts nothing is ranked."""


def fit_head(vilt: Vilt, patients: Patients, targets: NDArray[np.int64], folds: Folds, plan: Plan) -> Fitted:
    """Trains the head in place; the body stays as it is.

    Args:
        vilt: On its device.
        patients: n patients.
        targets: (n,) positions of their labels.
        folds: How the patients are ranked by heads that did not see them.
        plan: How; its checkpoint keeps the finished head.

    Raises:
        TrainingError: The loss is not finite.
        StorageError: The checkpoint cannot be read or written.
        DataError: A face cannot be read.
    """
    head = vilt.model.classifier
    kept = load_checkpoint(plan.checkpoint, vilt.model.device)
    if kept is None:
        features = _read(vilt, patients, targets, plan)
        held_out = _out_of_fold(head, features, folds, plan)  # before the head has learnt anything
        losses = _train(head, features, plan, plan.seed)
        save_checkpoint(plan.checkpoint, {"head": head.state_dict(), "held_out": held_out, "losses": losses})
        return Fitted(tuple(losses), 0, _rows(held_out))
    try:
        head.load_state_dict(kept["head"])
        losses = [float(loss) for loss in kept["losses"]]
        return Fitted(tuple(losses), len(losses), _rows(kept["held_out"]))
    except (RuntimeError, KeyError, TypeError) as error:
        raise StorageError(f"The checkpoint {plan.checkpoint} is damaged; delete it and run again.") from error


def _rows(held_out: Tensor | None) -> NDArray[np.float32] | None:
    return None if held_out is None else held_out.cpu().numpy()


def _read(vilt: Vilt, patients: Patients, targets: NDArray[np.int64], plan: Plan) -> _Features:
    import torch

    views = [patients.thinned(plan, np.random.default_rng([plan.seed, view])) for view in range(VIEWS)]
    whole, *thinned = (_pooled(vilt, seen, plan) for seen in (patients, *views))
    return _Features(whole, torch.stack(thinned), torch.from_numpy(targets).to(whole.device))


def _pooled(vilt: Vilt, patients: Patients, plan: Plan) -> Tensor:
    import torch

    model, rows = vilt.model.eval(), []
    with torch.no_grad():
        for batch in batches(vilt, patients, plan.batch_size, plan.workers):
            with autocast(model.device, plan.precision):
                rows.append(pooled(model, batch).float())
    return torch.cat(rows)


def _train(head: Any, features: _Features, plan: Plan, *seed: int) -> list[float]:
    """Trains a head; every step draws one view of each of its patients. Returns the mean loss per epoch."""
    import torch

    rng = np.random.default_rng([*seed, VIEWS])
    device = features.whole.device
    weights = torch.from_numpy(plan.weights).to(device)
    optimiser = torch.optim.AdamW(head.parameters(), lr=plan.head_lr, weight_decay=0.05)
    count = len(features.targets)
    steps = plan.epochs * math.ceil(count / plan.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: warm_cosine(step, steps))
    losses = []
    with torch.enable_grad():
        for epoch in range(plan.epochs):
            order, views = rng.permutation(count), rng.integers(0, len(features.views), count)
            summed = 0.0
            for start in range(0, count, plan.batch_size):
                rows = torch.from_numpy(order[start : start + plan.batch_size]).to(device)
                seen = features.views[torch.from_numpy(views[start : start + plan.batch_size]).to(device), rows]
                target = features.targets[rows]
                each = torch.nn.functional.cross_entropy(head(seen), target, reduction="none")
                loss = (each * weights[target]).mean()
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
                schedule.step()
                summed += float(loss.detach()) * len(rows)
            losses.append(summed / count)
            if not math.isfinite(losses[-1]):
                raise TrainingError(f"The loss of the teacher is not finite in epoch {epoch + 1}; lower teacher.lr.")
    return losses


def _out_of_fold(head: Any, features: _Features, folds: Folds, plan: Plan) -> Tensor | None:
    """Log-probabilities (n, n_labels) of every patient by a head that saw no patient of its group."""
    import torch

    parts = group_folds(folds.groups, folds.count)
    if not parts:
        return None
    held_out = torch.empty(len(folds.groups), len(plan.weights))
    for fold, (train, rest) in enumerate(parts):
        blind = copy.deepcopy(head)
        _train(blind, features.rows(train), plan, plan.seed, fold + 1)
        with torch.no_grad():
            held_out[rest] = blind(features.whole[rest]).double().log_softmax(1).float().cpu()
    return held_out
