"""Frozen image features of any vision model that transformers knows: CLIP, SigLIP, DINOv2, ViT, ResNet."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mint_core.errors import ModelError
from mint_core.students.load import hub_commit, load_failures

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image


class Backbone:
    """A vision model, in fp32 and in evaluation mode.

    Args:
        source: A hub id or a folder.
        device: A torch device string.

    Raises:
        ModelError: It cannot be loaded, or reads no images.
    """

    def __init__(self, source: str, device: str) -> None:
        import torch
        from transformers import AutoConfig, AutoImageProcessor, AutoModel

        self.device = device
        with load_failures(source, "image model"):
            hub = {"revision": hub_commit(source, None), "trust_remote_code": False}
            config = AutoConfig.from_pretrained(source, **hub)
            model = AutoModel.from_pretrained(source, config=config, dtype=torch.float32, **hub)
            if "pixel_values" not in inspect.signature(model.forward).parameters:
                raise ModelError(f"The model {source} ({config.model_type}) reads no images; name a vision model.")
            self._processor = AutoImageProcessor.from_pretrained(source, **hub)
        self._model: Any = model.to(device).eval()

    def prepare(self, image: Image) -> NDArray[np.float32]:
        """An image as the model's own processor wants it, for example (3, height, width)."""
        pixels: NDArray[np.float32] = np.asarray(self._processor(images=image, return_tensors="np")["pixel_values"][0])
        return pixels

    def encode(self, images: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Pooled features, shape (n, dim): a dual encoder's image embedding, else the pooled or mean output."""
        import torch

        pixels = torch.from_numpy(np.stack(images)).to(self.device)
        with torch.inference_mode():
            embed = getattr(self._model, "get_image_features", self._model)
            found = embed(pixel_values=pixels)
            if not isinstance(found, torch.Tensor):
                pooled = getattr(found, "pooler_output", None)
                found = found.last_hidden_state.mean(1) if pooled is None else pooled
            features: NDArray[np.float32] = found.flatten(1).float().cpu().numpy()
        return features
