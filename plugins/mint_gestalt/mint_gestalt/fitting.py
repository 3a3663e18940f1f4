"""Fits a ViLT: AdamW on a weighted cross-entropy, one checkpoint per epoch, the same steps after an interruption."""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mint_core.plugin import (
    ImageRef,
    StorageError,
    TrainingError,
    ahead,
    decoding_pool,
    replaced,
    seal_file,
    sealed_file,
)
from mint_gestalt.reading import Reading
from mint_gestalt.vilt import Batch, Vilt, collate, logits

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

Precision = Literal["fp32", "bf16"]
_HEAD_FACTOR = 10
"""How much faster than the rest the head learns."""


@dataclass(frozen=True, slots=True)
class Patients:
    """What the model reads of n patients."""

    readings: Sequence[Reading]
    faces: Sequence[ImageRef | None]

    def thinned(self, plan: Plan, rng: np.random.Generator) -> Patients:
        """The same patients with some phrases and some faces left out."""
        readings = [reading.thinned(plan.phrase_dropout, rng) for reading in self.readings]
        return Patients(readings, [None if rng.random() < plan.face_dropout else face for face in self.faces])


@dataclass(frozen=True, slots=True)
class Plan:
    """How a fit goes."""

    epochs: int
    lr: float
    """Peak learning rate of the body; the head's is ten times that."""
    batch_size: int
    weights: NDArray[np.float32]
    """(n_labels,): weight of each label in the loss."""
    phrase_dropout: float
    face_dropout: float
    seed: int
    precision: Precision
    workers: int
    checkpoint: Path
    """Named by the content of everything that the fit depends on."""

    @property
    def head_lr(self) -> float:
        """Peak learning rate of the head."""
        return self.lr * _HEAD_FACTOR


@dataclass(frozen=True, slots=True)
class Fitted:
    """How a fit went."""

    losses: tuple[float, ...]
    """Mean weighted cross-entropy per epoch, in nats."""
    resumed_after: int
    """Epochs that lay in the checkpoint."""
    held_out: NDArray[np.float32] | None = None
    """(n, n_labels): log-probabilities of the patients by heads that did not see them; None where all were seen."""


def fit(vilt: Vilt, patients: Patients, targets: NDArray[np.int64], plan: Plan) -> Fitted:
    """Trains all parameters in place: 10 % warm-up, cosine, gradients clipped at 1.

    Args:
        vilt: On its device.
        patients: n patients.
        targets: (n,) positions of their labels.
        plan: How. Every epoch draws its order and its dropouts from the seed and its own number, so that a fit that was
            interrupted ends as if it had not been.

    Raises:
        TrainingError: The loss is not finite.
        StorageError: The checkpoint cannot be written.
        DataError: A face cannot be read.
    """
    import torch

    model = vilt.model
    head = [parameter for name, parameter in model.named_parameters() if name.startswith("classifier")]
    body = [parameter for name, parameter in model.named_parameters() if not name.startswith("classifier")]
    groups = [{"params": body, "lr": plan.lr}, {"params": head, "lr": plan.head_lr}]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
    losses = _resume(plan.checkpoint, model, optimiser)
    resumed_after = len(losses)
    with torch.random.fork_rng([]), torch.enable_grad():
        for epoch in range(resumed_after, plan.epochs):
            torch.manual_seed(plan.seed * 1000 + epoch)
            losses.append(_Epoch(vilt, patients, targets, plan, optimiser).run(epoch))
            done = epoch + 1 == plan.epochs
            _keep(plan.checkpoint, {"losses": losses, "model": model.state_dict()}, None if done else optimiser)
    return Fitted(tuple(losses), resumed_after)


