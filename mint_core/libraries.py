"""What the libraries below say while mint works: their loading bars, warnings and advice help nobody who waits."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

_TALKATIVE = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "huggingface_hub",
    "lm_eval",
    "open_clip",
    "peft",
    "torch",
    "transformers",
)
_VERBOSITY = {
    "datasets": "DATASETS_VERBOSITY",
    "huggingface_hub": "HF_HUB_VERBOSITY",
    "transformers": "TRANSFORMERS_VERBOSITY",
}
"""The environment variable that says, when a library is imported, from which level on it logs."""
_lock = threading.Lock()
_undo = ExitStack()
_depth = 0
"""Calls that are at work, in all threads: the first one makes the libraries quiet, and the last one lets them speak."""


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """As long as it lasts the libraries show no bars, and log and warn of errors alone; also a decorator.

    Afterwards everything is as the user had it, also in libraries that were imported meanwhile. Whoever sets a
    library's own environment variable (`TRANSFORMERS_VERBOSITY=info`) still hears it. tokenizers warn where a process
    forks, unless they work in one thread.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=rf"({'|'.join((*_TALKATIVE, 'trl'))})(\..*)?$")
        _enter()
        try:
            yield
        finally:
            _leave()


def _enter() -> None:
    global _depth  # noqa: PLW0603 - settings of the process have one keeper
    with _lock:
        _depth += 1
        if _depth == 1:
            _undo.callback(_without_bars())
            for library in _TALKATIVE:
                if _VERBOSITY.get(library, "") not in os.environ:
                    _undo.callback(_at_errors(library))
            quiet = {**dict.fromkeys(_VERBOSITY.values(), "error"), "TOKENIZERS_PARALLELISM": "false"}
            for variable in quiet.keys() - os.environ.keys():
                os.environ[variable] = quiet[variable]
                _undo.callback(os.environ.pop, variable, None)


def _leave() -> None:
    global _depth  # noqa: PLW0603
    with _lock:
        _depth -= 1
        if _depth == 0:
            _undo.close()


def _at_errors(library: str) -> Callable[[], None]:
    """Lets a library log errors alone; returns what undoes it."""
    logger, there = logging.getLogger(library), library in sys.modules
    before = logger.level
    logger.setLevel(logging.ERROR)

    def undo() -> None:
        imported = library in _VERBOSITY and not there and library in sys.modules
        if logger.level == logging.ERROR:  # else its import, or the user, has said otherwise meanwhile
            logger.setLevel(logging.WARNING if imported else before)  # as its import would have set it

    return undo


def _without_bars() -> Callable[[], None]:
    """Makes every bar of tqdm, which all these libraries draw with, a silent one; returns what undoes it."""
    from tqdm.std import tqdm

    draw = tqdm.__init__

    def stay_silent(self: Any, *args: Any, **options: Any) -> None:
        draw(self, *args, **{**options, "disable": True})

    def undo() -> None:
        tqdm.__init__ = draw

    tqdm.__init__ = stay_silent
    return undo
