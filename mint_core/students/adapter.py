"""LoRA on any student, and adapters in plain PEFT layout."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any, Literal

from mint_core.errors import ModelError
from mint_core.students.adapter_files import (
    CONFIG,
    WEIGHTS,
    check_files,
    check_finite,
    check_recorded,
    explain_other_folder,
    tensor_shapes,
)

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
        if not vision and in_vision(name):
            continue
        if targets == "attention" and not re.fullmatch(_ATTENTION, name.rpartition(".")[2]):
            continue
        names.append(name)
    if not names:
        raise ModelError("No linear layer of the student fits lora_targets; try --set aligner.lora_targets=all-linear.")
    return names


def in_vision(name: str) -> bool:
    """Whether a layer, or a tensor of an adapter, belongs to the vision tower or the projector behind it."""
    return _VISION.search(name) is not None


def add_lora(model: Any, names: list[str], rank: int, alpha: float, dropout: float) -> Any:
    """Wraps the student for training: only the adapter has gradients, and its weights are fp32."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names, task_type="CAUSAL_LM")
    return _in_full_precision(get_peft_model(model, config))


_MADE_FOR_ANOTHER = "it was made for other layers or sizes; run the `sft` aligner with this student first."


def check_start(model: Any, adapter: Path) -> None:
    """Refuses an adapter that training cannot begin from; the student may be without weights.

    Raises:
        ModelError: The folder holds no safetensors LoRA adapter, or the adapter was made for another student.
    """
    _made_for(model, adapter, adapter_config(adapter))
    check_finite(adapter)
    layers = dict(model.named_modules())
    for name, shape in tensor_shapes(adapter).items():
        found = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", name)
        weight = getattr(layers.get(found[1]), "weight", None) if found else None
        side = 1 if found and found[2] == "A" else 0
        if weight is None or weight.ndim != 2 or weight.shape[side] != shape[side]:
            raise ModelError(f"The adapter in {adapter} does not fit this student: {_MADE_FOR_ANOTHER}")


def continue_adapter(model: Any, adapter: Path, dropout: float) -> Any:
    """Puts a trained adapter onto the student, to train it further.

    Raises:
        ModelError: The folder holds no safetensors LoRA adapter, or the adapter was made for another student.
    """
    config = adapter_config(adapter)
    _made_for(model, adapter, config)
    check_finite(adapter)
    config.lora_dropout = dropout
    return _in_full_precision(_attach(model, adapter, _MADE_FOR_ANOTHER, config=config, is_trainable=True))


def _made_for(model: Any, adapter: Path, config: Any) -> None:
    """Refuses an adapter of another student by the names of both."""
    made_for, student = config.base_model_name_or_path, str(getattr(model, "name_or_path", ""))
    # Two hub ids can be compared by name; a folder may be a copy of anything.
    if made_for and made_for != student and not Path(made_for).is_absolute() and not Path(student).exists():
        raise ModelError(f"The adapter in {adapter} was made for {made_for}, and the student is {student}.")


def load_adapter(model: Any, adapter: Path) -> Any:
    """Puts a trained adapter onto the student, for inference.

    Raises:
        ModelError: The folder holds no plain LoRA adapter in safetensors (pickled adapters are refused: peft would fall
            back to them), its weights are not finite, or it was made for another student.
    """
    check_files(adapter)
    check_finite(adapter)
    return _attach(model, adapter, "it was trained on another one.").eval()


def _no_card(_: str) -> None:
    """Peft would write one at every checkpoint; mint writes its own, see `mint_core.stages.card`."""


def _attach(model: Any, adapter: Path, refusal: str, **options: Any) -> Any:
    """The student with a trained adapter, all of whose tensors must have found their layers."""
    import torch
    from peft import PeftModel

    refused = ModelError(f"The adapter in {adapter} does not fit this student: {refusal}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # peft warns of missing layers; they are an error below
            wrapped = PeftModel.from_pretrained(model, str(adapter), **options)
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError, TypeError, KeyError, AttributeError) as error:
        raise refused from error
    if tensor_shapes(adapter) != {key: tuple(value.shape) for key, value in adapter_state(wrapped).items()}:
        raise refused
    return wrapped


def adapter_config(adapter: Path) -> Any:
    """The LoraConfig of a trained adapter.

    Raises:
        ModelError: The folder holds no safetensors LoRA adapter; a pickled one counts as none.
    """
    from peft import LoraConfig, PeftConfig

    if not all((adapter / name).is_file() for name in (CONFIG, WEIGHTS)):
        if other := explain_other_folder(adapter, "--set aligner.sft_adapter="):
            raise ModelError(other)
        raise ModelError(
            f"{adapter} holds no adapter (adapter_config.json and adapter_model.safetensors); name the adapter/ folder "
            "of a run with the `sft` aligner, or leave aligner.sft_adapter out: `dpo` then begins with SFT itself."
        )
    check_recorded(adapter)
    check_files(adapter)
    try:
        config = PeftConfig.from_pretrained(str(adapter))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"The adapter in {adapter} is damaged; run the `sft` aligner that made it again.") from error
    if not isinstance(config, LoraConfig):
        raise ModelError(f"The adapter in {adapter} is no LoRA adapter; name the adapter/ folder of an `sft` run.")
    return config


def adapter_state(model: Any) -> dict[str, Any]:
    """The adapter's tensors under the names that its file has."""
    from peft import get_peft_model_state_dict

    # peft would ask the hub whether the vocabulary grew; adapters of mint never hold embeddings.
    return dict(get_peft_model_state_dict(model, save_embedding_layers=False))


def _in_full_precision(model: Any) -> Any:
    """The adapter's weights as fp32: small steps vanish in bf16."""
    import torch

    model.create_or_update_model_card = _no_card
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return model
