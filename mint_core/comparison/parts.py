"""Parts of a comparison, each made by a process of its own: the tasks of an array job, or processes of one machine.

Parts are safe beside each other. A stage that several of them need is made by the first that comes to it, and the
others wait for it; a run that another one starts from is made by whichever of the two comes first.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import NamedTuple, TextIO, cast

from mint_core import processes
from mint_core.comparison.folder import config_of, refuse_another, tables
from mint_core.comparison.schedule import PlannedRun, Schedule
from mint_core.comparison.work import check, make_all, prepare_all
from mint_core.errors import INTERRUPTED, CapacityError, ConfigError, error_of
from mint_core.files import access, remove, storage_errors, write_json
from mint_core.interrupts import sigterm_is_ctrl_c
from mint_core.observer import Observer
from mint_core.runs.pipeline import RunResult, Shared

_CONFIG = ".jobs.json"
"""What the processes of one machine read the comparison from."""


class Part(NamedTuple):
    """Every `total`-th run of a comparison, from the `number`-th on."""

    number: int
    """From 1."""
    total: int

    def runs(self, made: Schedule) -> list[PlannedRun]:
        """Its runs, each behind those that it starts from."""
        by_folder = {run.folder: run for run in made.work}
        found: dict[str, PlannedRun] = {}
        for run in made.work[self.number - 1 :: self.total]:
            chain = [run]
            while chain[0].starts_from is not None:
                chain.insert(0, by_folder[chain[0].starts_from])
            found.update({one.folder: one for one in chain})
        return list(found.values())


def parse_part(text: str) -> Part:
    """`2/6`: the second of six.

    Raises:
        ConfigError: It is no such pair.
    """
    numbers = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text)
    part = Part(*map(int, numbers.groups())) if numbers else Part(1, 0)
    if part.number > part.total:
        raise ConfigError(f"--part takes I/N, the I-th of N parts, not '{text}'; for example 2/6.")
    return part


def make_part(made: Schedule, part: Part, observer: Observer, *, overwrite: bool = False) -> list[RunResult]:
    """Makes the runs of one part, and no table; the comparison itself finds them complete.

    Raises:
        MintError: Something is wrong with one of its runs.
    """
    shared = Shared(made.store, overwrite=overwrite, tables=tables(made), beside=True)
    if not overwrite:
        refuse_another(made)
    runs = part.runs(made)
    check(runs, shared, observer)
    with access(made.runs[0].resolved.config.access, made.path):
        with storage_errors(made.path):
            made.path.mkdir(parents=True, exist_ok=True)
        shared.store.prepare()
        prepare_all(runs, shared, observer)
        return make_all(runs, made, shared, observer)


def make_side_by_side(made: Schedule, jobs: int, observer: Observer, *, overwrite: bool = False) -> None:
    """Makes all runs in processes of this machine, `jobs` at a time: one run each, on a GPU of its own where there are.

    The CPU's threads are divided among them. The first error ends all, as Ctrl-C does; what runs is saved first.

    Raises:
        MintError: A run's own error.
        KeyboardInterrupt: It was interrupted.
    """
    if processes.count() > 1:
        raise ConfigError("torchrun started several processes already; leave --jobs out, or start mint without it.")
    config = made.path / _CONFIG
    write_json(config, {**config_of(made), "name": made.path.name, "out": str(made.store.out)})
    command = [sys.executable, "-m", "mint_core", made.kind, "--config", str(config)]
    command += ["--overwrite"] if overwrite else []
    left = deque(enumerate(made.work, 1))
    slots = deque(_environments(jobs, made))
    try:
        with _Children(observer) as children:
            while left or children.running:
                while left and slots:
                    number, run = left.popleft()
                    part = ["--part", f"{number}/{len(made.work)}"]
                    children.start(run, [*command, *part], slots.popleft())
                slots.append(children.next_ended())
    finally:
        remove(config)


def _environments(jobs: int, made: Schedule) -> Iterator[dict[str, str]]:
    """The environment of each process: its share of the CPU's threads, and one GPU where there are several."""
    import torch

    threads = str(max(1, torch.get_num_threads() // jobs))
    gpus = _gpus() if all(run.resolved.config.student.device in ("auto", "cuda") for run in made.runs) else []
    for number in range(jobs):
        own = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus[1:] else {}
        paths = os.pathsep.join(filter(None, sys.path))  # it finds the same plugins
        yield {**os.environ, **own, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONPATH": paths}


def _gpus() -> list[str]:
    """The GPUs of this process by number or name, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    count = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",")[:count] if given else [str(number) for number in range(count)]


@dataclass(frozen=True, slots=True)
class _Child:
    """A process at work on a run."""

    run: PlannedRun
    environment: dict[str, str]
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)
    """The last line on stderr."""


class _Children:
    """Processes at work; those that are still there at the end are ended, and waited for.

    Args:
        observer: Hears what they say.
    """

    def __init__(self, observer: Observer) -> None:
        self.running: list[_Child] = []
        self._observer = observer
        self._lines: SimpleQueue[tuple[_Child, str | None]] = SimpleQueue()

    def __enter__(self) -> _Children:
        return self

    def __exit__(self, *_: object) -> None:
        with sigterm_is_ctrl_c():
            while self.running:
                try:
                    for child in self.running:
                        child.process.terminate()
                    for child in self.running:
                        child.process.wait()
                    self.running.clear()
                except KeyboardInterrupt:  # again: they are told again, which ends them at once
                    continue

    def start(self, run: PlannedRun, command: list[str], environment: dict[str, str]) -> None:
        """Starts one. It hears of Ctrl-C from this process alone, so that it is told once."""
        process = subprocess.Popen(  # noqa: S603 - this program itself
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,
        )
        child = _Child(run, environment, process)
        self.running.append(child)
        threading.Thread(target=self._listen, args=(child,), daemon=True).start()

    def _listen(self, child: _Child) -> None:
        with cast(TextIO, child.process.stderr) as lines:
            for line in lines:
                self._lines.put((child, line.rstrip("\n")))
        self._lines.put((child, None))

    def next_ended(self) -> dict[str, str]:
        """Waits until one has ended well, and gives its environment back.

        Raises:
            MintError: It ended with this error.
            KeyboardInterrupt: It was interrupted.
        """
        with sigterm_is_ctrl_c():
            while True:
                child, line = self._lines.get()
                if line is None:
                    code = child.process.wait()
                    self.running.remove(child)
                    _raise(child, code)
                    return child.environment
                child.said[:] = [line]
                if line.strip() and not line.startswith(("mint: ", "[")):
                    self._observer.message(f"{child.run.title}: {line}")


def _raise(child: _Child, code: int) -> None:
    """What a process that failed has said, as the error that it was.

    Raises:
        MintError: This.
        KeyboardInterrupt: It was interrupted.
    """
    if code == 0:
        return
    if code == INTERRUPTED or -code in (signal.SIGINT, signal.SIGTERM):
        raise KeyboardInterrupt
    if code < 0:
        raise CapacityError(
            f"The process of {child.run.title} was ended by {signal.Signals(-code).name}; where the memory did not "
            "suffice, give fewer --jobs."
        )
    raise error_of(code)(child.said[0].removeprefix("mint: ") if child.said else f"{child.run.title} failed.")
