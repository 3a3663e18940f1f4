"""What authors of aligners may import of the training engine; importing it imports torch."""

from mint_core.aligners.checkpoints import usable_checkpoint
from mint_core.aligners.rows import TrainingRows
from mint_core.aligners.trainer import (
    Guard,
    PhaseResult,
    PreparedPhase,
    adapted_layers,
    begin,
    count_parameters,
    prepare,
    progress,
    result,
    save,
)
from mint_core.students.adapter import add_lora, continue_adapter, target_modules
from mint_core.students.encoding import context_length, encode_prompt, encode_response

__all__ = [
    "Guard",
    "PhaseResult",
    "PreparedPhase",
    "TrainingRows",
    "adapted_layers",
    "add_lora",
    "begin",
    "context_length",
    "continue_adapter",
    "count_parameters",
    "encode_prompt",
    "encode_response",
    "prepare",
    "progress",
    "result",
    "save",
    "target_modules",
    "usable_checkpoint",
]
