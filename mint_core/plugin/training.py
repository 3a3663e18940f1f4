"""What authors of aligners may import of the training engine; importing it imports torch."""

from mint_core.aligners.rows import TrainingRows
from mint_core.aligners.trainer import (
    PhaseResult,
    PreparedPhase,
    adapted_layers,
    begin,
    count_parameters,
    prepare,
    progress,
    result,
    run_trainer,
    save,
)
from mint_core.students.adapter import add_lora, continue_adapter, target_modules
from mint_core.students.encoding import context_length, encode_prompt, encode_response

__all__ = [
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
    "run_trainer",
    "save",
    "target_modules",
]
