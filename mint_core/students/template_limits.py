"""Chat templates are programs that come with a student: one without an end is refused before it is used."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from mint_core.errors import ModelError
from mint_core.students import template_child

MAX_CHARACTERS = 2**20
_WAIT = 120
"""Seconds on the clock, for a busy machine; the process itself may compute for `template_child.CPU_SECONDS`."""
_TURNS = ({"role": "system", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"})
_PARTS = tuple({**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in _TURNS)
_CONVERSATIONS = [
    [list(turns[first:last]), last < len(turns)]
    for turns in (_TURNS, _PARTS)
    for first, last in ((0, 2), (1, 2), (1, 3), (0, 3))
]
"""Turns, and whether the template opens the student's own."""


@lru_cache(maxsize=64)
def check_template(template: str) -> None:
    """Renders a short conversation in a process of its own, with limits on time, memory and length.

    Whatever else the template does wrong is told where it is used. A template is checked once in a process.

    Args:
        template: The template's source.

    Raises:
        ModelError: It does not come to an end, or takes more than a prompt can need.
    """
    reason = f"is longer than {MAX_CHARACTERS:,} characters" if len(template) > MAX_CHARACTERS else _tried(template)
    if reason:
        raise ModelError(
            f"The student's chat template {reason}; take the one that the student's authors publish, or mend "
            "chat_template.jinja beside its weights."
        )


def _tried(template: str) -> str:
    """What is wrong with it; nothing where all is well, or where the process cannot be started."""
    job = json.dumps({"path": sys.path, "template": template, "conversations": _CONVERSATIONS})
    command = [sys.executable, "-I", str(Path(template_child.__file__))]
    try:
        done = subprocess.run(command, input=job, capture_output=True, text=True, timeout=_WAIT, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return "does not come to an end"
    except OSError:
        return ""
    if done.returncode < 0:  # a signal: the limit on the time it computes
        return f"does not come to an end in {template_child.CPU_SECONDS} seconds"
    return {
        template_child.NO_MEMORY: f"takes more than {template_child.MEMORY_BYTES // 2**20} MiB for a short prompt",
        template_child.TOO_LONG: f"writes more than {template_child.OUTPUT_CHARACTERS:,} characters for a short prompt",
    }.get(done.returncode, "")
