"""Images decoded in threads, a few batches ahead of the model that reads them: memory stays flat."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")
AHEAD = 2
"""Batches that are being decoded while one is encoded."""


def ahead(jobs: Iterable[T], start: Callable[[T], U], depth: int = AHEAD) -> Iterator[U]:
    """Starts every job `depth` jobs before it is yielded, in order.

    Args:
        jobs: For example the pieces of a list of samples.
        start: Starts one, for example by submitting it to a pool, and returns at once.
        depth: How many are started beyond the one that is yielded.
    """
    started: deque[U] = deque()
    for job in jobs:
        started.append(start(job))
        if len(started) > depth:
            yield started.popleft()
    yield from started


@contextmanager
def decoding_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that decode images (Pillow releases the interpreter's lock). On an error what waits is dropped."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="mint-decode")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
