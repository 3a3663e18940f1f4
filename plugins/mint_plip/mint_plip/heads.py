"""What can be fitted on top of a CLIP: a linear probe on frozen features, and a full fine-tuning of the image tower."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mint_core.plugin import ImageRef, TrainingError, ahead, classifier_log_probs, decoding_pool, group_folds
from mint_plip.encoder import ImageEncoder
from mint_plip.features import batches, decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALL = 10_000_000
"""Entries of a feature matrix below which one thread fits the probe."""


class LinearProbe:
    """Multinomial logistic regression on standardised features.

    Args:
        n_labels: Size of the label space. A label without a training sample gets the lowest probability of the row.
        c: Inverse strength of the L2 penalty.
    """

    def __init__(self, n_labels: int, c: float) -> None:
        self._n_labels, self._c = n_labels, c
        self._model: Any = None
        self._seen: NDArray[np.int64] = np.empty(0, np.int64)
        self.converged = True

    def fit(self, features: NDArray[np.float32], labels: NDArray[np.int64]) -> LinearProbe:
        """Fits on features (n, dim) and label indices (n,); at least two different labels."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # a dependency of scikit-learn

        self._model = make_pipeline(StandardScaler(), LogisticRegression(C=self._c, max_iter=1000))
        # On small matrices a second BLAS thread gains little, and on a busy machine it costs a hundredfold.
        threads = 1 if features.size < SMALL else None
        with warnings.catch_warnings(record=True) as caught, threadpool_limits(threads, "blas"):
            warnings.simplefilter("always", ConvergenceWarning)
            self._model.fit(features, labels)
        self.converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        self._seen = self._model[-1].classes_
        return self

    def log_probs(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Natural logarithms, shape (n, n_labels)."""
        return classifier_log_probs(self._model.decision_function(features), self._seen, self._n_labels)


def out_of_fold(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: Sequence[str],
    *,
    n_labels: int,
    c: float,
    folds: int,
) -> NDArray[np.float32] | None:
    """Log-probabilities (n, n_labels) of every row by a probe that saw no row of its group.

    Args:
        features: (n, dim).
        labels: (n,) indices.
        groups: n names; rows of one group stay together.
        n_labels: Size of the label space.
        c: As in LinearProbe.
        folds: Number of folds; fewer where there are fewer groups.

    Returns:
        None where there are fewer than two groups. Rows whose other folds hold fewer than two labels are uniform.
    """
    parts = group_folds(groups, folds)
    if not parts:
        return None
    held_out = np.full((len(labels), n_labels), -math.log(n_labels), np.float32)
    for train, rest in parts:
        if len(np.unique(labels[train])) > 1:
            held_out[rest] = LinearProbe(n_labels, c).fit(features[train], labels[train]).log_probs(features[rest])
    return held_out


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A linear head on unit vectors, and how the training went."""

    weight: NDArray[np.float32]
    """(n_labels, dim); holds the temperature."""
    bias: NDArray[np.float32]
    """(n_labels,)."""
    losses: tuple[float, ...]
    """Mean cross-entropy per epoch, in nats."""


def fine_tune(
    encoder: ImageEncoder,
    images: Sequence[ImageRef],
    labels: NDArray[np.int64],
    initial: NDArray[np.float32],
    *,
    epochs: int,
    rate: float,
    batch_size: int,
    workers: int,
    seed: int,
) -> FineTuned:
    """Trains the image tower and a linear head with cross-entropy: AdamW, 10 % warm-up, cosine; mirrored and turned.

    The head starts at the label sentences' vectors, which is the zero-shot model (compare FLYP, Goyal et al. 2023).

    Args:
        encoder: Not yet frozen; its image tower is trained in place.
        images: n images.
        labels: (n,) indices.
        initial: The head's first weight, shape (n_labels, dim).
        epochs: Passes over the images.
        rate: Peak learning rate of the tower; the head's is ten times that.
        batch_size: Images per step.
        workers: Threads that decode.
        seed: Order and augmentation.

    Raises:
        TrainingError: The loss is not finite.
        DataError: An image cannot be read.
    """
    import torch

    tower = encoder.model.visual
    weight = torch.tensor(initial, device=encoder.device, requires_grad=True)
    bias = torch.zeros(len(initial), device=encoder.device, requires_grad=True)
    tower.train().requires_grad_(True)
    groups = [{"params": list(tower.parameters()), "lr": rate}, {"params": [weight, bias], "lr": 10 * rate}]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
    total = epochs * -(-len(images) // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _warm_cosine(step, total))
    rng, losses = np.random.default_rng(seed), []
    devices = [encoder.device] if encoder.device.type == "cuda" else []
    with decoding_pool(workers) as pool, torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(seed)

        def start(rows: Sequence[int]) -> tuple[Sequence[int], list[Future[NDArray[np.uint8]]]]:
            return rows, [pool.submit(decode, images[row], encoder) for row in rows]

        for epoch in range(epochs):
            summed = 0.0
            order: list[int] = rng.permutation(len(images)).tolist()
            for rows, decoding in ahead(batches(order, batch_size), start):
                pixels = np.stack([_turned(future.result(), rng) for future in decoding])
                logits = encoder.embed(encoder.to_input(pixels)) @ weight.T + bias
                loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows]).to(encoder.device))
                if not torch.isfinite(loss):
                    raise TrainingError(f"The loss of the fine-tuning is not finite in epoch {epoch + 1}; lower `lr`.")
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                torch.nn.utils.clip_grad_norm_([*tower.parameters(), weight, bias], 1.0)
                optimiser.step()
                schedule.step()
                summed += float(loss.detach()) * len(rows)
            losses.append(summed / len(images))
    return FineTuned(weight.detach().cpu().numpy(), bias.detach().cpu().numpy(), tuple(losses))


def _warm_cosine(step: int, total: int) -> float:
    """Factor on the learning rate: linear over the first tenth, then half a cosine to zero."""
    warm = max(1, total // 10)
    return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def _turned(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One of the eight mirrored quarter turns of a square image."""
    turned = np.rot90(pixels, int(rng.integers(4)))
    return turned[:, ::-1] if rng.random() < 0.5 else turned
