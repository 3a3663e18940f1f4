"""LoRA on any student, and adapters in plain PEFT layout."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any, Literal

from mint_core.errors import ModelError
from mint_core.files import read_json

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


def continue_adapter(model: Any, adapter: Path, dropout: float) -> Any:
    """Puts a trained adapter onto the student, to train it further.

    Args:
        model: The student.
        adapter: A folder in plain PEFT layout.
        dropout: LoRA dropout of the training to come.

    Raises:
        ModelError: The folder holds no safetensors LoRA adapter, or the adapter was made for another student.
    """
    from peft import PeftModel

    config = adapter_config(adapter)
    _check_made_for(config.base_model_name_or_path, str(getattr(model, "name_or_path", "")), adapter)
    config.lora_dropout = dropout
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # peft warns of missing layers; they are an error below
            wrapped = PeftModel.from_pretrained(model, str(adapter), config=config, is_trainable=True)
    except (ValueError, RuntimeError) as error:
        raise ModelError(_other_student(adapter)) from error
    if _shapes(adapter) != {key: tuple(value.shape) for key, value in adapter_state(wrapped).items()}:
        raise ModelError(_other_student(adapter))
    return _in_full_precision(wrapped)


def adapter_config(adapter: Path) -> Any:
    """The LoraConfig of a trained adapter.

    Raises:
        ModelError: The folder holds no safetensors LoRA adapter.
    """
    from peft import LoraConfig, PeftConfig
    from safetensors import SafetensorError

    check_adapter(adapter)
    check_patterns(adapter)
    try:
        _shapes(adapter)
        config = PeftConfig.from_pretrained(str(adapter))
    except (ValueError, TypeError, KeyError, SafetensorError) as error:
        raise ModelError(f"The adapter in {adapter} is damaged; run the `sft` aligner that made it again.") from error
    if not isinstance(config, LoraConfig):
        raise ModelError(f"The adapter in {adapter} is no LoRA adapter; name the adapter/ folder of an `sft` run.")
    return config


def check_adapter(adapter: Path) -> None:
    """Refuses a folder without a safetensors adapter; pickled ones count as none.

    Raises:
        ModelError: It holds none.
    """
    if not all((adapter / name).is_file() for name in ("adapter_config.json", "adapter_model.safetensors")):
        raise ModelError(
            f"{adapter} holds no adapter (adapter_config.json and adapter_model.safetensors); name the adapter/ folder "
            "of a run with the `sft` aligner, or leave aligner.sft_adapter out: `dpo` then begins with SFT itself."
        )


_NAME = re.compile(r"[\w.-]{1,300}")
_OF_NAMES = ("target_modules", "exclude_modules", "layers_pattern", "rank_pattern", "alpha_pattern")
"""Entries of adapter_config.json that peft may take for regular expressions; mint writes names of layers."""


def check_patterns(adapter: Path) -> None:
    """Refuses an adapter whose layers are patterns: a regular expression from outside may take for ever to match.

    Raises:
        ModelError: adapter_config.json cannot be read, or one entry holds something else than names of layers.
    """
    path = adapter / "adapter_config.json"
    try:
        content = read_json(path)
    except FileNotFoundError:
        return  # told by whoever needs it
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON that can be read"
        raise ModelError(f"{path} cannot be read ({reason}); copy the adapter/ folder of its run again.") from error
    for key in _OF_NAMES if isinstance(content, dict) else ():
        names = content.get(key)
        # peft writes patterns of ranks as a mapping; a list, too, is told by peft where it does not belong
        listed = names if isinstance(names, list | dict) else [] if names is None else [names]
        words = isinstance(names, str) and key in _OF_NAMES[:2] and names != "all-linear"
        if words or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in listed):
            raise ModelError(
                f"{path}: {key} holds a pattern, and mint takes names of layers; name the adapter/ folder of a run."
            )


def adapter_state(model: Any) -> dict[str, Any]:
    """The adapter's tensors under the names that its file has."""
    from peft import get_peft_model_state_dict

    # peft would ask the hub whether the vocabulary grew; adapters of mint never hold embeddings.
    return dict(get_peft_model_state_dict(model, save_embedding_layers=False))


def _shapes(adapter: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import safe_open

    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping


def _check_made_for(made_for: str | None, student: str, adapter: Path) -> None:
    """Two hub ids can be compared by name; a folder may be a copy of anything."""
    if made_for and made_for != student and not Path(made_for).is_absolute() and not Path(student).exists():
        raise ModelError(f"The adapter in {adapter} was made for {made_for}, and the student is {student}.")


def _other_student(adapter: Path) -> str:
    return (
        f"The adapter in {adapter} does not fit this student: it was made for other layers or sizes; "
        "run the `sft` aligner with this student first."
    )


def _in_full_precision(model: Any) -> Any:
    """The adapter's weights as fp32: small steps vanish in bf16."""
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return model


def load_adapter(model: Any, adapter: Path) -> Any:
    """Puts a trained adapter onto the student, for inference.

    Raises:
        ModelError: The folder holds no safetensors adapter (pickled adapters are refused: peft would fall back to
            them), or it was made for another student.
    """
    from peft import PeftModel

    if not (adapter / "adapter_model.safetensors").is_file():
        raise ModelError(f"{adapter} holds no adapter_model.safetensors; run `mint align` again.")
    check_patterns(adapter)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # peft warns of missing layers; they are an error below
            wrapped = PeftModel.from_pretrained(model, str(adapter)).eval()
    except (ValueError, RuntimeError) as error:
        raise ModelError(_not_for(adapter)) from error
    if _shapes(adapter) != {key: tuple(value.shape) for key, value in adapter_state(wrapped).items()}:
        raise ModelError(_not_for(adapter))
    return wrapped


def _not_for(adapter: Path) -> str:
    return f"The adapter in {adapter} does not fit this student: it was trained on another one."
