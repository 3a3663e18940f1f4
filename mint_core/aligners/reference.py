"""What a frozen reference says of every response: computed once per distinct response, kept by content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor

from mint_core.aligners.batches import GroupCollator, References, Scorer, shares_prompts
from mint_core.aligners.rows import TrainingRows
from mint_core.errors import TrainingError
from mint_core.files import digest_of, replaced
from mint_core.interfaces import AlignmentJob
from mint_core.students.adapter import adapter_state
from mint_core.students.quantize import held
from mint_core.types import PreferenceGroup, Response


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference's answers."""

    digest: str
    """Of the reference's adapter, the prompts and the responses."""
    log_probs: References


def reference_log_probs(
    rows: TrainingRows, model: Any, batch_size: int, *, share_prompt: bool = True, budget: int | None = None
) -> Reference:
    """Scores every distinct response of every prompt with the model as it stands, without dropout.

    The result is kept in `job.work` under a name made from its content, so that a run that goes on does not compute it
    again, and a changed reference is never mistaken for the old one.

    Args:
        rows: Student, groups, prompts and responses.
        model: The student with the reference's adapter.
        batch_size: Prompts per forward pass.
        share_prompt: Compute a prompt once for all its responses, where that is proven equal.
        budget: Most tokens of one forward pass; None = no limit.

    Raises:
        TrainingError: A log-probability is not finite.
    """
    from safetensors.torch import save_file

    job = rows.job
    distinct = distinct_responses(job)
    digest = _digest(job, model, distinct)
    file = job.work / f"reference-{digest}.safetensors"
    keys = [(sample_id, response) for sample_id, responses in distinct.items() for response in responses]
    kept = _read(file)
    if kept is None:
        shared = share_prompt and shares_prompts(rows, model)
        collator = GroupCollator(rows, rejected=False, shared=shared, budget=budget)
        kept = _score(collator, model, distinct, batch_size)
        with replaced(file) as temporary:
            save_file({"log_probs": kept}, temporary, {"digest": _digest_of_values(kept)})
    return Reference(digest, dict(zip(keys, kept.tolist(), strict=True)))


def distinct_responses(job: AlignmentJob) -> dict[str, tuple[Response, ...]]:
    """Every response of every prompt once, by sample id, in order."""
    found: dict[str, dict[Response, None]] = {}
    for group in job.groups:
        found.setdefault(group.sample_id, {}).update(dict.fromkeys((*group.chosen, *group.rejected)))
    return {sample_id: tuple(responses) for sample_id, responses in found.items()}


def _score(
    collator: GroupCollator, model: Any, distinct: Mapping[str, tuple[Response, ...]], batch_size: int
) -> Tensor:
    """(responses,) fp32: summed log-probabilities."""
    groups = [PreferenceGroup(sample_id, responses, ()) for sample_id, responses in distinct.items()]
    scorer, device = Scorer(model), collator.student.device
    # The precision of the training to come: the Trainer runs bf16 students under autocast.
    half = device.type == "cuda" and collator.student.model.dtype == torch.bfloat16
    found: dict[str, Tensor] = {}
    model.eval()
    for start in range(0, len(groups), batch_size):
        for part in collator(groups[start : start + batch_size])["parts"]:
            batch = send_to_device(part, device)
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
                scored = scorer(model, batch)
            for place in part["groups"]:
                found[place.sample_id] = place.pick(scored).chosen.total.cpu()
                if not bool(torch.isfinite(found[place.sample_id]).all()):
                    raise TrainingError(
                        f"The reference's log-probability of a response of sample {place.sample_id} is not finite; "
                        "nothing was saved."
                    )
    return torch.cat([found[group.sample_id] for group in groups])


def _read(file: Path) -> Tensor | None:
    """What was kept; None where there is nothing, or it is not as it was written."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as kept:
            log_probs: Tensor = kept.get_tensor("log_probs")
            whole = (kept.metadata() or {}).get("digest") == _digest_of_values(log_probs)
    except (OSError, SafetensorError):
        return None
    return log_probs if whole else None


def _digest_of_values(values: Tensor) -> str:
    return hashlib.blake2b(values.numpy().tobytes(), digest_size=16).hexdigest()


def _digest(job: AlignmentJob, model: Any, distinct: Mapping[str, tuple[Response, ...]]) -> str:
    weights = hashlib.blake2b(digest_size=16)
    for key, value in sorted(adapter_state(model).items()):
        weights.update(key.encode())
        weights.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    prompts = {sample_id: job.prompts[sample_id] for sample_id in distinct}
    return digest_of(
        {
            "student": [job.student.source, str(job.student.model.dtype), *([few] if (few := held(model)) else [])],
            "adapter": weights.hexdigest(),
            "header": job.header,
            "prompts": {
                i: [[m.role, m.content] for m in p.messages] + [p.image.key if p.image else None]
                for i, p in prompts.items()
            },
            "responses": distinct,
        }
    )
