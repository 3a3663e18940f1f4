"""From transformers' CLIPModel layout to an open_clip CLIP with the same logits.

The two libraries hold the same network under different names: open_clip fuses query, key and value into one matrix and
stores both projections transposed. `vinid/plip` is published in the layout of transformers.

Source: transformers' `modeling_clip.py` and open_clip's `model.py`, `transformer.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mint_core.plugin import ModelError

if TYPE_CHECKING:
    from torch import Tensor

VISION, TEXT = "vision_model.", "text_model."
LEGACY_EOS = 2
_VISION_NAMES = {
    "embeddings.class_embedding": "visual.class_embedding",
    "embeddings.patch_embedding.weight": "visual.conv1.weight",
    "embeddings.position_embedding.weight": "visual.positional_embedding",
    "pre_layrnorm.": "visual.ln_pre.",
    "post_layernorm.": "visual.ln_post.",
    "encoder.layers.": "visual.transformer.resblocks.",
}
_TEXT_NAMES = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.": "ln_final.",
    "encoder.layers.": "transformer.resblocks.",
}
_BLOCK_NAMES = {
    ".self_attn.out_proj.": ".attn.out_proj.",
    ".layer_norm1.": ".ln_1.",
    ".layer_norm2.": ".ln_2.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
}
# What config.json leaves out has the value of transformers' CLIPVisionConfig and CLIPTextConfig.
_COMMON = {"layer_norm_eps": 1e-5, "hidden_act": "quick_gelu", "num_hidden_layers": 12}
_VISION_DEFAULTS = _COMMON | {
    "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "image_size": 224, "patch_size": 32,
}  # fmt: skip
_TEXT_DEFAULTS = _COMMON | {
    "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "max_position_embeddings": 77,
    "vocab_size": 49408, "eos_token_id": 49407,
}  # fmt: skip


def convert_config(config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of open_clip's CLIP that build the architecture of a CLIPModel.

    Args:
        config: The content of config.json.

    Raises:
        ModelError: It is not a CLIP, or it has an activation that open_clip's CLIP has not.
    """
    if config.get("model_type") != "clip":
        raise ModelError(f"config.json is of model type '{config.get('model_type')}', not 'clip'; give a CLIP model.")
    vision = _VISION_DEFAULTS | (config.get("vision_config") or {})
    text = _TEXT_DEFAULTS | (config.get("text_config") or {})
    activations = {vision["hidden_act"], text["hidden_act"]}
    if len(activations) > 1 or not activations <= {"gelu", "quick_gelu"}:
        raise ModelError(
            f"The activation {' and '.join(sorted(activations))} in config.json cannot be converted; "
            "only gelu or quick_gelu, the same in both towers."
        )
    eos = text["eos_token_id"]
    pools_at_highest = eos in (LEGACY_EOS, text["vocab_size"] - 1)  # configs from before transformers #24773 say 2
    return {
        "embed_dim": config.get("projection_dim", 512),
        "quick_gelu": activations == {"quick_gelu"},
        "vision_cfg": {
            "image_size": vision["image_size"], "patch_size": vision["patch_size"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"], **_tower(vision),
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"], "vocab_size": text["vocab_size"],
            "heads": text["num_attention_heads"], **_tower(text),
            "pool_type": "argmax" if pools_at_highest else "eos", "eos_id": eos,
        },
    }  # fmt: skip


def _tower(config: dict[str, Any]) -> dict[str, Any]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    ratio = inner / width if int(width * (inner / width)) == inner else (inner + 0.5) / width
    layers, eps = config["num_hidden_layers"], config["layer_norm_eps"]
    return {"width": width, "layers": layers, "mlp_ratio": ratio, "norm_kwargs": {"eps": eps}}


def convert_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames, fuses and transposes the tensors of a CLIPModel into those of open_clip's CLIP.

    Args:
        state: Tensors by transformers' names.

    Raises:
        ModelError: A tensor is not part of a CLIPModel, or one is missing.
    """
    import torch

    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(".position_ids"):  # a buffer that older files hold
            continue
        if name == "logit_scale":
            converted[name] = tensor
        elif name == "visual_projection.weight":
            converted["visual.proj"] = tensor.T.contiguous()
        elif name == "text_projection.weight":
            converted["text_projection"] = tensor.T.contiguous()
        elif ".self_attn.q_proj." in name:
            try:
                parts = [state[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            except KeyError as error:
                raise ModelError(f"The weights lack the tensor {error.args[0]}; the file is incomplete.") from error
            fused = _rename(name).replace(".self_attn.q_proj.", ".attn.in_proj_")
            converted[fused] = torch.cat(parts)
        elif ".self_attn.k_proj." not in name and ".self_attn.v_proj." not in name:
            converted[_rename(name)] = tensor
    return converted


def _rename(name: str) -> str:
    for tower, names in ((VISION, _VISION_NAMES), (TEXT, _TEXT_NAMES)):
        if name.startswith(tower):
            rest = name.removeprefix(tower)
            for old, new in names.items():
                if rest.startswith(old):
                    rest = new + rest.removeprefix(old)
                    for old_part, new_part in _BLOCK_NAMES.items():
                        rest = rest.replace(old_part, new_part)
                    return rest
    raise ModelError(f"The tensor {name} does not belong to a CLIPModel; give the weights of a CLIP model.")


def convert_preprocess(config: dict[str, Any], image_size: int) -> dict[str, Any]:
    """open_clip's preprocess_cfg from the content of preprocessor_config.json.

    Args:
        config: The content; empty where there is no such file, which gives CLIP's own preprocessing.
        image_size: Edge in pixels that the vision tower expects.

    Raises:
        ModelError: It asks for a preprocessing that open_clip has not.
    """
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    resample = config.get("resample", 3)
    if resample not in (2, 3):
        raise ModelError(f"preprocessor_config.json asks for resample {resample}; only 2 (bilinear) and 3 (bicubic).")
    size, crops = config.get("size", image_size), config.get("do_center_crop", True)
    shortest = size if isinstance(size, int) else size.get("shortest_edge")
    crop = config.get("crop_size", image_size)
    cropped = (crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"])
    squashed = None if isinstance(size, int) else (size.get("height"), size.get("width"))
    square = (image_size, image_size)
    if shortest == image_size and crops and cropped == square:
        mode = "shortest"
    elif squashed == square and (not crops or cropped == square):
        mode = "squash"
    else:
        raise ModelError(
            f"preprocessor_config.json resizes to {size} and crops to {crop if crops else 'nothing'}, "
            f"but the model reads {image_size} pixels; make the sizes equal."
        )
    return {
        "size": image_size,
        "mode": "RGB",
        "interpolation": "bicubic" if resample == 3 else "bilinear",
        "resize_mode": mode,
        "mean": tuple(config.get("image_mean", OPENAI_DATASET_MEAN)),
        "std": tuple(config.get("image_std", OPENAI_DATASET_STD)),
    }
