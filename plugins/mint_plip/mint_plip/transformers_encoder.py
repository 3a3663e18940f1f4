"""Dual encoders of transformers that open_clip's CLIP cannot hold (SigLIP and others), with open_clip's methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from mint_core.plugin import ModelError

_UNMASKED = ("siglip", "siglip2")
"""They were trained to read padding too."""


class DualEncoderModel(nn.Module):
    """Image and text towers of a transformers model behind the methods that mint-plip calls.

    Args:
        model: Has `get_image_features`, `get_text_features`, `vision_model` and `logit_scale`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.masked = model.config.model_type not in _UNMASKED
        self.pad = getattr(model.config.text_config, "pad_token_id", None) or 0

    @property
    def visual(self) -> nn.Module:
        """The image tower: what is trained, and stored in bf16."""
        tower: nn.Module = self.model.vision_model
        return tower

    @property
    def logit_scale(self) -> Tensor:
        """The logarithm of the factor on cosines. SigLIP's bias is the same for all labels and changes no softmax."""
        scale: Tensor = self.model.logit_scale
        return scale

    def encode_image(self, batch: Tensor) -> Tensor:
        """Image features, shape (n, dim)."""
        return _pooled(self.model.get_image_features(pixel_values=batch))

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Text features, shape (n, dim), of token ids padded to one length."""
        mask = {"attention_mask": (tokens != self.pad).long()} if self.masked else {}
        found = _pooled(self.model.get_text_features(input_ids=tokens, **mask))
        return nn.functional.normalize(found, dim=-1) if normalize else found


def _pooled(found: Any) -> Tensor:
    pooled: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return pooled


def load(folder: Path, shown: str) -> DualEncoderModel:
    """Loads a folder as `save_pretrained` writes it.

    Raises:
        ModelError: It is no dual encoder, or its images have no fixed size.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        shape = AutoModel.from_config(config, trust_remote_code=False)
    needed = ("get_image_features", "get_text_features", "vision_model", "logit_scale")
    if not all(hasattr(shape, name) for name in needed):
        raise ModelError(
            f"The model {shown} ({config.model_type}) is no dual encoder of images and texts; name a CLIP or SigLIP, "
            "or choose the teacher `vlm` for a model that writes."
        )
    if not hasattr(config.vision_config, "image_size"):
        raise ModelError(f"The model {shown} ({config.model_type}) reads images of any size; name one of a fixed size.")
    return DualEncoderModel(AutoModel.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False))


def load_tokenizer(folder: Path, length: int) -> Any:
    """Sentences -> token ids (n, length), cut and padded."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)

    def encode(sentences: Any) -> Tensor:
        ids: Tensor = tokenizer(
            list(sentences), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )["input_ids"]
        return ids

    return encode