@dataclass(frozen=True, slots=True)
class _Epoch:
    """What a pass over the patients needs."""

    vilt: Vilt
    patients: Patients
    targets: NDArray[np.int64]
    plan: Plan
    optimiser: Any

    def run(self, epoch: int) -> float:
        """Trains on all patients once; returns the mean loss."""
        import torch

        plan, rng = self.plan, np.random.default_rng([self.plan.seed, epoch])
        order = rng.permutation(len(self.targets)).tolist()
        shuffled = Patients([self.patients.readings[i] for i in order], [self.patients.faces[i] for i in order])
        self.vilt.model.train()
        summed, start = 0.0, 0
        per_epoch = math.ceil(len(order) / plan.batch_size)
        read = batches(self.vilt, shuffled.thinned(plan, rng), plan.batch_size, plan.workers)
        for step, batch in enumerate(read, epoch * per_epoch):
            rows = order[start : start + plan.batch_size]
            start += len(rows)
            loss = self._loss(batch, self.targets[rows])
            if not torch.isfinite(loss):
                raise TrainingError(f"The loss of the teacher is not finite in epoch {epoch + 1}; lower teacher.lr.")
            self._step(loss, warm_cosine(step, plan.epochs * per_epoch))
            summed += float(loss.detach()) * len(rows)
        return summed / len(order)

    def _loss(self, batch: Batch, targets: NDArray[np.int64]) -> Tensor:
        import torch

        device = self.vilt.model.device
        target, weights = torch.from_numpy(targets).to(device), torch.from_numpy(self.plan.weights).to(device)
        with autocast(device, self.plan.precision):
            scores = logits(self.vilt.model, batch)
        return (torch.nn.functional.cross_entropy(scores, target, reduction="none") * weights[target]).mean()

    def _step(self, loss: Tensor, factor: float) -> None:
        import torch

        for group, rate in zip(self.optimiser.param_groups, (self.plan.lr, self.plan.head_lr), strict=True):
            group["lr"] = rate * factor
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.vilt.model.parameters(), 1.0)
        self.optimiser.step()


def balanced_weights(targets: NDArray[np.int64], n_labels: int) -> NDArray[np.float32]:
    """Weights (n_labels,) with which every label seen counts the same, and whose mean over patients is 1."""
    counts = np.bincount(targets, minlength=n_labels)
    weights = np.zeros(n_labels)
    weights[counts > 0] = len(targets) / ((counts > 0).sum() * counts[counts > 0])
    return weights.astype(np.float32)


def warm_cosine(step: int, total: int) -> float:
    """Factor on the learning rate: linear over the first tenth, then half a cosine to zero."""
    warm = max(1, total // 10)
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def autocast(device: Any, precision: Precision) -> Any:
    """bf16 where that is the precision."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def batches(vilt: Vilt, patients: Patients, size: int, workers: int) -> Iterator[Batch]:
    """Batches on the model's device, in order; the faces of the next ones are decoded meanwhile.

    Raises:
        DataError: A face cannot be read.
    """
    start, end = int(vilt.tokenizer.cls_token_id), int(vilt.tokenizer.sep_token_id)
    with decoding_pool(workers) as pool:

        def decode(first: int) -> tuple[int, list[Future[Image] | None]]:
            faces = patients.faces[first : first + size]
            return first, [None if face is None else pool.submit(face.open) for face in faces]

        for first, decoding in ahead(range(0, len(patients.readings), size), decode):
            texts = [reading.ids(start, end) for reading in patients.readings[first : first + size]]
            faces = [None if job is None else job.result() for job in decoding]
            yield _moved(collate(vilt, texts, faces), vilt.model.device)


def _moved(batch: Batch, device: Any) -> Batch:
    pixels = None if batch.pixels is None else batch.pixels.to(device)
    mask = None if batch.pixel_mask is None else batch.pixel_mask.to(device)
    return Batch(batch.tokens.to(device), batch.token_mask.to(device), pixels, mask)


def _resume(path: Path, model: Any, optimiser: Any) -> list[float]:
    """Puts a checkpoint into model and optimiser; returns its losses, none where there is no checkpoint."""
    kept = load_checkpoint(path, model.device)
    if kept is None:
        return []
    try:
        model.load_state_dict(kept["model"])
        if kept["optimiser"]:
            optimiser.load_state_dict(kept["optimiser"])
        return [float(loss) for loss in kept["losses"]]
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise StorageError(f"The checkpoint {path} is damaged; delete it and run again.") from error


def _keep(path: Path, state: dict[str, Any], optimiser: Any) -> None:
    """Writes a checkpoint; a finished fit needs no optimiser."""
    save_checkpoint(path, {**state, "optimiser": optimiser.state_dict() if optimiser else {}})


def load_checkpoint(path: Path, device: Any) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote; None where there is nothing, or it is not as it was written.

    Raises:
        StorageError: It is not what mint writes.
    """
    import torch

    if path.exists() and not sealed_file(path):
        warnings.warn(f"The checkpoint {path.name} in the cache is damaged; the teacher is fitted again.", stacklevel=2)
        return None
    try:
        kept: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        return kept
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise StorageError(f"The checkpoint {path} is damaged; delete it and run again.") from error


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes tensors and numbers, whole or not at all.

    Raises:
        StorageError: It cannot be written.
    """
    import torch

    with replaced(path) as temporary:
        torch.save(content, temporary)
    seal_file(path)
