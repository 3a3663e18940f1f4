"""The rare-disease task."""

from __future__ import annotations

from typing import Any, ClassVar

from mint_core.errors import ConfigError, did_you_mean
from mint_core.interfaces.task import Task
from mint_core.types import Prompt, Sample, TaskData
from mint_gestalt import wording
from mint_gestalt.sources.options import RareDiseaseOptions

_READERS: dict[str, Any] = {}


class RareDisease(Task):
    """Clinical text in, the N most likely rare diseases out."""

    name = "rare-disease"
    Config: ClassVar[type[Any]] = RareDiseaseOptions
    config: RareDiseaseOptions
    header = wording.HEADER
    modality = "text"
    default_teacher = "gestalt"
    sources = tuple(_READERS)

    def __init__(self, config: RareDiseaseOptions | None = None) -> None:
        super().__init__(config)
        source = self.config.source
        if source not in _READERS:
            raise ConfigError(f"Task '{self.name}' has no source '{source}'{did_you_mean(source, _READERS)}.")
        if source != "simulated" and self.config.data is None:
            raise ConfigError(f"Source '{source}' reads your data; say where they are with --data PATH.")

    def load(self) -> TaskData:
        """Reads the chosen source; see `mint_core.interfaces.task.Task.load`."""
        data: TaskData = _READERS[self.config.source](self.config)
        return data

    def list_length(self, n_labels: int) -> int:
        """Ten diseases, and never more than half of the label space (rounded up)."""
        return min(10, (n_labels + 1) // 2)

    def training_prompt(self, sample: Sample, n: int) -> Prompt:
        """The short prompt, or the inference prompt where `train_prompt` is `full`."""
        ask = wording.training_prompt if self.config.train_prompt == "short" else wording.inference_prompt
        return ask(n, sample.text or "")

    def inference_prompt(self, sample: Sample, n: int) -> Prompt:
        """See `mint_gestalt.wording.inference_prompt`."""
        return wording.inference_prompt(n, sample.text or "")
