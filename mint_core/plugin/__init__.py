"""All that a plugin author may import; the rest of mint-core may change without notice. Torch-free.

What authors of aligners need of the training engine, which needs torch, is `mint_core.plugin.training`.
"""

from mint_core.aligners.base import LoraAligner
from mint_core.aligners.dpo import Dpo
from mint_core.aligners.orpo import Orpo, OrpoConfig
from mint_core.aligners.settings import TrainingConfig
from mint_core.aligners.sft import Sft
from mint_core.config import merge, parse_override
from mint_core.decoding import ahead, decoding_pool
from mint_core.documents import parse_json
from mint_core.errors import (
    ConfigError,
    ContractError,
    DataError,
    MintError,
    ModelError,
    StorageError,
    TrainingError,
    did_you_mean,
)
from mint_core.files import (
    check_regular,
    digest_of,
    digest_of_path,
    read_utf8,
    replaced,
    seal,
    seal_file,
    sealed,
    sealed_file,
    storage_errors,
)
from mint_core.folds import FoldCount, classifier_log_probs, group_folds, log_softmax
from mint_core.hookspecs import hookimpl
from mint_core.images import MAX_PIXELS, PIXEL_CEILING, ArrayFile, ArrayImage, FileImage, check_image_header
from mint_core.images import SUFFIXES as IMAGE_SUFFIXES
from mint_core.images import UNREAD_SUFFIXES as UNREAD_IMAGE_SUFFIXES
from mint_core.interfaces import (
    MAX_SEED,
    AdapterShape,
    Aligner,
    AlignmentJob,
    AlignmentResult,
    ComponentConfig,
    Context,
    EmbeddedStudent,
    EvaluationSample,
    Metric,
    Passage,
    PreferenceStrategy,
    Retriever,
    Student,
    Task,
    TaskConfig,
    Teacher,
    TrainingPhase,
    Unreadable,
)
from mint_core.names import KNOWN, RECOGNISED, best_matches, ratio, recognise
from mint_core.ontology import hpo, hpo_ids, hpo_in_force
from mint_core.phrases import Span
from mint_core.preferences.topk import TopK, TopKConfig
from mint_core.splits import Candidate, assign_splits, check_samples, drop_copies, find_copies
from mint_core.students.load import explain_load_failure, fingerprint, hub_commit
from mint_core.students.prompts import render_prompt, write_response
from mint_core.tables import (
    check_columns,
    file_below,
    first_row,
    present,
    ragged,
    read_head,
    read_text,
    split_rows,
    usual_subgroups,
    warn_of_words,
)
from mint_core.tasks.entries import Entries, Entry, split_of
from mint_core.tasks.folding import HEADS as NAME_HEADS
from mint_core.tasks.folding import fold, squashed
from mint_core.tasks.inputs import read_new
from mint_core.tasks.labels import GivenLabel, given_label, names_of, read_labels
from mint_core.tasks.load import holds_images, read_images
from mint_core.tasks.manifest import Layout
from mint_core.tasks.masking import LabelMask, Masked, mask_privileged, masked
from mint_core.tasks.options import ManifestOptions, SampleOptions
from mint_core.tasks.rows import Row, Table, head_of, read_table
from mint_core.tasks.settle import checked, label_space, labels_of, task_data, with_labels
from mint_core.tasks.task import ManifestTask
from mint_core.tasks.wording import ListPrompt
from mint_core.teachers.fitted import FittedConfig, FittedTeacher
from mint_core.types import (
    SPLITS,
    ImageRef,
    LabelSpace,
    Message,
    Modality,
    Prediction,
    PreferenceGroup,
    Prompt,
    Ranking,
    Sample,
    Split,
    TaskData,
    identity_of,
    normalise_name,
    squeezed,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "KNOWN",
    "MAX_PIXELS",
    "MAX_SEED",
    "NAME_HEADS",
    "PIXEL_CEILING",
    "RECOGNISED",
    "SPLITS",
    "UNREAD_IMAGE_SUFFIXES",
    "AdapterShape",
    "Aligner",
    "AlignmentJob",
    "AlignmentResult",
    "ArrayFile",
    "ArrayImage",
    "Candidate",
    "ComponentConfig",
    "ConfigError",
    "Context",
    "ContractError",
    "DataError",
    "Dpo",
    "EmbeddedStudent",
    "Entries",
    "Entry",
    "EvaluationSample",
    "FileImage",
    "FittedConfig",
    "FittedTeacher",
    "FoldCount",
    "GivenLabel",
    "ImageRef",
    "LabelMask",
    "LabelSpace",
    "Layout",
    "ListPrompt",
    "LoraAligner",
    "ManifestOptions",
    "ManifestTask",
    "Masked",
    "Message",
    "Metric",
    "MintError",
    "Modality",
    "ModelError",
    "Orpo",
    "OrpoConfig",
    "Passage",
    "Prediction",
    "PreferenceGroup",
    "PreferenceStrategy",
    "Prompt",
    "Ranking",
    "Retriever",
    "Row",
    "Sample",
    "SampleOptions",
    "Sft",
    "Span",
    "Split",
    "StorageError",
    "Student",
    "Table",
    "Task",
    "TaskConfig",
    "TaskData",
    "Teacher",
    "TopK",
    "TopKConfig",
    "TrainingConfig",
    "TrainingError",
    "TrainingPhase",
    "Unreadable",
    "ahead",
    "assign_splits",
    "best_matches",
    "check_columns",
    "check_image_header",
    "check_regular",
    "check_samples",
    "checked",
    "classifier_log_probs",
    "decoding_pool",
    "did_you_mean",
    "digest_of",
    "digest_of_path",
    "drop_copies",
    "explain_load_failure",
    "file_below",
    "find_copies",
    "fingerprint",
    "first_row",
    "fold",
    "given_label",
    "group_folds",
    "head_of",
    "holds_images",
    "hookimpl",
    "hpo",
    "hpo_ids",
    "hpo_in_force",
    "hub_commit",
    "identity_of",
    "label_space",
    "labels_of",
    "log_softmax",
    "mask_privileged",
    "masked",
    "merge",
    "names_of",
    "normalise_name",
    "parse_json",
    "parse_override",
    "present",
    "ragged",
    "ratio",
    "read_head",
    "read_images",
    "read_labels",
    "read_new",
    "read_table",
    "read_text",
    "read_utf8",
    "recognise",
    "render_prompt",
    "replaced",
    "seal",
    "seal_file",
    "sealed",
    "sealed_file",
    "split_of",
    "split_rows",
    "squashed",
    "squeezed",
    "storage_errors",
    "task_data",
    "usual_subgroups",
    "warn_of_words",
    "with_labels",
    "write_response",
]
