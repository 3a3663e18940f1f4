"""Ctrl-C, SIGTERM and SIGUSR1: all end the work with KeyboardInterrupt; a training saves where it stands first.

SIGUSR1 is what SLURM sends before the time limit (`--signal=USR1@300`), and the one signal that its srun passes on.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

_USUAL: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""What these signals do in a Python program; one that has a handler of its own keeps it."""
if hasattr(signal, "SIGUSR1"):  # not on Windows
    _USUAL[signal.SIGUSR1] = signal.SIG_DFL


class Stop:
    """Whether the work is to end behind what it is at.

    Args:
        tell: Called when that is asked for, in a thread of its own: the signal may have come in the middle of a print.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self.asked = False
        self._tell = tell

    def ask(self) -> None:
        """Asks for it."""
        self.asked = True
        threading.Thread(target=self._tell, daemon=True).start()


class _State:
    """What a signal handler knows; it is called with nothing."""

    seen = 0
    """Signals that arrived."""
    process = 0
    """The process that handles them; one that was forked from it does not."""
    stop: Stop | None = None
    """Set while the first signal is put off."""


def seen() -> int:
    """How many signals arrived so far."""
    return _State.seen


def count_presses() -> None:
    """Has Ctrl-C counted from now on, so that it can be told from a KeyboardInterrupt that code raised.

    A program that has a handler of its own keeps it, and then the two cannot be told apart.
    """
    if _is_usual(signal.SIGINT):
        _handle(signal.SIGINT)


def presses_are_counted() -> bool:
    """Whether every Ctrl-C of this thread is counted; signals reach the main thread alone."""
    return threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is _interrupt


@contextmanager
def sigterm_is_ctrl_c() -> Iterator[None]:
    """As long as it lasts SIGTERM and SIGUSR1 raise KeyboardInterrupt, as Ctrl-C does."""
    with ExitStack() as stack:
        for number, usual in _USUAL.items():
            if _is_usual(number):
                _handle(number)
                stack.callback(signal.signal, number, usual)
        yield


@contextmanager
def put_off(tell: Callable[[], None]) -> Iterator[Stop]:
    """As long as it lasts the first signal only asks for the end; a second Ctrl-C or SIGTERM ends at once.

    Args:
        tell: See `Stop`.

    Raises:
        KeyboardInterrupt: At the end, where the end was asked for.
    """
    with sigterm_is_ctrl_c():
        before, _State.stop = _State.stop, Stop(tell)
        try:
            yield (stop := _State.stop)
        finally:
            _State.stop = before
    if stop.asked:
        _State.seen += 1  # the signal may have come to another process
        raise KeyboardInterrupt


def _is_usual(number: signal.Signals) -> bool:
    in_main_thread = threading.current_thread() is threading.main_thread()
    return in_main_thread and signal.getsignal(number) == _USUAL[number]


def _handle(number: signal.Signals) -> None:
    _State.process = os.getpid()
    signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _State.process:
        signal.signal(number, _USUAL[signal.Signals(number)])
        os.kill(os.getpid(), number)
        return
    _State.seen += 1
    if _State.stop is None:
        raise KeyboardInterrupt
    if not _State.stop.asked:
        _State.stop.ask()
    elif signal.Signals(number).name != "SIGUSR1":  # several messengers may bring that one
        raise KeyboardInterrupt
