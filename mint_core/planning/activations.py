"""What a forward pass keeps for its backward pass, counted on tensors without numbers.

The student's own code runs on the meta device, where tensors have shapes only, and every tensor that autograd saves is
counted once. That holds for any architecture, and takes neither weights nor time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers.modeling_layers import GradientCheckpointingLayer

from mint_core.interfaces import Student

_NO_META = (RuntimeError, NotImplementedError, ValueError, TypeError, IndexError, AttributeError, KeyError)
"""What code that looks at the values of a tensor raises where there are none."""


@dataclass(frozen=True, slots=True)
class Activations:
    """Bytes that one forward pass leaves behind, the last logits apart."""

    kept: int
    """Without gradient checkpointing."""
    checkpointed: int
    """With it: the input of every layer, and one layer's own while it is computed again."""
    whole: bool
    """Whether the whole student was counted, or its language model only."""


def count_activations(student: Student, model: Any, batch: Mapping[str, Any]) -> Activations:
    """Runs one forward pass on the meta device.

    Args:
        student: Without weights.
        model: The same with an adapter.
        batch: One forward pass of GroupCollator.
    """
    inputs = send_to_device(dict(batch["model"]), "meta")
    inputs["attention_mask"] = _square(student, inputs["attention_mask"])
    model.train()
    try:
        return _count(model, lambda: model(**inputs, use_cache=False), whole=True)
    except _NO_META:  # most vision towers look at the values of an image's shape
        return _count(model, lambda: _language_model(student, inputs), whole=False)


def _square(student: Student, mask: Any) -> Any:
    """One entry per pair of tokens: transformers would look at the values of a mask with one per token."""
    if isinstance(mask, Mapping) or mask.dim() == 4:
        return mask
    eager = student.model.config._attn_implementation == "eager"
    rows, length = mask.shape
    return torch.empty(rows, 1, length, length, dtype=student.model.dtype if eager else torch.bool, device="meta")


def _language_model(student: Student, inputs: Mapping[str, Any]) -> None:
    """The decoder alone, on embeddings of the same shape."""
    config = student.model.config.get_text_config()
    rows, length = inputs["input_ids"].shape
    embeddings = torch.empty(rows, length, config.hidden_size, dtype=student.model.dtype, device="meta")
    named = {key: inputs[key] for key in ("attention_mask", "position_ids") if key in inputs}
    student.model.get_decoder()(inputs_embeds=embeddings, use_cache=False, **named)


def _count(model: Any, forward: Callable[[], Any], *, whole: bool) -> Activations:
    saved = _Saved(model)
    try:
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor), FusedAttention():
            forward()
    finally:
        saved.close()
    inside = {layer: size for layer, size in saved.bytes.items() if layer is not None}
    inputs = sum(saved.inputs[layer] for layer in inside)
    return Activations(
        kept=sum(saved.bytes.values()),
        checkpointed=saved.bytes[None] + inputs + max(inside.values(), default=0),
        whole=whole,
    )


class _Saved:
    """Counts saved tensors by the layer that saves them; weights do not count, and no storage counts twice."""

    def __init__(self, model: Any) -> None:
        known = [*model.parameters(), *model.buffers()]
        self.bytes: Counter[str | None] = Counter({None: 0})
        self.inputs: dict[str, int] = {}
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}
        self._alive: list[Tensor] = []  # a storage's address is its name, so none may be given away
        self._layer: str | None = None
        self._hooks = []
        for name, module in model.named_modules():
            if isinstance(module, GradientCheckpointingLayer):
                self._hooks.append(module.register_forward_pre_hook(self._enter(name), with_kwargs=True))
                self._hooks.append(module.register_forward_hook(self._leave))

    def pack(self, tensor: Tensor) -> Tensor:
        """Counts one saved tensor."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._alive.append(tensor)
            self.bytes[self._layer] += storage.nbytes()
        return tensor

    def close(self) -> None:
        """Takes the hooks off the model."""
        for hook in self._hooks:
            hook.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._layer = name
            hidden = args[0] if args else kwargs["hidden_states"]
            self.inputs[name] = hidden.numel() * hidden.element_size()

        return enter

    def _leave(self, *_: Any) -> None:
        self._layer = None


class FusedAttention(TorchFunctionMode):
    """Scaled dot-product attention on meta as the fused kernels do it, which keep no attention weights.

    On meta torch takes the formula apart, and would save a number for every pair of tokens and head.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replaces the one function."""
        kwargs = kwargs or {}
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        return _fused(**dict(zip(_NAMES, args, strict=False)), **kwargs)


_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    **_: Any,
) -> Tensor:
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.empty(attn_mask.shape, dtype=query.dtype, device=query.device)
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    result: Tensor = kernel(query, key, value, 0.0, is_causal, attn_mask=attn_mask, scale=scale)[0]
    return result
