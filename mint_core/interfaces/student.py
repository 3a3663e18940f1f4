"""A loaded student: what aligners train and engines let answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass
class Student:
    """A loaded student.

    Attributes:
        model: The transformers model, on its device.
        processor: The processor of an image-text student; the tokenizer of a text student.
        tokenizer: The tokenizer.
        reads_images: Whether it is an image-text model.
        device: Where it is.
        source: The id or folder that it came from.
    """

    model: Any
    processor: Any
    tokenizer: Any
    reads_images: bool
    device: torch.device
    source: str
