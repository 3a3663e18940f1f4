"""How far a student that nobody has trained yet agrees with preferences: what is left for them to teach it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate.utils import send_to_device

from mint_core.aligners.batches import GroupCollator, GroupLogProbs, Scorer, shares_prompts
from mint_core.aligners.losses import log_odds, set_mean
from mint_core.aligners.rows import TrainingRows
from mint_core.errors import ModelError

DEAD = 0.05
"""A pair whose gradient has less than this share of its full weight teaches next to nothing."""
MEASURES = {
    "agrees": "the student holds the chosen response for likelier than the rejected one, per token",
    "log_odds_ratio": "log odds(chosen) - log odds(rejected), in nats: what ORPO's second term raises",
    "weight": "1 - sigmoid of that: how much of the term's gradient is left",
    "dead": f"that weight is below {DEAD}",
}
"""What is measured of every pair of a chosen and a rejected response, by name."""
_AT_ONCE = 4
"""Groups of one forward pass."""


def pair_values(group: GroupLogProbs) -> dict[str, float]:
    """The values of `MEASURES`, each the mean over the k' x q' pairs of a group, by the group's weights as in the loss.

    Source: Hong et al. 2024, equations 4 to 8; log p is the mean over the tokens of a response.
    """
    chosen, rejected = group.chosen.average[:, None], group.rejected.average[None, :]
    ratio = log_odds(chosen) - log_odds(rejected)  # (k', q')
    weight = torch.sigmoid(-ratio)
    pairs = {"agrees": chosen > rejected, "log_odds_ratio": ratio, "weight": weight, "dead": weight < DEAD}
    w, v = group.chosen_weights, group.rejected_weights
    return {name: float(set_mean(values.float(), w, v)) for name, values in pairs.items()}


def overlap(rows: TrainingRows, model: Any) -> Iterator[dict[str, float]]:
    """The values of every group of a job, in order, from the student as it stands; each prompt is computed once.

    Args:
        rows: Student, groups, prompts and responses.
        model: The student.

    Raises:
        ModelError: A log-probability is not finite.
        DataError: A group does not fit the student's context.
    """
    collator = GroupCollator(rows, shared=shares_prompts(rows, model))
    scorer, device = Scorer(model), collator.student.device
    model.eval()
    groups = rows.job.groups
    for start in range(0, len(groups), _AT_ONCE):
        batch = send_to_device(collator.batch(groups[start : start + _AT_ONCE]), device)
        with torch.no_grad():
            scored = scorer(model, batch)
        for place in batch["groups"]:
            values = pair_values(place.pick(scored))
            if not all(map(torch.isfinite, torch.tensor(list(values.values())))):
                raise ModelError(
                    f"The student's log-probability of a response of sample {place.sample_id} is not finite; use "
                    "student.dtype=fp32, or choose another student."
                )
            yield values
