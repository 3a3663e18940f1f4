"""Seam 2: a multimodal model that ranks all labels for a sample."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from mint_core.interfaces.component import Component, ComponentConfig
from mint_core.types import Channel, Sample

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Teacher(Component[ComponentConfig]):
    """Optional `fit`, then log-probabilities over all labels.

    `fit` is given the training split and nothing else. `log_probs` is given samples of all splits.

    Clauses:
        1. `log_probs` returns shape (n_samples, n_labels), float32.
        2. Every value is finite or -inf, and every row's exponentials sum to 1 (1e-3).
        3. It is deterministic, in the order of the samples, and a row does not depend on the samples beside it (1e-2).
        4. Labels reach it through `fit` alone: the rows are the same when the labels of the samples are taken away.
    """

    kind = "teacher"
    reads: ClassVar[tuple[Channel, ...]] = ()
    """What it cannot do without: a run where a sample lacks it is refused before anything is computed."""
    together: ClassVar[bool] = False
    """Whether it must be given all samples in one call; else they come some hundreds at a time."""

    @property
    def shares_work(self) -> bool:
        """Whether each of torchrun's processes may fit a teacher of its own and rank some of the samples.

        True promises that `fit` gives the same in all of them, and writes nothing that another one reads half-written.
        """
        return False

    def extract(self, samples: Sequence[Sample]) -> None:
        """Computes what needs no `fit` and is kept in `context.cache`, for example frozen features; called before it.

        Args:
            samples: Some hundreds of any split. Under torchrun every process gets others, and then reads the cache.
        """

    def fit(self, samples: Sequence[Sample]) -> None:
        """Learns from the training split. Teachers that need no training leave it out.

        Args:
            samples: The training split; some labels may be None.
        """

    @abstractmethod
    def log_probs(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Natural logarithms of p(label | sample), shape (n_samples, n_labels), columns as in `self.labels.names`.

        Raises:
            DataError: A sample cannot be read or lacks what the teacher needs.
        """

    @classmethod
    def parts(cls, config: Any) -> tuple[Mapping[str, Any], ...]:
        """The teachers that it is made of, each as `name` and options; they must serve the task too. Torch-free.

        Args:
            config: A validated `Config`.
        """
        return ()

    @classmethod
    def asks(cls, config: Any) -> bool:
        """Whether it asks the task's question (`context.task`): another wording then makes other rankings. Torch-free.

        Args:
            config: A validated `Config`.
        """
        return False

    @classmethod
    def sends(cls, config: Any) -> str:
        """What leaves this machine while it ranks, and where to, as half a sentence; empty = nothing. Torch-free.

        Args:
            config: A validated `Config`.

        Raises:
            ConfigError: Something would leave it, and nobody has allowed that.
        """
        return ""

    @classmethod
    def fingerprint(cls, config: Any) -> str:
        """What identifies the weights that a config names, so that other weights run the stage again. Torch-free.

        Args:
            config: A validated `Config`.
        """
        return ""

    def describe(self) -> dict[str, Any]:
        """Facts for the run record: weights, their fingerprint, precision."""
        return {}
