"""Tokens that branch behind a prompt: where they stand, and what they may look at, for every kind of student."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor

from mint_core.interfaces import Student

FULL, SLIDING = "full_attention", "sliding_attention"


def prompt_positions(student: Student, prompts: Mapping[str, Tensor], real: Tensor) -> Tensor:
    """Position ids of prompts that are padded on the left.

    Args:
        student: Its position encoding counts.
        prompts: The stacked prompts.
        real: (rows, width) boolean; False where a prompt is padded.

    Returns:
        (rows, width), or (3, rows, width) for students that place image patches in time, height and width.
    """
    index = getattr(getattr(student.model, "model", None), "get_rope_index", None)
    if index is None:
        return (real.long().cumsum(1) - 1).clamp(min=0)
    known = inspect.signature(index).parameters
    with torch.no_grad():
        positions: Tensor = index(**{key: value for key, value in prompts.items() if key in known})[0]
    return positions


def layer_masks(student: Student, mask: Tensor, queries: Tensor, keys: Tensor) -> dict[str, Tensor]:
    """The mask of each kind of attention layer that the student has.

    Args:
        student: Its config says which kinds there are.
        mask: (rows, queries, keys) boolean; what a token may look at where nothing slides.
        queries: (rows, queries); how many tokens of its own text stand in front of each.
        keys: (rows, keys); the same.

    Returns:
        Masks of the same shape by kind; one entry where all layers are alike.
    """
    text = student.model.config.get_text_config()
    window = getattr(text, "sliding_window", None)
    layers = set(getattr(text, "layer_types", None) or ())
    if window is None or (layers and SLIDING not in layers):
        return {FULL: mask}
    near = mask & (queries[:, :, None] - keys[:, None, :] < window)
    return {FULL: mask, SLIDING: near} if layers else {SLIDING: near}


def in_form(student: Student, mask: Tensor) -> Tensor:
    """The mask as the attention takes it. Eager attention adds masks: a boolean one would be silently wrong.

    Args:
        student: Its attention implementation and precision count.
        mask: (rows, queries, keys) boolean.

    Returns:
        (rows, 1, queries, keys).
    """
    if student.model.config._attn_implementation != "eager":
        return mask[:, None]
    lowest = torch.finfo(student.model.dtype).min
    numbers = torch.zeros(mask[:, None].shape, dtype=student.model.dtype, device=mask.device)
    return numbers.masked_fill(~mask[:, None], lowest)
