"""The tissue-type task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mint_core.plugin import EmbeddedStudent, Prompt, Sample, Task, TaskData, Unreadable, read_new
from mint_plip import wording
from mint_plip.sources import folder, pannuke, simulated
from mint_plip.sources.options import TissueOptions

_READERS = {"simulated": simulated.load, "pannuke": pannuke.load}
_RECOGNISE = {"pannuke": pannuke.recognises, "folder": folder.recognises}


class TissueType(Task):
    """One H&E patch in, the N most likely tissues out.

    The student reads an image of any size. Sources: `simulated` (drawn, nothing to download), `pannuke` (19 tissues,
    256 x 256 pixels) and `folder` (your own images and labels); `docs/how-to/data.md` tells how they must be laid out.

    Source of the task: MINT, arXiv 2505.05736, section on PanNuke.

    Raises:
        ConfigError: The source is unknown, or needs `data` and has none.
    """

    name = "tissue-type"
    Config: ClassVar[type[Any]] = TissueOptions
    config: TissueOptions
    header = wording.HEADER
    modality = "image"
    default_teacher = "plip"
    sources = (*_READERS, "folder")

    @classmethod
    def recognises(cls, place: Path, config: TissueOptions) -> tuple[str, ...]:
        """See `mint_core.interfaces.task.Task.recognises`."""
        return tuple(name for name, knows in _RECOGNISE.items() if knows(place, config))

    def load(self) -> TaskData:
        """Reads the chosen source; see `mint_core.interfaces.task.Task.load`."""
        if self.config.source == "folder":
            return folder.load(self.config, self.context.cache)
        return _READERS[self.config.source](self.config)

    def list_length(self, n_labels: int) -> int:
        """Five tissues, and never more than half of the label space (rounded up)."""
        return min(5, (n_labels + 1) // 2)

    def training_prompt(self, sample: Sample, n: int) -> Prompt:
        """The short prompt, or the inference prompt where `train_prompt` is `full`."""
        ask = wording.PROMPT.short if self.config.train_prompt == "short" else wording.PROMPT.full
        return ask(n, image=sample.image)

    def inference_prompt(self, sample: Sample, n: int) -> Prompt:
        """The whole demand on the format."""
        return wording.PROMPT.full(n, image=sample.image)

    def read_inputs(self, place: Path, facts: Counter[str]) -> Iterator[Sample | Unreadable]:
        """Reads new patches: a folder of images, a table with the column `image`, or one image."""
        return read_new(place, folder.layout_of(self.config), facts)

    def embedded_student(self) -> EmbeddedStudent:
        """A small image-text student that can write lists and knows no tissue."""
        drawn = self.config.source == "simulated"  # words that it never wrote before are learnt more slowly
        epochs, learning_rate = (5 if drawn else 3), 2e-3
        # At the rate of the other phases DPO forgets the list format within an epoch.
        two_phases = {"epochs": 1, "learning_rate": 3e-4, "sft_epochs": epochs, "sft_learning_rate": learning_rate}
        return EmbeddedStudent(
            path=Path(__file__).parent / "embedded" / "student",
            description="a LLaVA of 2.5 M parameters that mint's own script built: it learnt to describe the "
            "morphology of drawn patches and to write lists, and it knows no tissue",
            overrides={
                "task": {"train_prompt": "full"},
                "aligner": {
                    "name": "orpo",
                    "epochs": epochs,
                    "learning_rate": learning_rate,
                    "warmup": 0.05,
                    "batch_size": 8,
                    "lora_rank": 16,
                    "lora_alpha": 32,
                    "lora_dropout": 0.0,
                    "lora_targets": "all-linear",
                    "validate_samples": 32,
                },
            },
            aligners=dict.fromkeys(("dpo", "mult-dpo", "trl-dpo"), two_phases),
        )

    def defaults(self) -> Mapping[str, Any]:
        """A probe is fitted where the labels are the user's own: a zero-shot teacher may not know their words."""
        return {"teacher": {"name": "plip", "head": "probe"}} if self.config.source == "folder" else {}
