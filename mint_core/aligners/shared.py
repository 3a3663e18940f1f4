"""One row per prompt: the prompt once, then all its responses, each of which sees the prompt and itself.

With k + q responses of L tokens behind a prompt of P tokens a group costs P + (k + q) L tokens, where one row per
response costs (k + q)(P + L) and one row per pair and side 2 k q (P + L). Prompts are padded on the left, so that the
responses of all rows begin in one column and logits are needed from there on only. The position ids of every response
go on where the prompt ends, a 4-D mask keeps the responses apart, and the first token of each is predicted by the last
token of the prompt. An image stands in the prompt, so its features are computed once per group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mint_core.aligners.losses import ResponseLogProbs
from mint_core.interfaces import Student
from mint_core.students.encoding import EncodedPrompt, append_response, stack
from mint_core.students.tree import in_form as _form
from mint_core.students.tree import layer_masks, prompt_positions


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt and the token ids of its responses."""

    prompt: EncodedPrompt
    responses: Sequence[Sequence[int]]

    @property
    def tail(self) -> int:
        """Tokens of all responses."""
        return sum(map(len, self.responses))


@dataclass(frozen=True, slots=True)
class Places:
    """Where the response tokens of a batch are predicted, one entry per token. No tuple: the Trainer opens tuples."""

    rows: Tensor
    columns: Tensor
    """Counted from the last prompt token, which is column 0."""
    targets: Tensor
    """The token ids."""
    owners: Tensor
    """Running number of the response, over all rows."""
    responses: int
    tail: int
    """Columns behind the prompts."""

    def to(self, device: torch.device, **_: Any) -> Places:
        """The same on another device."""
        tensors = {name: getattr(self, name).to(device) for name in ("rows", "columns", "targets", "owners")}
        return replace(self, **tensors)


def shared_batch(student: Student, rows: Sequence[PromptRow]) -> tuple[dict[str, Any], Places]:
    """Tensors for one forward pass.

    Returns:
        What the model takes, and where the response tokens are predicted.
    """
    pad = student.tokenizer.pad_token_id
    tail = max(row.tail for row in rows)
    prompts = stack([row.prompt.tensors for row in rows], pad, "left")
    width = prompts["input_ids"].shape[1]
    tails = [[token for ids in row.responses for token in ids] + [pad] * (tail - row.tail) for row in rows]
    whole = [append_response(row.prompt, ids) for row, ids in zip(rows, tails, strict=True)]
    batch: dict[str, Any] = dict(stack(whole, pad, "left"))
    owner, offset = _owners(rows, tail)
    real = torch.arange(width) >= width - torch.tensor([[row.prompt.length] for row in rows])  # (rows, width)
    before = prompt_positions(student, prompts, real)  # (..., rows, width)
    batch["position_ids"] = torch.cat([before, before[..., -1:] + 1 + offset], dim=-1)
    batch["attention_mask"] = _masks(student, prompts, real, owner, batch["position_ids"])
    return batch, _places(rows, batch["input_ids"][:, width:], owner, offset)


def shared_log_probs(logits: Tensor, places: Places) -> ResponseLogProbs:
    """Log-probabilities of every response, in order.

    Args:
        logits: (rows, columns, vocabulary); the last `places.tail` + 1 columns count.
        places: Where the response tokens are predicted.
    """
    places = places.to(logits.device)
    picked = logits[:, -(places.tail + 1) :][places.rows, places.columns].float()
    log_probs = -F.cross_entropy(picked, places.targets, reduction="none")
    total = torch.zeros(places.responses, device=logits.device).index_add(0, places.owners, log_probs)
    tokens = torch.bincount(places.owners, minlength=places.responses)
    return ResponseLogProbs(total / tokens, total, tokens)


def _owners(rows: Sequence[PromptRow], tail: int) -> tuple[Tensor, Tensor]:
    """Per tail token its response within the row (-1 = padding) and its place in it; both (rows, tail)."""
    owner = torch.full((len(rows), tail), -1)
    offset = torch.zeros((len(rows), tail), dtype=torch.long)
    for r, row in enumerate(rows):
        lengths = torch.tensor([len(ids) for ids in row.responses])
        owner[r, : row.tail] = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        offset[r, : row.tail] = torch.cat([torch.arange(int(length)) for length in lengths])
    return owner, offset


def _places(rows: Sequence[PromptRow], tails: Tensor, owner: Tensor, offset: Tensor) -> Places:
    """From the tails' token ids and `_owners`, (rows, tail) each."""
    in_row, columns = (owner >= 0).nonzero(as_tuple=True)
    responses = torch.tensor([len(row.responses) for row in rows])
    before = responses.cumsum(0) - responses  # of the earlier rows
    return Places(
        rows=in_row,
        columns=columns * (offset[in_row, columns] > 0),  # the prompt's last token predicts the first of each
        targets=tails[in_row, columns],
        owners=owner[in_row, columns] + before[in_row],
        responses=int(responses.sum()),
        tail=tails.shape[1],
    )


def _masks(
    student: Student, prompts: Mapping[str, Tensor], real: Tensor, owner: Tensor, positions: Tensor
) -> Tensor | dict[str, Tensor]:
    """What each token may look at: one mask, or one per kind of attention layer."""
    rows, width = real.shape
    length = width + owner.shape[1]
    mask = torch.ones(length, length, dtype=torch.bool).tril().repeat(rows, 1, 1)
    mask[:, :, :width] &= real[:, None, :]
    mask[:, width:, width:] &= owner[:, :, None] == owner[:, None, :]
    mask |= torch.eye(length, dtype=torch.bool)  # padding looks at itself: no softmax may be empty
    image = _image_blocks(student, prompts, length)
    kinds = layer_masks(student, mask, positions, positions)
    formed = {kind: _form(student, own | image) for kind, own in kinds.items()}
    return formed if len(formed) > 1 else next(iter(formed.values()))


def _image_blocks(student: Student, prompts: Mapping[str, Tensor], length: int) -> Tensor:
    """(rows, length, length): the tokens of one image see each other, for students that mark them (Gemma 3)."""
    width = prompts["input_ids"].shape[1]
    seen = torch.zeros(len(prompts["input_ids"]), length, length, dtype=torch.bool)
    if student.reads_images and "token_type_ids" in prompts:
        kind = prompts["token_type_ids"] == 1
        block = (kind & ~F.pad(kind, (1, 0))[:, :-1]).cumsum(1)
        seen[:, :width, :width] = (block[:, :, None] == block[:, None, :]) & kind[:, None, :] & kind[:, :, None]
    return seen
