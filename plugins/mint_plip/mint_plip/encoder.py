"""A CLIP's two sides at work: images to unit vectors in the chosen precision, and labels to unit vectors in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mint_plip.clip import Clip

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor, nn

Precision = Literal["auto", "fp32", "bf16"]


AT_ONCE = 256
"""Sentences in a forward pass."""


def choose_precision(wanted: Precision, device: str) -> Literal["fp32", "bf16"]:
    """`auto` is bf16 on CUDA and on CPUs with bf16 instructions (AVX512_BF16 or AMX), else fp32.

    Args:
        wanted: What the user asked for.
        device: A torch device string.
    """
    if wanted != "auto":
        return wanted
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if kind == "cpu":
        has = torch.cpu.get_capabilities()
        return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") else "fp32"
    return "fp32"


class ImageEncoder:
    """Turns images into unit vectors.

    In bf16 the matrices of the image tower are stored in bf16 and everything else (residual stream, normalisations, the
    result) stays in fp32 under autocast: the same rule for every tower that open_clip can build.

    Args:
        clip: The model. Its image tower is moved and cast in place.
        device: A torch device string.
        precision: fp32 or bf16.
    """

    def __init__(self, clip: Clip, device: str, precision: Literal["fp32", "bf16"]) -> None:
        import torch
        from open_clip.transform import PreprocessCfg, image_transform_v2

        self.precision, self.device = precision, torch.device(device)
        steps = image_transform_v2(PreprocessCfg(**clip.preprocess), is_train=False).transforms
        self._geometry = steps[:-2]  # the last two turn pixels into numbers: `to_input` does that for a whole batch
        self._mean = torch.tensor(clip.preprocess["mean"], device=self.device).reshape(1, -1, 1, 1) * 255
        self._std = torch.tensor(clip.preprocess["std"], device=self.device).reshape(1, -1, 1, 1) * 255
        self.model: Any = clip.model.to(self.device)
        self.model.visual.to(memory_format=torch.channels_last)

    def freeze(self) -> None:
        """Ends training, and stores the matrices of the image tower in bf16 where that is the precision."""
        self.model.eval().requires_grad_(False)
        if self.precision == "bf16":
            store_matrices_in_bf16(self.model.visual)

    def prepare(self, image: Image) -> NDArray[np.uint8]:
        """Resizes and crops one image: uint8, shape (height, width, 3)."""
        for step in self._geometry:
            image = step(image)
        return np.asarray(image)

    def to_input(self, pixels: NDArray[np.uint8]) -> Tensor:
        """uint8 (n, height, width, 3) -> normalised float (n, 3, height, width), in channels-last memory."""
        import torch

        batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float()
        return batch.sub_(self._mean).div_(self._std)

    def embed(self, batch: Tensor) -> Tensor:
        """Unit vectors (n, dim) in fp32 of what `to_input` returned, with gradients where they are enabled."""
        import torch

        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            embedded = self.model.encode_image(batch)
        return torch.nn.functional.normalize(embedded.float(), dim=-1)

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors, shape (n, dim), of prepared images, shape (n, height, width, 3)."""
        import torch

        with torch.inference_mode():
            encoded: NDArray[np.float32] = self.embed(self.to_input(pixels)).cpu().numpy()
        return encoded


def store_matrices_in_bf16(tower: nn.Module) -> None:
    """Casts the weights of linear, convolutional and attention layers in place."""
    import torch

    for module in tower.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.to(torch.bfloat16)
        elif isinstance(module, torch.nn.MultiheadAttention):
            for name, parameter in module.named_parameters(recurse=False):
                setattr(module, name, torch.nn.Parameter(parameter.detach().to(torch.bfloat16), requires_grad=False))


def encode_labels(clip: Clip, labels: Sequence[str], templates: Sequence[str]) -> NDArray[np.float32]:
    """A unit vector per label, shape (n_labels, dim): the mean over the templates' unit vectors, normalised again.

    Args:
        clip: The model.
        labels: Names, put into the templates as they are.
        templates: Sentences with one `{}`.
    """
    import torch

    model: Any = clip.model
    device = next(model.parameters()).device
    total = torch.zeros(())
    with torch.inference_mode():
        for template in templates:
            tokens = clip.tokenizer([sentence(template, label) for label in labels]).to(device)
            total = total + model.encode_text(tokens, normalize=True).float().cpu()
        encoded: NDArray[np.float32] = torch.nn.functional.normalize(total, dim=-1).numpy()
    return encoded


def encode_texts(clip: Clip, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """A vector per text, shape (n, dim): the normalised mean of its sentences' unit vectors, zeros where it has none.

    Args:
        clip: The model.
        texts: The sentences of each.
    """
    import torch

    model: Any = clip.model
    device = next(model.parameters()).device
    flat = [sentence for sentences in texts for sentence in sentences] or [""]  # one at least tells the size
    parts = []
    with torch.inference_mode():
        for start in range(0, len(flat), AT_ONCE):
            tokens = clip.tokenizer(flat[start : start + AT_ONCE]).to(device)
            parts.append(model.encode_text(tokens, normalize=True).float().cpu())
        vectors = torch.cat(parts)
        ends = np.cumsum([len(sentences) for sentences in texts])
        sums = [vectors[end - len(sentences) : end].sum(0) for sentences, end in zip(texts, ends, strict=True)]
        encoded: NDArray[np.float32] = torch.nn.functional.normalize(torch.stack(sums), dim=-1).numpy()
    return encoded


def temperature(clip: Clip) -> float:
    """The factor on cosines before the softmax."""
    scale: Any = clip.model.logit_scale
    return float(scale.detach().float().exp().reshape(-1)[0])


def sentence(template: str, label: str) -> str:
    """The template with the label in its place."""
    return template.replace("{}", label)
