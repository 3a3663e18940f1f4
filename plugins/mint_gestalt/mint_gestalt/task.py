"""The rare-disease task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from mint_core.plugin import (
    ConfigError,
    Context,
    DataError,
    EmbeddedStudent,
    Prompt,
    Sample,
    Span,
    Task,
    TaskData,
    Unreadable,
    did_you_mean,
)
from mint_gestalt import ontology, wording
from mint_gestalt.phrases import whole_names
from mint_gestalt.sources import cohort, notes, phenopackets, simulated
from mint_gestalt.sources.options import PATIENT_FIELDS, RareDiseaseOptions

_READERS: dict[str, Any] = {"simulated": simulated.load, **dict.fromkeys(cohort.READERS, cohort.load)}
_TABLES = (".jsonl", ".ndjson", ".csv", ".tsv")


class RareDisease(Task):
    """Clinical text in, the N most likely rare diseases out.

    The student reads age, sex, ethnicity and phenotypes as text, or a clinical note. What only the teacher may read (a
    face, the causal gene) travels as the sample's image and privileged fields. Sources: `simulated` (nothing to
    download), `phenopackets` (GA4GH, version 2), `gmdb` (GestaltMatcher Database), `csv` and `jsonl` (clinical notes);
    `docs/how-to/data.md` tells what they read.

    Source of the task: MINT, arXiv 2505.05736, section on rare diseases.

    Raises:
        ConfigError: The source is unknown or has no data, or a field is both the student's and privileged.
    """

    name = "rare-disease"
    Config: ClassVar[type[Any]] = RareDiseaseOptions
    config: RareDiseaseOptions
    header = wording.HEADER
    modality = "text"
    default_teacher = "gestalt"
    sources = tuple(_READERS)

    def __init__(self, config: RareDiseaseOptions | None = None, context: Context | None = None) -> None:
        super().__init__(config, context)
        if self.config.source in ("phenopackets", "gmdb"):
            _check_fields(self.config)

    @classmethod
    def recognises(cls, place: Path, config: RareDiseaseOptions) -> tuple[str, ...]:
        """See `mint_core.interfaces.task.Task.recognises`."""
        return cohort.recognises(place, config)

    def load(self) -> TaskData:
        """Reads the chosen source, and the external data set; see `mint_core.interfaces.task.Task.load`."""
        data: TaskData = _READERS[self.config.source](self.config)
        if self.config.source == "simulated" and self.config.external is not None:
            names = ((disease.id, data.labels.find(disease.name)) for disease in ontology.diseases())
            by_id = {disease_id: name for disease_id, name in names if name is not None}
            data = cohort.add_external(data, by_id, frozenset(), self.config)
        return data

    def list_length(self, n_labels: int) -> int:
        """Ten diseases, and never more than half of the label space (rounded up)."""
        return min(10, (n_labels + 1) // 2)

    def training_prompt(self, sample: Sample, n: int) -> Prompt:
        """The short prompt, or the inference prompt where `train_prompt` is `full`."""
        ask = wording.PROMPT.short if self.config.train_prompt == "short" else wording.PROMPT.full
        return ask(n, text=sample.text or "")

    def inference_prompt(self, sample: Sample, n: int) -> Prompt:
        """The whole demand on the format."""
        return wording.PROMPT.full(n, text=sample.text or "")

    def read_inputs(self, place: Path, facts: Counter[str]) -> Iterator[Sample | Unreadable]:
        """Reads new patients: a table of notes (.jsonl, .csv, .tsv), or phenopackets (folder, .zip, .json)."""
        if not place.exists():
            raise DataError(f"There is nothing at {place}; check the path after --input.")
        if place.suffix.lower() in _TABLES and place.is_file():
            return notes.read_new(place, self.config)
        return phenopackets.read_new(place, self.config, facts)

    def phrases(self, sample: Sample) -> list[Span]:
        """Demographics and phenotypes one by one; see `mint_gestalt.phrases`."""
        return whole_names(sample.text or "", super().phrases(sample))

    def embedded_student(self) -> EmbeddedStudent:
        """A small text student that reads phenotypes and writes lists, and knows no disease."""
        # What SFT reached is lost at the rate at which it was reached.
        two_phases = {"epochs": 1, "learning_rate": 3e-4, "sft_epochs": 8, "sft_learning_rate": 3e-3}
        return EmbeddedStudent(
            path=Path(__file__).parent / "embedded" / "student",
            description="a Llama of 1.9 M parameters that mint's own script built from the names of OMIM and HPO: it "
            "learnt to read random patients and to write lists, and it knows no disease",
            overrides={
                "task": {"train_prompt": "full"},
                "aligner": {
                    "name": "orpo",
                    "epochs": 8,
                    "learning_rate": 3e-3,
                    "warmup": 0.05,
                    "batch_size": 8,
                    "lora_rank": 32,
                    "lora_alpha": 64,
                    "lora_dropout": 0.0,
                    "lora_targets": "all-linear",
                    "validate_samples": 32,
                },
            },
            aligners=dict.fromkeys(("dpo", "mult-dpo", "trl-dpo"), two_phases),
        )


def _check_fields(options: RareDiseaseOptions) -> None:
    for field in options.privileged:
        if field not in PATIENT_FIELDS:
            raise ConfigError(f"task.privileged: there is no field '{field}'{did_you_mean(field, PATIENT_FIELDS)}.")
        if field in options.student_fields:
            raise ConfigError(
                f"'{field}' stands in task.student_fields and in task.privileged, but what the student reads is not "
                "privileged; take it out of one of them."
            )
