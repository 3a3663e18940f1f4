"""A student without its weights: config, processor and the model's shape on the meta device."""

from __future__ import annotations

from typing import Any

from mint_core.config import StudentConfig
from mint_core.errors import ModelError
from mint_core.interfaces import Student
from mint_core.students.load import (
    check_folder,
    explain_load_failure,
    hub_commit,
    is_image_text,
    resolve_device,
    resolve_dtype,
)


def load_outline(config: StudentConfig, path: str | None = None) -> Student:
    """As `load_student`, but no weight is read: a folder with config and processor is enough.

    Args:
        config: Which student and how.
        path: A folder to load from instead of `config.model` (the embedded student).

    Returns:
        A student whose model has shapes and no numbers, and whose device is the one that training would use.

    Raises:
        ModelError: Config or processor cannot be found or loaded.
        ConfigError: The device cannot be used.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

    source = path or config.model
    device = resolve_device(config.device)
    hub = {"revision": hub_commit(source, config.revision), "trust_remote_code": config.trust_remote_code}
    options: dict[str, Any] = {"dtype": resolve_dtype(config.dtype, device)}
    if config.attention in ("sdpa", "eager"):  # a fused kernel is planned like sdpa, and may not be installed here
        options["attn_implementation"] = config.attention
    check_folder("student", source)
    try:
        model_config = AutoConfig.from_pretrained(source, **hub)
        reads_images = is_image_text(model_config)
        factory = AutoModelForImageTextToText if reads_images else AutoModelForCausalLM
        with torch.device("meta"):
            model = factory.from_config(model_config, trust_remote_code=config.trust_remote_code, **options)
        processor = (AutoProcessor if reads_images else AutoTokenizer).from_pretrained(source, **hub)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(explain_load_failure("student", source, error)) from error
    tokenizer = processor.tokenizer if reads_images else processor
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Student(model, processor, tokenizer, reads_images, torch.device(device), source)
