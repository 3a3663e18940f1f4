"""The config: what it may hold (schema), how it is put together (layers), what it means (choose, resolve)."""

from mint_core.config.choose import check_fit, check_read, suitable
from mint_core.config.embedded import embedded_student, is_embedded
from mint_core.config.layers import NO_ALIGNER, merge, parse_override, read_config
from mint_core.config.resolve import (
    Configured,
    Resolved,
    check_engine,
    check_retrieval,
    configured,
    decisive,
    resolve,
    with_whole_paths,
)
from mint_core.config.schema import (
    EMBEDDED,
    RUN_NAME,
    EndpointConfig,
    EvaluateConfig,
    PredictConfig,
    RetrievalConfig,
    RunConfig,
    StudentConfig,
)
from mint_core.config.validate import refuse_unknown, validated

__all__ = [
    "EMBEDDED",
    "NO_ALIGNER",
    "RUN_NAME",
    "Configured",
    "EndpointConfig",
    "EvaluateConfig",
    "PredictConfig",
    "Resolved",
    "RetrievalConfig",
    "RunConfig",
    "StudentConfig",
    "check_engine",
    "check_fit",
    "check_read",
    "check_retrieval",
    "configured",
    "decisive",
    "embedded_student",
    "is_embedded",
    "merge",
    "parse_override",
    "read_config",
    "refuse_unknown",
    "resolve",
    "suitable",
    "validated",
    "with_whole_paths",
]
