"""How a task asks for a list: in short words during training, with the whole demand on the format at inference."""

from __future__ import annotations

from dataclasses import dataclass

from mint_core.types import ImageRef, Message, Prompt


@dataclass(frozen=True, slots=True)
class ListPrompt:
    """The words of a task that asks for the N most likely labels."""

    role: str
    """Who answers: `a pathologist`."""
    question: str
    """What is asked; `{n}` stands for N: `Name the {n} most likely tissues of this H&E patch.`"""
    header: str
    """First line of the answer: `MOST_LIKELY_TISSUE:`."""
    entry: str = "name"
    """What one line of the list holds: `tissue`."""

    def short(self, n: int, text: str | None = None, image: ImageRef | None = None) -> Prompt:
        """The prompt of the training phase.

        Args:
            n: How many labels are listed.
            text: What the student reads; stands in front of the question.
            image: What it sees.
        """
        return self._prompt(self.question.replace("{n}", str(n)), text, image)

    def full(self, n: int, text: str | None = None, image: ImageRef | None = None) -> Prompt:
        """The prompt of the inference phase; arguments as above."""
        lines = "\n".join(f"{number}. <{self.entry}>" for number in range(1, n + 1))
        demand = (
            f"{self.question.replace('{n}', str(n))} Give EXACTLY {n} numbered entries, the most likely first, all "
            f"different, and nothing else. Format:\n{self.header}\n{lines}"
        )
        return self._prompt(demand, text, image)

    def _prompt(self, question: str, text: str | None, image: ImageRef | None) -> Prompt:
        system = Message("system", f"You are {self.role}. Keep to the format.")
        asked = question if text is None else f"{text}\n{question}"
        return Prompt((system, Message("user", asked)), image)
