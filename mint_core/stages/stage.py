"""What a stage is: a name, what it reads, what decides its result, and how it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mint_core.config import Resolved
from mint_core.files import digest_of

if TYPE_CHECKING:
    from mint_core.stages.run import Run

Facts = Mapping[str, Any]
"""What a stage tells the run record: counts, names and settings, never patients' text."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a complete stage says of itself."""

    stage: str
    key: str
    inputs: Mapping[str, Any]
    """What the key was computed from; a diff of two of them tells why a stage ran again."""
    outputs: Mapping[str, str]
    """Digest of every output, a file or a folder."""
    seconds: float
    peak_memory_bytes: int
    files: Mapping[str, str]
    """Digest of every file of the outputs that matters, by its path in the run folder; see `mint_core.files.NOTES`."""
    facts: Mapping[str, Any] = field(default_factory=dict)


class Stage(ABC):
    """One step of a run. Stages have no state: what they need is in the run."""

    name: ClassVar[str]
    """What the user writes after `--until`."""
    reads: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Outputs of earlier stages, by the name of the stage."""
    writes: ClassVar[tuple[str, ...]] = ()
    """What may become visible in the run folder: files and folders."""
    kept: ClassVar[bool] = False
    """It may take hours: what it made for another config is replaced only where the user says so."""
    judges: ClassVar[bool] = False
    """It tells of what other stages made: its outputs go before any of those is made again."""
    aligns: ClassVar[bool] = False
    """It belongs to the alignment: a run without an aligner leaves it out."""
    lower: ClassVar[str] = ""
    """What the user can lower where the memory does not suffice: half a sentence with a verb."""
    joined: ClassVar[bool] = False
    """All processes that torchrun started work on it, and the first one alone on the others."""

    def belongs_to(self, resolved: Resolved) -> bool:
        """Whether a run has this stage."""
        return resolved.aligner is not None or not self.aligns

    @abstractmethod
    def inputs(self, run: Run) -> dict[str, Any]:
        """What decides the result beside the outputs that it reads: configs, versions, seeds, digests of the data."""

    def all_inputs(self, run: Run) -> dict[str, Any]:
        """Everything that decides the result; the stages that this one reads are complete in the run."""
        read = {}
        for stage, names in self.reads.items():
            outputs = run.made[stage].outputs if stage in run.made else {}
            read.update({name: outputs[name] for name in names if name in outputs})
        return {**self.inputs(run), **read}

    def key(self, run: Run) -> str:
        """Digest of `all_inputs`: stages of one key have one result, whatever run they belong to."""
        return digest_of(self.all_inputs(run))

    @abstractmethod
    def make(self, run: Run, work: Path, out: Path) -> Facts:
        """Does the work.

        Args:
            run: What every stage needs.
            work: A folder that survives an interruption; the same stage finds it again.
            out: An empty folder; what is written there becomes visible in the run folder when the stage is complete.
        """
