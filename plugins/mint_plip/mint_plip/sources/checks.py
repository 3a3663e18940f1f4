"""The last step of every reader: nothing leaks between splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mint_core.plugin import LabelSpace, Sample, check_samples, drop_copies
from mint_plip.sources.options import TissueOptions


@dataclass(frozen=True, slots=True)
class Checked:
    """Samples that passed, and what was done to them."""

    samples: Sequence[Sample]
    note: str
    """Empty, or what the source's line should add."""


def checked(samples: Sequence[Sample], labels: LabelSpace, options: TissueOptions) -> Checked:
    """Leaves out copies where the user wants it, then checks the samples.

    Raises:
        DataError: See `mint_core.splits.check_samples`.
    """
    kept = drop_copies(samples) if options.duplicates == "drop" else samples
    check_samples(kept, labels, ", or leave out later copies with --set task.duplicates=drop")
    n_out = len(samples) - len(kept)
    return Checked(kept, f", {n_out} copies of images in an earlier split left out" if n_out else "")
