"""A student without its weights: config, processor and the model's shape on the meta device."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from mint_core.config import StudentConfig
from mint_core.interfaces import Student
from mint_core.students.folder import check_config
from mint_core.students.load import (
    finished,
    hub_commit,
    is_image_text,
    load_failures,
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
        ConfigError: The device cannot be used, or the chat template does not read what the user sets in it.
    """
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoProcessor,
        AutoTokenizer,
        GenerationConfig,
    )

    source = path or config.model
    device = resolve_device(config.device)
    hub = {"revision": hub_commit(source, config.revision), "trust_remote_code": config.trust_remote_code}
    options: dict[str, Any] = {"dtype": resolve_dtype(config.dtype, device)}
    if config.attention in ("sdpa", "eager"):  # a fused kernel is planned like sdpa, and may not be installed here
        options["attn_implementation"] = config.attention
    with load_failures(source):
        check_config(Path(source))
        model_config = AutoConfig.from_pretrained(source, **hub)
        reads_images = is_image_text(model_config)
        factory = AutoModelForImageTextToText if reads_images else AutoModelForCausalLM
        with torch.device("meta"):
            model = factory.from_config(model_config, trust_remote_code=config.trust_remote_code, **options)
        processor = (AutoProcessor if reads_images else AutoTokenizer).from_pretrained(source, **hub)
        with suppress(OSError):  # it has none: what its config says, counts
            revision = hub["revision"]
            model.generation_config = GenerationConfig.from_pretrained(source, revision=revision)
        tokenizer = processor.tokenizer if reads_images else processor
        return finished(Student(model, processor, tokenizer, reads_images, torch.device(device), source), config)
