"""Fine-tuning of a CLIP's image tower with a linear head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mint_core.plugin import ImageRef, TrainingError, ahead, decoding_pool
from mint_plip.encoder import ImageEncoder

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
            batches = (order[first : first + batch_size] for first in range(0, len(order), batch_size))
            for rows, decoding in ahead(batches, start):
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


def decode(ref: ImageRef, encoder: ImageEncoder) -> NDArray[np.uint8]:
    """Opens and prepares one image: uint8, shape (height, width, 3)."""
    return encoder.prepare(ref.open())
