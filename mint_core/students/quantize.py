"""Weights of four or eight bits (bitsandbytes): which layers hold them, what the library is told, what they take.

QLoRA (Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs") trains an adapter on 4-bit normal floats;
LLM.int8 (Dettmers et al. 2022) multiplies in eight bits. Output head, embeddings, norms, and a vision tower with its
projector keep the student's precision.
"""

from __future__ import annotations

import importlib.util
import math
from typing import TYPE_CHECKING, Any

from mint_core.config import StudentConfig
from mint_core.errors import ConfigError
from mint_core.students.adapter import in_vision

if TYPE_CHECKING:
    import torch

_BLOCK, _SECOND_BLOCK, _CODES = 64, 256, 16
"""Weights that share a scale, scales that share a second one, and the levels of a 4-bit number: bitsandbytes' own."""
_FP32 = 4


def check_quantize(config: StudentConfig, source: str, model_config: Any, *, gguf: bool) -> None:
    """Refuses to quantise what cannot be.

    Args:
        config: Of the student.
        source: Where it lies, for messages.
        model_config: The config that transformers read.
        gguf: Whether it is a GGUF file.

    Raises:
        ConfigError: The weights are quantised already, or bitsandbytes is not installed.
    """
    if config.quantize == "none":
        return
    stored = getattr(model_config, "quantization_config", None)
    method = stored.get("quant_method") if isinstance(stored, dict) else getattr(stored, "quant_method", None)
    if gguf or stored:
        how = "a GGUF file" if gguf else f"stored with {getattr(method, 'value', method) or 'weights of few bits'}"
        raise ConfigError(
            f"student.quantize={config.quantize}: the student {source} is quantised already ({how}); leave "
            "student.quantize out, or name the folder or hub id that it was made from."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"student.quantize={config.quantize} needs bitsandbytes; pip install 'mint-core[quantize]', or leave "
            "student.quantize out."
        )


def quantised_layers(model: Any) -> list[str]:
    """The layers whose weights are quantised: all linear ones but the output head and those that see images.

    Args:
        model: The student, with weights or without, before it is quantised.
    """
    import torch

    head = model.get_output_embeddings()
    tied = {id(model.get_input_embeddings().weight)}
    return [
        name
        for name, module in model.named_modules()
        if type(module) is torch.nn.Linear
        and module is not head
        and id(module.weight) not in tied
        and not in_vision(name)
    ]


def loading_options(config: StudentConfig, outline: Any, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """What `from_pretrained` is given so that it quantises while it loads.

    Args:
        config: Of the student; `quantize` is not `none`.
        outline: The same model without weights.
        dtype: In which it computes.
        device: Where the weights go.
    """
    import torch
    from transformers import BitsAndBytesConfig

    chosen = set(quantised_layers(outline))
    linear = [name for name, module in outline.named_modules() if isinstance(module, torch.nn.Linear)]
    kept = [name for name in linear if name not in chosen]
    if config.quantize == "int8":
        how = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    else:
        how = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=config.quantize,
            bnb_4bit_use_double_quant=config.double_quantize,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=kept,
        )
    return {"quantization_config": how, "device_map": {"": device}}


def weight_bytes(model: Any, config: StudentConfig) -> int:
    """Bytes of a student's weights and buffers on its device.

    Args:
        model: The student without weights, as `load_outline` makes it.
        config: Its precision and whether it is quantised.
    """
    tensors = [*model.parameters(), *model.buffers()]
    whole = sum(_bytes(tensor) for tensor in tensors)
    if config.quantize == "none":
        return whole
    weights = [model.get_submodule(name).weight for name in quantised_layers(model)]
    return whole + sum(_stored(weight, config) - _bytes(weight) for weight in weights)


def _bytes(tensor: torch.Tensor) -> int:
    return int(tensor.numel() * tensor.element_size())


def _stored(weight: torch.Tensor, config: StudentConfig) -> int:
    """Bytes of one layer's numbers and scales."""
    numbers = int(weight.numel())
    if config.quantize == "int8":
        return numbers + int(weight.shape[0]) * _FP32
    scales = math.ceil(numbers / _BLOCK)
    levels = _CODES * _FP32
    if not config.double_quantize:
        return math.ceil(numbers / 2) + scales * _FP32 + levels
    second = math.ceil(scales / _SECOND_BLOCK) + _SECOND_BLOCK + 1  # its scales, its levels, and the mean taken off
    return math.ceil(numbers / 2) + scales + second * _FP32 + levels


def held(model: Any) -> str:
    """`nf4` or `int8` where a loaded student's weights are quantised by bitsandbytes; else empty."""
    how: Any = getattr(model.config, "quantization_config", None)
    if getattr(how, "load_in_8bit", False):
        return "int8"
    return str(how.bnb_4bit_quant_type) if getattr(how, "load_in_4bit", False) else ""


def told(config: StudentConfig, dtype: str) -> str:
    """How the weights are held, for people; empty where they are not quantised.

    Args:
        config: Of the student.
        dtype: The precision of the rest, for example `float32`.
    """
    if config.quantize == "none":
        return ""
    how = "8-bit weights (LLM.int8)" if config.quantize == "int8" else "4-bit weights (nf4"
    if config.quantize == "nf4":
        how += ", scales quantised too)" if config.double_quantize else ")"
    return f"{how}, the rest in {dtype}"
