"""What a run tells while it works. The CLI draws it, the API may ignore it."""

from __future__ import annotations

from collections.abc import Mapping


class Observer:
    """Hears of a run's progress. This one is silent; subclasses override what they care for."""

    def message(self, text: str) -> None:
        """One sentence for the person who waits."""

    def stage(self, name: str, *, reused: bool, reason: str = "") -> None:
        """A stage begins, or is complete already; `reason` says why it runs again where it ran before."""

    def progress(self, done: int, total: int, unit: str, figures: Mapping[str, float] | None = None) -> None:
        """How far the current stage is, in units of a plural; `figures` are the latest ones, for example the loss."""

    def finished(self, name: str, seconds: float) -> None:
        """A stage is complete."""
