"""LoRA on any student, and adapters in plain PEFT layout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from mint_core.errors import ModelError

_ATTENTION = "q_proj|k_proj|v_proj|o_proj|out_proj|qkv_proj|qkv|query_key_value|c_attn|proj|fc_qkv"
# Module path segments that mark what sees: towers, and what joins them to the language model.
_VISION = re.compile(
    r"(^|\.)(vision\w*|visual|image_encoder|multi_modal_projector|connector|embed_vision|aligner)(\.|$)"
)


def target_modules(model: Any, targets: Literal["attention", "all-linear"], *, vision: bool) -> list[str]:
    """Names of the linear layers that get an adapter.

    Args:
        model: The student.
        targets: Attention projections only, or every linear layer but the output head.
        vision: Include the vision tower and the projector.

    Raises:
        ModelError: No layer fits.
    """
    import torch

    head = model.get_output_embeddings()
    # The output projection of nn.MultiheadAttention (SigLIP's pooling head) is never called, only its weight is read.
    uncalled = torch.nn.modules.linear.NonDynamicallyQuantizableLinear
    names = []
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or isinstance(module, uncalled) or module is head:
            continue
        if not vision and _VISION.search(name):
            continue
        if targets == "attention" and not re.fullmatch(_ATTENTION, name.rpartition(".")[2]):
            continue
        names.append(name)
    if not names:
        raise ModelError("No linear layer of the student fits lora_targets; try --set aligner.lora_targets=all-linear.")
    return names


def add_lora(model: Any, names: list[str], rank: int, alpha: float, dropout: float) -> Any:
    """Wraps the student for training: only the adapter has gradients, and its weights are fp32."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names, task_type="CAUSAL_LM")
    wrapped = get_peft_model(model, config)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return wrapped


def load_adapter(model: Any, adapter: Path) -> Any:
    """Puts a trained adapter onto the student, for inference.

    Raises:
        ModelError: The folder holds no safetensors adapter. Pickled adapters are refused: peft would fall back to them.
    """
    from peft import PeftModel

    if not (adapter / "adapter_model.safetensors").is_file():
        raise ModelError(f"{adapter} holds no adapter_model.safetensors; run `mint align` again.")
    return PeftModel.from_pretrained(model, str(adapter)).eval()
