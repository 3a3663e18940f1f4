"""Log-probabilities of a trie's tokens behind prompts that are computed once.

The prompts of a batch are padded on the left and their keys and values are kept. The nodes of a trie then go through
the student in one pass: each stands as many tokens behind the prompt as it is deep, and sees the prompt, its ancestors
and itself. The projection onto the vocabulary runs over a few nodes at a time, and only what is asked for is kept.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from mint_core.answering.trie import Trie
from mint_core.students.encoding import EncodedPrompt, append_response, stack
from mint_core.students.tree import in_form, layer_masks, prompt_positions

if TYPE_CHECKING:
    from mint_core.interfaces import Student

_LOGITS_BYTES = 128 * 2**20
"""Of one piece of logits in fp32; two or three such tensors are alive at a time."""


@dataclass(frozen=True, slots=True)
class Begun:
    """Prompts that went through the student, with what all labels begin with behind them."""

    cache: Any
    """Keys and values of all layers."""
    real: Tensor
    """(rows, width) boolean; False where a prompt is padded."""
    positions: Tensor
    """(rows, 1) or (3, rows, 1): position ids of the last tokens."""
    hidden: Tensor
    """(rows, 1, size): what predicts the first token of every label."""
    seen: Tensor | None
    """(rows, 1, images, tiles): what the last token may look at through cross-attention (Mllama)."""


def begin(student: Student, model: Any, prompts: Sequence[EncodedPrompt], shared: Sequence[int]) -> Begun:
    """Computes prompts once, one per row, with the token ids behind them that all labels share.

    `model` is the transformers model, without a wrapper, here and below.
    """
    rows = [append_response(prompt, shared) for prompt in prompts]
    batch = stack(rows, student.tokenizer.pad_token_id, "left")
    real = batch["attention_mask"].bool()
    positions = prompt_positions(student, batch, real)
    inputs = {key: value.to(student.device) for key, value in batch.items()}
    # Without the config every layer keeps all keys: what slides out of a window is masked, not dropped.
    cache = DynamicCache()
    out = model.base_model(
        **inputs, position_ids=positions.to(student.device), use_cache=True, **{_cache_name(model): cache}
    )
    seen = inputs["cross_attention_mask"][:, -1:] if "cross_attention_mask" in inputs else None
    return Begun(
        cache=cache,
        real=real.to(student.device),
        positions=positions[..., -1:].to(student.device),
        hidden=out.last_hidden_state[:, -1:],
        seen=seen,
    )


def path_log_probs(student: Student, model: Any, begun: Begun, trie: Trie, closers: Sequence[Sequence[int]]) -> Tensor:
    """Log-probabilities of a trie's paths, each with one of the tokens that may close it.

    Returns:
        (rows, paths of the trie) fp32, natural logarithms.
    """
    rows, nodes = len(begun.real), len(trie.tokens)
    own = _ancestors(trie).to(begun.real.device)  # (nodes, nodes)
    hidden = begun.hidden
    if nodes:
        hidden = torch.cat([hidden, _hidden(student, model, begun, trie, own)], dim=1)  # the root in column 0
    at, tokens, closing = [parent + 1 for parent in trie.parents], list(trie.tokens), []
    for node, own_closers in zip(trie.last, closers, strict=True):
        closing.append(torch.arange(len(at), len(at) + len(own_closers)))
        at += [node + 1] * len(own_closers)
        tokens += own_closers
    found = _picked(model, hidden, torch.tensor(at), torch.tensor(tokens))  # (rows, nodes + closers)
    before = torch.cat([found.new_zeros(rows, 1), found[:, :nodes] @ own.float().T], dim=1)  # log p up to each node
    found = torch.cat([found, found.new_full((rows, 1), float("-inf"))], dim=1)
    which = pad_sequence(closing, batch_first=True, padding_value=len(at)).to(found.device)  # (paths, closers)
    return before[:, torch.tensor(trie.last) + 1] + found[:, which].logsumexp(-1)


def rest_log_probs(
    student: Student,
    model: Any,
    begun: Begun,
    *,
    kept: Sequence[int],
    rests: Sequence[Sequence[int]],
    path: Sequence[int],
    closers: Sequence[int],
) -> Tensor:
    """Log-probabilities of one path behind rows that begin as one computed prompt does and then go on differently.

    Args:
        student: The student.
        model: The transformers model, without a wrapper.
        begun: One prompt.
        kept: Per row, how many tokens of that prompt it begins with.
        rests: Per row, the tokens behind these, up to the path's last one.
        path: The tokens whose log-probabilities are summed; every row ends with them.
        closers: The tokens of which one must follow.

    Returns:
        (rows,) fp32, natural logarithms.
    """
    device, width = begun.real.device, max(map(len, rests))
    longest = max(kept)  # what no row begins with is not looked at
    order, prompt = torch.arange(width, device=device), torch.arange(longest, device=device)
    cut = torch.tensor(kept, device=device)[:, None]  # (rows, 1)
    pads = torch.tensor([width - len(rest) for rest in rests], device=device)[:, None]
    tokens = torch.tensor([[rest[0]] * (width - len(rest)) + list(rest) for rest in rests], device=device)
    real = order >= pads  # (rows, width): the rests are padded on the left, so that all end in one column
    own = (order[:, None] >= order) & real[:, None, :]
    mask = torch.cat([(prompt < cut)[:, None, :].expand(-1, width, -1), own], dim=-1)
    mask[..., 0] |= ~real  # padding must look at something
    ahead = (cut + order - pads).clamp(min=0)  # tokens in front of each
    masks = layer_masks(student, mask, ahead, torch.cat([prompt.expand(len(rests), -1), ahead], dim=1))
    formed = {kind: in_form(student, one) for kind, one in masks.items()}
    cache = _branch(begun.cache)
    for layer in cache.layers:
        layer.keys = layer.keys[:, :, :longest].expand(len(rests), -1, -1, -1)
        layer.values = layer.values[:, :, :longest].expand(len(rests), -1, -1, -1)
    hidden = model.base_model(
        input_ids=tokens,
        position_ids=begun.positions - (begun.real.shape[1] - 1) + ahead,
        attention_mask=formed if len(formed) > 1 else next(iter(formed.values())),
        use_cache=True,
        **{_cache_name(model): cache},
    ).last_hidden_state[:, -len(path) - 1 :]
    steps = len(path)
    at = torch.tensor([*range(steps), *[steps] * len(closers)])
    found = _picked(model, hidden, at, torch.tensor([*path, *closers]))
    return found[:, :steps].sum(1) + found[:, steps:].logsumexp(1)


def _ancestors(trie: Trie) -> Tensor:
    """(nodes, nodes) boolean: the ancestors of each node, and itself."""
    parents, nodes = torch.tensor([*trie.parents, -1]), torch.arange(len(trie.tokens))
    own = torch.zeros(len(nodes), len(nodes) + 1, dtype=torch.bool)  # the last column stands for the root
    above = nodes
    for _ in range(max(trie.depths, default=-1) + 1):
        own[nodes, above] = True
        above = parents[above]
    return own[:, :-1]


def _hidden(student: Student, model: Any, begun: Begun, trie: Trie, own: Tensor) -> Tensor:
    """(rows, nodes, size): the last layer's output for every node."""
    rows, device = len(begun.real), begun.real.device
    depths = torch.tensor(trie.depths, device=device)
    tree = own.expand(rows, -1, -1)
    mask = torch.cat([begun.real[:, None, :].expand(-1, len(depths), -1), tree], dim=-1)
    counted = begun.real.long().cumsum(1)  # tokens up to each, padding not counted
    queries = counted[:, -1:] + 1 + depths
    masks = layer_masks(student, mask, queries, torch.cat([counted, queries], dim=1))
    formed = {kind: in_form(student, one) for kind, one in masks.items()}
    extra = {} if begun.seen is None else {"cross_attention_mask": begun.seen.repeat(1, len(depths), 1, 1)}
    hidden: Tensor = model.base_model(
        input_ids=torch.tensor(trie.tokens, device=device).expand(rows, -1),
        position_ids=begun.positions + 1 + depths,
        attention_mask=formed if len(formed) > 1 else next(iter(formed.values())),
        use_cache=True,
        **{_cache_name(model): _branch(begun.cache)},
        **extra,
    ).last_hidden_state
    return hidden


