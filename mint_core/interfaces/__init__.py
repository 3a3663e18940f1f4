"""One abstract base class per seam, torch-free."""

from mint_core.interfaces.aligner import AdapterShape, Aligner, AlignmentJob, AlignmentResult, Layout, TrainingPhase
from mint_core.interfaces.component import MAX_SEED, Component, ComponentConfig, Context
from mint_core.interfaces.metric import EvaluationSample, Metric
from mint_core.interfaces.retriever import Passage, Retriever
from mint_core.interfaces.strategy import PreferenceStrategy
from mint_core.interfaces.student import Student
from mint_core.interfaces.task import SIMULATED, EmbeddedStudent, Task, TaskConfig, Unreadable
from mint_core.interfaces.teacher import Teacher

__all__ = [
    "MAX_SEED",
    "SIMULATED",
    "AdapterShape",
    "Aligner",
    "AlignmentJob",
    "AlignmentResult",
    "Component",
    "ComponentConfig",
    "Context",
    "EmbeddedStudent",
    "EvaluationSample",
    "Layout",
    "Metric",
    "Passage",
    "PreferenceStrategy",
    "Retriever",
    "Student",
    "Task",
    "TaskConfig",
    "Teacher",
    "TrainingPhase",
    "Unreadable",
]
