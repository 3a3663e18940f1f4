"""A student with its adapter in its weights: a folder that transformers loads without peft and without mint."""

from __future__ import annotations

from pathlib import Path

from mint_core.config import StudentConfig
from mint_core.errors import ModelError
from mint_core.files import storage_errors
from mint_core.students.adapter import load_adapter
from mint_core.students.gguf import find_gguf
from mint_core.students.load import load_student


def write_merged(config: StudentConfig, path: str | None, adapter: Path, out: Path) -> str:
    """Adds an adapter to the weights of its student, on the CPU, and writes the whole model.

    An adapter that was trained on weights of four or eight bits is added to the weights that those were made from.

    The folder answers as the student does in a run: its chat template has the date that the training took for today,
    and its generation config holds token ids alone, so that decoding is greedy.

    Args:
        config: The student.
        path: Where it lies instead of at `config.model` (the embedded student).
        adapter: The adapter's folder.
        out: An empty folder, which gets config, weights in safetensors, processor or tokenizer, and generation config.

    Returns:
        The precision of the weights, for example `float32`.

    Raises:
        ModelError: The student's weights are quantised, or the adapter is not one of this student.
        StorageError: The folder cannot be written.
    """
    student = load_student(config.model_copy(update={"device": "cpu", "quantize": "none"}), path)
    model = student.model
    unpacked = find_gguf(path or config.model) is not None
    if getattr(model, "hf_quantizer", None) is not None and not unpacked:
        raise ModelError(
            f"The weights of the student {student.source} are quantised, and an adapter cannot be added to them; use "
            "`mint export --to peft`, or give the student that they were made from."
        )
    merged = load_adapter(model, adapter).merge_and_unload(safe_merge=True)
    if unpacked:  # what is written is stored as any other weights
        merged.hf_quantizer = None
        merged.config.__dict__.pop("quantization_config", None)
    with storage_errors(out):
        merged.save_pretrained(out)
        student.processor.save_pretrained(out)
    return str(merged.dtype).removeprefix("torch.")
