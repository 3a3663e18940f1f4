"""Several processes under torchrun: the first makes the run; the others label, train and answer along, and wait."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from mint_core.errors import ConfigError

T = TypeVar("T")
_PATIENCE = timedelta(days=30)
"""The others wait while the first process does what nobody shares."""


def count() -> int:
    """How many processes torchrun started; WORLD_SIZE alone is also set by others."""
    launched = "RANK" in os.environ and "MASTER_ADDR" in os.environ
    return int(os.environ.get("WORLD_SIZE", "1")) if launched else 1


def is_first() -> bool:
    """Whether this is the process that makes the run."""
    return count() == 1 or os.environ["RANK"] == "0"


def rank() -> int:
    """The place of this process among all; 0 where there is one."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def share(items: Sequence[T]) -> Sequence[T]:
    """The part of a sequence that this process works on: contiguous, and as long as the others' or one longer."""
    place, total = rank(), count()
    return items[len(items) * place // total : len(items) * (place + 1) // total]


def check() -> None:
    """Refuses a run that was started several times at once.

    Raises:
        ConfigError: torchrun started a program that calls mint, and not mint itself.
    """
    if count() > 1 and not _connected():
        raise ConfigError(
            "torchrun started several processes that would all make this run; start mint itself instead: "
            "torchrun … -m mint_core run …"
        )


def wait(*, alone: bool = False) -> None:
    """Waits until all processes are here; nothing where there is one, or where this one works `alone`."""
    if not alone and count() > 1 and _connected():
        from torch import distributed

        distributed.barrier()


def largest(value: int) -> int:
    """The largest of what all processes say; they say it together."""
    if count() == 1 or not _connected():
        return value
    import torch
    from torch import distributed

    box = torch.tensor(value)
    distributed.all_reduce(box, op=distributed.ReduceOp.MAX)
    return int(box)


@contextmanager
def joined() -> Iterator[None]:
    """Connects the processes that torchrun started, and lets the others go when the first one is done.

    After an error nobody is told anything: torchrun ends the others when one has failed, and they may be waiting for
    gradients.
    """
    if count() == 1:
        yield
        return
    import torch
    from torch import distributed

    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    yield
    if is_first():
        tell(None)
    distributed.destroy_process_group()


def _connected() -> bool:
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized()


def tell(task: dict[str, Any] | None) -> dict[str, Any] | None:
    """Hands the first process's task to all; in the others, whatever they give is replaced by it."""
    from torch import distributed

    box = [task]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def listen() -> dict[str, Any] | None:
    """The first process's next task. Where that one has stopped, it has said why, and nobody else has to."""
    try:
        return tell(None)
    except RuntimeError:
        os._exit(1)
