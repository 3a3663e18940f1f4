"""Generation that can only write N distinct known labels in the task's format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from mint_core.answering.automaton import Automaton, automaton
from mint_core.answering.engine import batches
from mint_core.answering.generate import greedy, stop_tokens
from mint_core.answering.trie import once
from mint_core.students.encoding import append_response, check_length, encode_prompt
from mint_core.types import LabelSpace, Prompt, Response

if TYPE_CHECKING:
    from mint_core.interfaces import Student


def generate_constrained(
    student: Student,
    prompts: Mapping[str, Prompt],
    labels: LabelSpace,
    header: str,
    *,
    n: int,
    batch_size: int,
    model: Any = None,
) -> Iterator[tuple[str, Response | None]]:
    """Answers prompts greedily with N distinct known labels each, as `generate` does freely.

    Yields:
        Sample id and labels, in the order of `prompts`; None where the student's scores are not finite.

    Raises:
        DataError: A prompt and its response do not fit the student's context.
        ModelError: The student's tokenizer writes two labels alike, or the student cannot end a response.
    """
    model = student.model if model is None else model
    for batch in batches(prompts, batch_size, ordered=True):
        encoded = [encode_prompt(student, sample_id, prompt) for sample_id, prompt in batch.items()]
        end = encoded[0].end_of_turn
        make = partial(automaton, student, labels, header, n, end_of_turn=end, stops=stop_tokens(student, end))
        rules = once(student.model, ("automaton", student.tokenizer, labels, header, n, end), make)
        for prompt in encoded:
            check_length(student, prompt.sample_id, prompt.length + len(rules.head) + rules.longest)
        walk = Walk(rules, n, len(encoded), student.device)
        rows = [append_response(prompt, rules.head) for prompt in encoded]
        written = greedy(student, model, rows, end, max_new_tokens=rules.longest, processors=[walk])
        responses = zip(batch, walk.responses(written.tokens[:, -1], labels), written.broken, strict=True)
        yield from ((i, None if broken else response) for i, response, broken in responses)


class Walk(LogitsProcessor):  # type: ignore[misc] # transformers is untyped
    """Takes every row of a batch through the automaton, token by token.

    Args:
        rules: The automaton.
        n: Labels per response (N).
        rows: Rows of the batch.
        device: Where the logits are.
    """

    def __init__(self, rules: Automaton, n: int, rows: int, device: torch.device) -> None:
        names = ("roots", "starts", "tokens", "children", "label", "paths")
        arrays = {name: torch.as_tensor(getattr(rules, name), device=device) for name in names}
        self._roots, self._starts, self._tokens = arrays["roots"], arrays["starts"], arrays["tokens"]
        self._children, self._label, self._paths = arrays["children"], arrays["label"], arrays["paths"]
        self._n = n
        self._node = self._roots[0].repeat(rows)
        self._written = torch.full((rows, n), -1, device=device)
        self._entry = torch.zeros(rows, dtype=torch.long, device=device)
        self._left = torch.as_tensor(rules.open, dtype=torch.int32, device=device).repeat(rows, 1)
        nothing = torch.empty(0, dtype=torch.long, device=device)
        self._edges = (nothing, nothing)
        """Row and number of every edge that was allowed in the last step."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores with -inf for every token that may not follow.

        Args:
            input_ids: (rows, length).
            scores: (rows, vocabulary).
        """
        self._step(input_ids[:, -1])
        rows, edges = self._allowed()
        tokens = self._tokens[edges]
        lowest = torch.finfo(scores.dtype).min  # what a student's own settings forbid is allowed here
        masked = torch.full_like(scores, float("-inf"))
        masked[rows, tokens] = torch.nan_to_num(scores[rows, tokens], nan=lowest, neginf=lowest)
        ended = self._entry == self._n
        masked[ended] = scores[ended]
        self._edges = (rows, edges)
        return masked

    def responses(self, chosen: Tensor, labels: LabelSpace) -> list[Response]:
        """What was written, per row; `chosen`, of shape (rows,), are the last tokens."""
        self._step(chosen)
        return [tuple(labels.names[label] for label in row) for row in self._written.tolist()]

    def _allowed(self) -> tuple[Tensor, Tensor]:
        """Row and number of every edge that leads to a label which is not used yet."""
        starts = self._starts[self._node]
        counts = (self._starts[self._node + 1] - starts) * (self._entry < self._n)
        rows = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        before = counts.cumsum(0) - counts
        edges = torch.arange(len(rows), device=rows.device) - before[rows] + starts[rows]
        alive = self._left[rows, self._children[edges]] > 0
        return rows[alive], edges[alive]

    def _step(self, chosen: Tensor) -> None:
        """Follows the tokens that were written; a complete entry uses its label and begins the next one."""
        rows, edges = self._edges
        taken = self._tokens[edges] == chosen[rows]
        self._node[rows[taken]] = self._children[edges[taken]]
        done = (self._label[self._node] >= 0) & (self._entry < self._n)
        at = done.nonzero()[:, 0]
        if len(at):
            used = self._label[self._node[at]]
            self._written[at, self._entry[at]] = used
            self._left[at[:, None], self._paths[used]] -= 1
            self._entry[at] += 1
            self._node[at] = self._roots[self._entry[at].clamp(max=self._n - 1)]
