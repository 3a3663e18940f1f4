"""Who answers prompts: a student in transformers or in vLLM on this machine, or a model on a server. One interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mint_core.config import PredictConfig
from mint_core.errors import DataError, ModelError
from mint_core.interfaces import Unreadable
from mint_core.students.encoding import TokenCounter, response_budget
from mint_core.students.prompts import parse_response
from mint_core.types import LabelSpace, Prediction, Prompt

Answered = Prediction | Unreadable
"""An answer, or why a sample has none."""
Prompts = Mapping[str, Prompt]
"""By sample id."""
WINDOW = 8
"""Batches among which prompts are sorted by length, so that those of like length are answered together."""
REASONING_TOKENS = 512
"""What a chain of thought may take beside the list."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What is the same for all questions."""

    labels: LabelSpace
    header: str
    """First line of a response."""
    n: int
    """Labels that are asked for (N)."""
    listed: int
    """Labels per prediction where the labels are scored; N unless somebody wants to see more of them."""
    config: PredictConfig
    ordered: bool = False
    """Answers come in the order of the samples, so that a file can be written as they come."""

    @property
    def batch_size(self) -> int:
        """Prompts per batch. vLLM keeps a GPU busy by itself, and its answers are kept when a batch is complete."""
        return self.config.batch_size or (512 if self.config.engine == "vllm" else 32)

    def budget(self, counter: TokenCounter) -> int:
        """Length limit of a written response in tokens."""
        return self.config.max_new_tokens or self.longest(counter)

    def longest(self, counter: TokenCounter) -> int:
        """What the longest list takes, half again, and the reasons where they are asked for."""
        reasons = REASONING_TOKENS if self.config.reason else 0
        return response_budget(counter, self.header, self.labels, self.n) + reasons

    def reserve(self, counter: TokenCounter) -> int:
        """Tokens that a prompt must leave for the response: passages take no more than the rest."""
        budget = self.budget(counter)
        return budget if self.config.decode == "free" else max(budget, self.longest(counter))

    def read(self, sample_id: str, variant: str, text: str, *, truncated: bool = False) -> Prediction:
        """What a model wrote, as a prediction."""
        parsed = parse_response(text, self.header, reasons=self.config.reason)
        found = parsed.labels, parsed.n_listed, parsed.well_formed
        return Prediction(sample_id, variant, text, *found, truncated=truncated)


class Engine(ABC):
    """Answers prompts, batch by batch. Use it as a context manager.

    Attributes:
        asking: What is the same for all questions.
        counter: Counts tokens as the model does.
    """

    asking: Asking
    counter: TokenCounter

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of what the engine holds: this one of nothing."""
        return

    @abstractmethod
    def answers(self, variant: str, prompts: Prompts, *, free: bool = False) -> Iterator[list[Answered]]:
        """Answers prompts, in any order unless `asking.ordered`.

        Args:
            variant: Written into every prediction.
            prompts: What is asked.
            free: Let the model write freely, whatever the config says.

        Yields:
            Some answers at a time, as they are ready.

        Raises:
            DataError: A prompt and its response do not fit the model's context.
            ModelError: The model cannot go on.
        """

    def put_on(self, adapter: Path) -> None:
        """From now on the aligned student answers.

        Args:
            adapter: Folder of the adapter.

        Raises:
            ModelError: This model takes no adapter.
        """
        raise ModelError("This model is only asked as it is; it takes no adapter.")

    @property
    def facts(self) -> dict[str, Any]:
        """What the run record says of who answered."""
        return {"engine": self.asking.config.engine}


def count_truncated(truncated: int, answers: int) -> str:
    """One sentence on free answers that were cut; empty where none was.

    Args:
        truncated: How many reached the limit.
        answers: Of how many.
    """
    if not truncated:
        return ""
    return (
        f"{truncated} of {answers} free answers reached the limit on their length and were cut there; raise "
        "predict.max_new_tokens where they should be longer."
    )


def batches(prompts: Prompts, size: int, *, ordered: bool) -> Iterator[Prompts]:
    """Batches of prompts of like length, the longest of a window first; or in the order of the samples."""
    ids = list(prompts)
    lengths = {i: sum(len(message.content) for message in prompt.messages) for i, prompt in prompts.items()}
    for start in range(0, len(ids), WINDOW * size):
        window = ids[start : start + WINDOW * size]
        if not ordered:
            window.sort(key=lambda i: -lengths[i])
        for first in range(0, len(window), size):
            yield {i: prompts[i] for i in window[first : first + size]}


def one_by_one(answer: Callable[[Prompts], list[Answered]], prompts: Prompts) -> list[Answered]:
    """Answers a batch, sample by sample where `answer` fails for one of them."""
    try:
        return answer(prompts)
    except (DataError, ModelError) as error:
        if len(prompts) == 1:
            return [Unreadable(next(iter(prompts)), str(error))]
        return [one for i, prompt in prompts.items() for one in one_by_one(answer, {i: prompt})]
