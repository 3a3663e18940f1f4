"""`python -m mint_core …` without its imports: a server has imported everything once, and forks for every command.

What stands in the place of `python` is a small program that hands its arguments, variables and files to the server,
passes signals on, and ends with the command's own code. So scripts that start mint are tested in little time.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from mint_core.plugins import registry
from tests.robustness.forks import FIRST, ROOT, warm

_ALSO = (
    "mint_core.aligners.trainer", "mint_core.answering.constrained", "mint_core.answering.transformers",
    "mint_core.cli.progress", "mint_core.comparison.compare", "mint_core.stages", "matplotlib.backends.backend_svg",
)  # fmt: skip
_CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
if sys.argv[1:3] != ["-m", "mint_core"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [b"x"], [0, 1, 2])
asked = {{"argv": sys.argv[3:], "environment": dict(os.environ), "folder": os.getcwd()}}
server.sendall(json.dumps(asked).encode() + b"\\n")
told = server.makefile()
child = int(told.readline())
for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: os.kill(child, number))
os._exit(int(told.readline() or 1))
"""


class ForkServer:
    """The server, and what stands in the place of `python`.

    Args:
        folder: An empty folder with a short path.
    """

    def __init__(self, folder: Path) -> None:
        address = str(folder / "socket")
        self.python = folder / "python"
        self.python.write_text(_CLIENT.format(python=sys.executable, address=address))
        self.python.chmod(0o755)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
        command = [sys.executable, "-m", "tests.fork_server", address]
        self._process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout and self._process.stdout.readline() == "ready\n"

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()


def serve(address: str) -> None:
    """Forks for every connection."""
    for name in (*FIRST, *_ALSO):
        importlib.import_module(name)
    warm()
    registry()  # the plugins that everybody has
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(16)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            client, _ = listening.accept()
            gc.freeze()  # a child's collector need not walk through all that was imported
            if os.fork() == 0:
                listening.close()
                _child(client)
            client.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:  # those that have ended
                    pass


def _child(client: socket.socket) -> None:
    code = 70
    try:
        _, files, _, _ = socket.recv_fds(client, 1, 3)
        asked = json.loads(client.makefile().readline())
        for number, file in enumerate(files):
            os.dup2(file, number)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        importlib.invalidate_caches()
        registry.cache_clear()
        from mint_core.cli import main

        client.sendall(f"{os.getpid()}\n".encode())
        main(asked["argv"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        client.sendall(f"{code}\n".encode())
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
