"""`confidence.json` in an adapter's folder: how sure the student was of val samples, and when it was right.

From it `mint predict --target-precision` takes its threshold, wherever the folder is moved to. It names no patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from mint_core.answering.record import AdapterRecord
from mint_core.config import PredictConfig
from mint_core.errors import ConfigError, ModelError
from mint_core.evaluation.statistics import least_share
from mint_core.files import BESIDE, digest_of, read_json, write_json
from mint_core.students.adapter_files import WEIGHTS

NAME = BESIDE[0]
LEAST = 10
"""Val samples that must be answered: with fewer, a share says little."""
_SEAL = "digest"
_MAKE = "make the run with --set predict.decode=score and a labelled val split (docs/how-to/data.md)"


class Confidences(BaseModel):
    """The content of confidence.json."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    weights: str
    """Digest of the adapter's weights, as its record has it: other weights are sure of other answers."""
    asked: Mapping[str, Any]
    """See `how_asked`."""
    groups: int
    """Groups (patients, slides) in which the samples lie."""
    confidence: tuple[float, ...]
    """Normalised probability of the first answer, the highest first."""
    right: tuple[bool, ...]
    """Whether that answer is the true label."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """What was chosen, and what it rests on."""

    confidence: float
    """Below it the answer is "not sure"."""
    target: float
    answered: int
    """Val samples that are at least as sure."""
    right: int
    """Of these."""
    n: int
    groups: int

    def told(self) -> str:
        """One sentence for the person who relies on it."""
        share, low = 100 * self.right / self.answered, 100 * least_share(self.right, self.answered)
        return (
            f'"Not sure" below a confidence of {self.confidence:.3g}: of {self.n} val samples (in {self.groups} '
            f"groups) {self.answered} are answered, and {self.right} of these answers are right ({share:.1f} %; with "
            f"95 % certainty not below {low:.1f} %, if samples are independent)."
        )


def how_asked(n: int, config: PredictConfig, retriever: Mapping[str, Any] | None) -> dict[str, Any]:
    """What else decides how sure a student is.

    Args:
        n: Labels that the prompt asks for.
        config: How is answered.
        retriever: What decides the passages in the prompt; None = there are none.
    """
    passages = None if retriever is None else [retriever["name"], digest_of(retriever)]
    return {"n": n, "reason": config.reason, "shots": config.shots, "passages": passages}


def write_confidences(adapter: Path, found: Confidences) -> None:
    """Writes confidence.json, sealed with a digest of what it says."""
    content = found.model_dump(mode="json")
    write_json(adapter / NAME, {**content, _SEAL: digest_of(content)})


def choose(adapter: Path, record: AdapterRecord, target: float, asked: Mapping[str, Any]) -> Threshold:
    """The smallest confidence at which the share of right answers among the val samples reaches a target.

    The share is that of all val samples that are at least as sure, at least `LEAST`. A val split only: whoever chooses
    on the test split reports what was chosen to look well.

    Args:
        adapter: The adapter's folder.
        record: Its mint.json.
        target: Share of right answers among those that are given, in (0, 1].
        asked: How new samples are asked, see `how_asked`.

    Raises:
        ConfigError: The adapter has no scores of a val split, they were asked otherwise, or no confidence will do.
        ModelError: The file is damaged, or belongs to other weights.
    """
    if not 0 < target <= 1:
        raise ConfigError(f"--target-precision takes a share above 0 and up to 1, such as 0.9, not {target:g}.")
    found = _read(adapter, record)
    if dict(found.asked) != dict(asked):
        raise ConfigError(
            f"The confidences in {adapter / NAME} come from {_told(found.asked)}, and new samples would be asked with "
            f"{_told(asked)}; ask in the same way, or choose a --threshold yourself."
        )
    sure, right = np.array(found.confidence), np.array(found.right)
    last = np.append(np.flatnonzero(np.diff(sure)), len(sure) - 1)  # of each confidence the last place: none is torn
    answered, hits = last + 1, np.cumsum(right)[last]
    enough = answered >= LEAST
    if not enough.any():
        raise ConfigError(
            f"A threshold needs at least {LEAST} labelled val samples, and the run of this adapter had {len(sure)}; "
            f"{_MAKE}."
        )
    shares = hits / answered
    reached = np.flatnonzero(enough & (shares >= target - 1e-12))
    if not len(reached):
        best = int(np.argmax(np.where(enough, shares, -1)))
        counts = f"{hits[best]} of {answered[best]}, at a confidence of {sure[last[best]]:.3g}"
        raise ConfigError(
            f"At no confidence are {100 * target:g} % of the answers to val samples right: the best is "
            f"{100 * shares[best]:.1f} % ({counts}); lower --target-precision to "
            f"{np.floor(1000 * shares[best]) / 1000:g}, or train a better student."
        )
    one = int(reached[-1])
    return Threshold(float(sure[last[one]]), target, int(answered[one]), int(hits[one]), len(sure), found.groups)


def _told(asked: Mapping[str, Any]) -> str:
    passages = asked.get("passages")
    parts = [f"lists of {asked.get('n')}", f"passages of '{passages[0]}'" if passages else "no passages"]
    return ", ".join([*parts, *(["reasons first"] if asked.get("reason") else [])])


def _read(adapter: Path, record: AdapterRecord) -> Confidences:
    path = adapter / NAME
    try:
        content = read_json(path)
        sealed = content.pop(_SEAL) == digest_of(content)
        found = Confidences.model_validate(content)
    except FileNotFoundError:
        raise ConfigError(
            f"{adapter} holds no {NAME}: its run scored no val split, from which --target-precision chooses; {_MAKE}."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError):
        raise ModelError(f"{path} cannot be read; copy the adapter/ folder of its run again.") from None
    known = record.files[WEIGHTS].digest if record.files else ""
    if not sealed or len(found.confidence) != len(found.right) or found.weights != known:
        raise ModelError(f"{path} is not as the run left it; copy the adapter/ folder of its run again.")
    return found
