"""A loaded student: what aligners train and engines let answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass
class Student:
    """A loaded student."""

    model: Any
    """The transformers model, on its device."""
    processor: Any
    """The processor of an image-text student; the tokenizer of a text student."""
    tokenizer: Any
    reads_images: bool
    """Whether it is an image-text model."""
    device: torch.device
    source: str
    """The id or folder that it came from."""
