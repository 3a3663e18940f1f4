"""The memory that training takes, part by part, without loading the student."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from mint_core.aligners.batches import GroupCollator
from mint_core.aligners.rows import TrainingRows
from mint_core.config import StudentConfig
from mint_core.interfaces import AdapterShape, Student, TrainingPhase
from mint_core.planning.activations import Activations, count_activations
from mint_core.students.adapter import add_lora, target_modules
from mint_core.students.quantize import weight_bytes
from mint_core.types import PreferenceGroup

_FP32 = 4
_ADAMW_STATES = 2


@dataclass(frozen=True, slots=True)
class Memory:
    """Estimated memory in bytes, for the largest forward pass."""

    weights: int
    adapter: int
    """The LoRA weights, fp32 whatever the student's precision is."""
    gradients: int
    """Of the adapter, fp32."""
    optimiser: int
    """AdamW's two states, fp32."""
    activations: int
    """What the forward pass leaves for the backward pass, as configured; gradients take its place bit by bit."""
    logits: int
    """Logits at the response positions, their log-softmax and their gradient."""
    libraries: int
    """On a CPU, what Python, its libraries and the data take in this process; 0 on a GPU."""
    activations_kept: int
    """Without gradient checkpointing."""
    activations_checkpointed: int
    """With it."""
    device: int
    """What the device has."""
    rows: int
    """Rows of the largest forward pass."""
    length: int
    """Tokens of each of its rows, padding included."""
    parameters: int
    """Of the student."""
    trainable: int
    """Of the adapter."""

    @property
    def lower_bound(self) -> int:
        """What no batch size can change: weights, adapter and optimiser."""
        return self.weights + self.adapter + self.optimiser

    @property
    def total(self) -> int:
        """All parts."""
        return self.lower_bound + self.gradients + self.activations + self.logits + self.libraries

    def parts(self) -> dict[str, int]:
        """The parts that the total is made of."""
        names = ("weights", "adapter", "gradients", "optimiser", "activations", "logits", "libraries")
        return {name: getattr(self, name) for name in names}


def estimate(
    rows: TrainingRows,
    config: StudentConfig,
    phase: TrainingPhase,
    shape: AdapterShape | None,
    largest: Sequence[PreferenceGroup],
    *,
    device: int,
    on_cpu: bool,
) -> Memory:
    """Adds up what one training step holds.

    Args:
        rows: Of the job; its student is without weights.
        config: How its weights are held.
        phase: The phase that takes most, in the layout that is used.
        shape: The adapter; None = not known, and then it is not in the estimate.
        largest: The groups of the batch that takes most.
        device: Memory of the device in bytes.
        on_cpu: Whether it is a CPU, whose memory the libraries share.
    """
    student = rows.job.student
    weights = weight_bytes(student.model, config)
    parameters = sum(parameter.numel() for parameter in student.model.parameters())
    how: Any = {"rejected": phase.rejected, "shared": phase.layout == "shared"}
    collator = GroupCollator(rows, budget=phase.token_budget, **how)
    batch = max(collator(largest)["parts"], key=lambda part: part["size"].computed)
    count, length = batch["model"]["input_ids"].shape
    model = student.model if shape is None else _adapted(student, shape)
    trainable = 0 if shape is None else sum(p.numel() for p in model.parameters() if p.requires_grad)
    if shape and not on_cpu and student.model.dtype == torch.bfloat16:
        # On a GPU the adapter of a bf16 student computes in bf16, though its weights are fp32.
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
    activations = count_activations(student, model, batch)
    vision = _vision(student, batch["model"], shape, counted=activations.whole)
    kept, checkpointed = activations.kept + vision.kept, activations.checkpointed + vision.checkpointed
    return Memory(
        weights=weights,
        adapter=trainable * _FP32,
        gradients=trainable * _FP32,
        optimiser=trainable * _FP32 * _ADAMW_STATES,
        activations=checkpointed if phase.gradient_checkpointing else kept,
        logits=_logits(student, batch, whole=phase.reads_prompt),
        libraries=psutil.Process().memory_info().rss if on_cpu else 0,
        activations_kept=kept,
        activations_checkpointed=checkpointed,
        device=device,
        rows=count,
        length=length,
        parameters=parameters,
        trainable=trainable,
    )


def _adapted(student: Student, shape: AdapterShape) -> Any:
    names = target_modules(student.model, shape.targets, vision=shape.vision)
    with torch.device("meta"):
        return add_lora(student.model, names, shape.rank, shape.alpha, shape.dropout)


def _logits(student: Student, batch: Mapping[str, Any], *, whole: bool) -> int:
    """Logits and their gradient in the student's precision, log-softmax and its gradient in fp32."""
    rows, length = batch["model"]["input_ids"].shape
    if whole:
        columns, targets = length, rows * length
    elif "tokens" in batch:
        columns, targets = batch["tokens"].tail + 1, len(batch["tokens"].targets)
    else:
        columns, targets = length - batch["first"] + 1, int((batch["labels"] != -100).sum())
    vocabulary = student.model.get_output_embeddings().weight.shape[0]
    return int(vocabulary * (rows * columns * student.model.dtype.itemsize * 2 + targets * 2 * _FP32))


def _vision(student: Student, inputs: Mapping[str, Any], shape: AdapterShape | None, *, counted: bool) -> Activations:
    """What the vision tower takes where the count did not see it.

    A rule of thumb: eight hidden states and two wide ones per patch and layer. A frozen tower holds one layer at
    a time.
    """
    vision = getattr(student.model.config, "vision_config", None)
    pixels = inputs.get("pixel_values")
    if vision is None or pixels is None:
        return Activations(0, 0, whole=counted)
    hidden = int(vision.hidden_size)
    wide = int(getattr(vision, "intermediate_size", 0) or 4 * hidden)
    layers = int(getattr(vision, "num_hidden_layers", 0) or getattr(vision, "depth", 1))
    patch = int(getattr(vision, "patch_size", 0) or 16)
    tokens = len(pixels) if pixels.dim() == 2 else math.ceil(pixels.numel() / (3 * patch**2))
    layer = int(tokens * (8 * hidden + 2 * wide) * pixels.element_size())
    if counted or not (shape and shape.vision):
        return Activations(layer, layer, whole=counted)
    kept_inputs = int(layers * tokens * hidden * pixels.element_size())
    return Activations(layers * layer, kept_inputs + layer, whole=counted)


def device_memory(device: torch.device) -> int:
    """Memory of a device in bytes; on a CPU that of the machine, or of the container where that is less."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    limits = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    found = [text for path in limits if path.is_file() and (text := path.read_text().strip()).isdigit()]
    return int(min([psutil.virtual_memory().total, *map(int, found)]))
