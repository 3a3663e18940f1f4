"""Too little memory: a limit on the address space, and allocators that refuse at the N-th call."""

from __future__ import annotations

import random
from collections.abc import Iterator

from mint_core.errors import CapacityError
from tests.robustness.table import Trial
from tests.robustness.world import COMMANDS, World, half_states, is_told

OUT_OF_MEMORY = frozenset({CapacityError.exit_code})
"""Exit codes of too little memory."""
TOLD = "exit 10 and what to lower; with memory the same command ends equal"

_PLACES = {
    "label": "toy_plugin_under_test:Oracle.log_probs",
    "load": "transformers:PreTrainedModel.from_pretrained",
    "align": "mint_core.aligners.batches:Scorer.__call__",
    "predict": "mint_core.answering.transformers:TransformersEngine.answers",
}


def limits(world: World, count: int) -> Iterator[Trial]:
    """RLIMIT_AS a little above what the process has, so that the command does not fit."""
    command = "run"
    folder = world.start(command)
    measured = world.forks.call(folder, COMMANDS[command], measure=True)
    world.done(folder)
    if not measured.room:
        return  # the system does not tell
    draw = random.Random("memory")
    for _ in range(count):
        room = draw.randrange(2**20, int(0.95 * measured.room))
        folder = world.start(command)
        short = world.forks.call(folder, COMMANDS[command], room=room)
        case = f"{room // 2**20} MiB of {measured.room // 2**20}"
        visible = half_states(folder)
        again = world.forks.call(folder, COMMANDS[command])
        how, end = "", TOLD
        if visible:
            how = f"half states: {', '.join(visible)}"
        elif again.code:
            how = f"with memory the same command ends with {again.code}: {again.told}"
        elif found := world.differences(folder, command):
            how = "; ".join(found)
        elif short.code < 0:
            end = f"a library of compiled code ended the process (signal {-short.code}); then equal"
        elif short.code == 0:
            end = "it sufficed, results equal"
        elif not is_told(short, OUT_OF_MEMORY):
            how = f"exit {short.code}: {short.told}"
        world.done(folder)
        yield Trial("memory limit in `mint run`", case, how or end, survived=not how)
