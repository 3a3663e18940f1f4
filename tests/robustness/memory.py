"""Too little memory: a limit on the address space, and allocators that refuse."""

from __future__ import annotations

import importlib
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mint_core.errors import CapacityError
from tests.robustness.forks import Answer
from tests.robustness.table import Trial
from tests.robustness.world import RUN, World, half_states, is_told

TOO_LITTLE = frozenset({CapacityError.exit_code})
"""Exit codes of too little memory."""
TOLD = "exit 10 and what to lower; with memory the same command ends equal"
_PLACES = {
    "the teacher": "toy_plugin_under_test:Oracle.log_probs",
    "the student": "transformers.models.llama.modeling_llama:LlamaModel.forward",
    "the gradients": "torch:Tensor.backward",
    "a checkpoint": "torch:save",
    "the student's weights": "mint_core.stages.align:load_student",
    "a table": "pyarrow.parquet:write_table",
    "the intervals": "mint_core.stages.evaluate:evaluate",
    "the report": "mint_core.stages.report:render_report",
}
"""What runs out of memory, as module:attribute."""


def short_memories(world: World, count: int) -> Iterator[Trial]:
    """So many limits, and as many refusals."""
    yield from _limits(world, count)
    yield from _refusals(world, count)


def _limits(world: World, count: int) -> Iterator[Trial]:
    """RLIMIT_AS a little above what the process has, so that the command does not fit."""
    folder = world.start("run")
    measured = world.forks.call(folder, RUN, measure=True)
    world.done(folder)
    if not measured.room:
        return  # this system does not tell
    draw = random.Random("memory")
    for _ in range(count):
        room = draw.randrange(2**20, int(0.95 * measured.room))
        folder = world.start("run")
        short = world.forks.call(folder, RUN, room=room)
        case = f"{room // 2**20} MiB of {measured.room // 2**20}"
        yield _judged(world, folder, "memory limit in `mint run`", case, short)


def _refusals(world: World, count: int) -> Iterator[Trial]:
    """An error of every library's allocator, in every place."""
    draw = random.Random("refusals")
    cases = list(itertools.product(_PLACES, ERRORS))
    for place, error in draw.sample(cases, min(count, len(cases))):
        folder = world.start("run")
        short = world.forks.call(
            folder, function="tests.robustness.memory:refuse", arguments=[_PLACES[place], error, list(RUN)]
        )
        yield _judged(world, folder, "allocator that refuses in `mint run`", f"{error} for {place}", short)


def _judged(world: World, folder: Path, kind: str, case: str, short: Answer) -> Trial:
    """What a command that was short of memory left, and what it came to with enough."""
    visible = half_states(folder)
    again = world.forks.call(folder, RUN)
    how, end = "", TOLD
    if visible:
        how = f"half states: {', '.join(visible)}"
    elif again.code:
        how = f"with memory the same command ends with {again.code}: {again.told}"
    elif found := world.differences(folder, "run"):
        how = "; ".join(found)
    elif short.code < 0:
        end = f"compiled code of a library ended the process (signal {-short.code}); then equal"
    elif short.code == 0:
        end = "done with less, results equal"
    elif not is_told(short, TOO_LITTLE):
        how = f"exit {short.code}: {short.told}"
    world.done(folder)
    return Trial(kind, case, how or end, survived=not how)


# --- in a child


def _torch_gpu() -> Exception:
    import torch

    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def _torch_cpu() -> Exception:
    told = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes. Error code 12"
    return RuntimeError(f"[enforce fail at alloc_cpu.cpp:127] err == 0. {told} (Cannot allocate memory)")


def _numpy() -> Exception:
    import numpy as np

    try:
        np.empty(2**50, np.uint8)  # asks for a PiB
    except MemoryError as error:
        return error
    raise AssertionError("this machine has a PiB of memory")


def _arrow() -> Exception:
    import pyarrow as pa

    return pa.lib.ArrowMemoryError("malloc of size 8589934592 failed")


ERRORS: dict[str, Callable[[], Exception]] = {
    "torch on a GPU": _torch_gpu,
    "torch on a CPU": _torch_cpu,
    "Python": MemoryError,
    "numpy": _numpy,
    "Arrow": _arrow,
}


def refuse(place: str, error: str, command: list[str]) -> None:
    """Gives a command whose memory never suffices in one place."""
    from mint_core.cli import main

    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    made = ERRORS[error]()

    def short(*_: Any, **__: Any) -> Any:
        raise made

    setattr(owner, name, short)
    main(command)
