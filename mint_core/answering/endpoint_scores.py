"""Scores of all labels from a server that tells how likely a text is: OpenAI-compatible completions with `echo`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mint_core.answering.endpoint import Endpoint, TryAgain, checked_url, shown
from mint_core.answering.engine import Asking
from mint_core.decoding import ahead
from mint_core.documents import parse_json
from mint_core.errors import DataError, ModelError
from mint_core.students.control import defuse
from mint_core.students.prompts import write_response
from mint_core.types import Prompt

AT_ONCE = 32
"""Labels per request."""


class ScoringEndpoint(Endpoint):
    """Asks a server for the likelihood of every label behind a prompt, a few requests at a time.

    The prompt goes out as plain text, since such a server applies no chat format: its messages, the header and `1.`;
    each label follows with a line break behind it, so that no label begins another one. Texts only.

    Args:
        asking: What is the same for all questions; `asking.config.endpoint` says which server, and how.

    Raises:
        ConfigError: The address is wrong, no model is named, or the HTTP client is not installed.
    """

    def __init__(self, asking: Asking) -> None:
        super().__init__(asking)
        self.url = checked_url(self.config.url, "/completions")

    def scores(self, prompts: Mapping[str, Prompt]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Sample id and natural logarithms, shape (n_labels,), in the order of `prompts`.

        Raises:
            ModelError: The server tells no likelihoods, knows neither key, model nor path, or gives no answer.
            DataError: It refuses a prompt.
        """
        names = self.asking.labels.names
        parts = [names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE)]
        jobs = ((sample_id, prompt, part) for sample_id, prompt in prompts.items() for part in parts)

        def start(job: tuple[str, Prompt, Sequence[str]]) -> tuple[str, Future[list[float]]]:
            return job[0], self._pool.submit(self._likelihoods, job[1], job[2])

        row: list[float] = []
        for sample_id, future in ahead(jobs, start, self.config.parallel):
            try:
                row += future.result()
            except TryAgain as problem:
                raise ModelError(
                    f"{shown(self.url)} gave no answer for sample {sample_id} ({problem}); see to the server and give "
                    "the same command again."
                ) from None
            except DataError as problem:
                raise DataError(f"Sample {sample_id}: {problem}") from None
            if len(row) == len(names):
                yield sample_id, np.array(row, np.float32)
                row = []

    def _likelihoods(self, prompt: Prompt, names: Sequence[str]) -> list[float]:
        asked = "\n\n".join(message.content for message in defuse(prompt).prompt.messages)
        first = write_response(self.asking.header, (names[0],))
        begin = f"{asked}\n\n{first.removesuffix(f' {names[0]}')}"
        texts = [f"{begin} {name}\n" for name in names]
        payload = {
            "model": self.config.model, "prompt": texts, "echo": True, "logprobs": 1, "max_tokens": 1,
            "temperature": 0, **self.config.request,
        }  # fmt: skip
        choices = self.patiently(lambda: _choices(self.send(payload), len(texts)))
        found = [_log_prob(choice, text, len(begin)) for choice, text in zip(choices, texts, strict=True)]
        told = [value for value in found if value is not None]
        if len(told) < len(found):
            raise ModelError(
                f"{shown(self.url)} does not tell how likely the labels are; ask a completions server that knows "
                "`echo` with `logprobs`, as vLLM does, or load the model here with teacher.model."
            )
        return told


def _choices(body: bytes, count: int) -> list[Any]:
    """What is said of each text, in their order."""
    try:
        choices = sorted(parse_json(body)["choices"], key=lambda choice: choice.get("index", 0))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise TryAgain("what it says is no completion") from None
    if len(choices) != count:
        raise TryAgain(f"{len(choices)} completions of {count}")
    return choices


def _log_prob(choice: Any, text: str, begin: int) -> float | None:
    """The sum over the tokens from `begin` on, up to the end of the text; None where the server does not tell.

    A token that stands on both sides of `begin` counts; one that the server wrote behind the text does not.
    """
    try:
        told = choice["logprobs"]
        starts, values = told["text_offset"], told["token_logprobs"]
        ends = [*starts[1:], len(text)]
        if starts[0] != 0 or not choice["text"].startswith(text):  # it did not echo
            return None
        own = [v for s, e, v in zip(starts, ends, values, strict=True) if e > begin and s < len(text)]
        return float(sum(own)) if own and all(isinstance(v, int | float) for v in own) else None
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