def _cache_name(model: Any) -> str:
    """What the model calls its keys and values; `past_key_values` is deprecated since transformers 5.24."""
    return "cache" if "cache" in inspect.signature(model.base_model.forward).parameters else "past_key_values"


def _branch(cache: Any) -> Any:
    """The same keys and values in a cache of its own: layers grow by new tensors, so that nothing is copied."""
    branch = copy(cache)
    branch.layers = [copy(layer) for layer in cache.layers]
    return branch


def _picked(model: Any, hidden: Tensor, at: Tensor, tokens: Tensor) -> Tensor:
    """(rows, queries) fp32: log p of a token at a column of `hidden`, (rows, columns, size).

    `at` are the columns, `tokens` the token ids, both of shape (queries,).
    """
    head, text = model.get_output_embeddings(), model.config.get_text_config()
    cap = getattr(text, "final_logit_softcapping", None)
    order = torch.argsort(at, stable=True)
    at, tokens = at[order].to(hidden.device), tokens[order].to(hidden.device)
    rows, columns, _ = hidden.shape
    width = max(1, _LOGITS_BYTES // (4 * rows * text.vocab_size))
    bounds = torch.searchsorted(at, torch.arange(0, columns + width, width, device=at.device)).tolist()
    pieces = []
    for piece, (start, stop) in enumerate(pairwise(bounds)):
        first = piece * width
        logits = head(hidden[:, first : first + width]).float()
        if cap:
            logits = logits.div_(cap).tanh_().mul_(cap)
        wanted = at[start:stop] - first
        pieces.append(logits[:, wanted, tokens[start:stop]] - logits.logsumexp(-1)[:, wanted])
    return torch.cat(pieces, dim=1)[:, torch.argsort(order).to(hidden.device)]
