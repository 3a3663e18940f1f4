"""Two processes as torchrun starts them, forked from one that has imported everything: a launch takes no imports.

Real launches by torchrun stand in tests/test_golden.py, where the signal matters that it sends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys


def both(site: str, argv: list[str]) -> list[int]:
    """Runs a `mint` command in two processes; where one fails, the other is ended, as torchrun does.

    Called in a child of `tests.robustness.forks`, whose stderr both share.

    Args:
        site: A folder with an installed plugin.
        argv: Of `mint`.

    Returns:
        Exit codes by rank; minus the signal where one ended it.
    """
    sys.path.insert(0, site)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = {_start(rank, port, argv): rank for rank in range(2)}
    codes = [0, 0]
    while ranks:
        child, status = os.wait()
        codes[ranks.pop(child)] = os.waitstatus_to_exitcode(status)
        if status:
            for other in ranks:
                os.kill(other, signal.SIGTERM)
    return codes


def _start(rank: int, port: int, argv: list[str]) -> int:
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in told.items()})
        from mint_core.cli import main

        main(argv)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
