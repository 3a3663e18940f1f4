"""A process that has imported torch, transformers, peft and mint once, and forks for every trial.

It reads one request per line, as JSON, and answers with one line. A child has one thread when it is forked, because
nothing but imports happens in its parent; it runs one `mint` command, or one function of this folder, and ends without
returning.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE = 240.0
"""Seconds that a command may take."""
FIRST = (
    "torch", "transformers", "transformers.trainer", "transformers.models.llama.modeling_llama", "peft", "datasets",
    "pyarrow.parquet", "matplotlib.pyplot", "accelerate", "hypothesis", "mint_core.cli",
    "tests.robustness.file_layer",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    """Exit code, or minus the signal."""
    out: str
    err: str
    points: list[tuple[str, str]] = field(default_factory=list)
    """What the file layer counted, where it was asked to."""
    result: Any = None
    """What a function returned."""
    room: int = 0
    """Address space that the command took at most, beyond what it began with; bytes."""

    @property
    def told(self) -> str:
        """The last line on stderr: where mint says what was wrong."""
        return (self.err.strip().splitlines() or [""])[-1]


class Forks:
    """The forking process.

    Args:
        site: A folder with a plugin that is installed in it.
        environment: Further variables.
    """

    def __init__(self, site: Path, environment: Mapping[str, str] | None = None) -> None:
        paths = [str(site), str(ROOT), *sys.path[1:]]
        variables = {
            **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200",
            "MPLBACKEND": "agg", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.robustness.forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**variables, **(environment or {})}, cwd=ROOT,
        )  # fmt: skip

    def close(self) -> None:
        """Lets the process end."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def call(
        self,
        folder: Path,
        argv: Sequence[object] | None = None,
        *,
        function: str | None = None,
        arguments: Sequence[Any] = (),
        act: Any = None,
        count: bool = False,
        room: int | None = None,
        measure: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> Answer:
        """Runs a command in a child.

        Args:
            folder: Where; points are counted below it.
            argv: Of `mint`.
            function: Instead of a command, a function as `module:name`, whose result comes back.
            arguments: Its arguments.
            act: What the file layer does; see `file_layer.Act`.
            count: Report the points.
            room: Address space that the child may take beyond what it has at the beginning, in bytes.
            measure: Report how much it took.
            environment: Further variables.
        """
        request = {
            "folder": str(folder), "argv": None if argv is None else [str(one) for one in argv],
            "function": function, "arguments": list(arguments), "act": None if act is None else asdict(act),
            "count": count, "room": room, "measure": measure, "environment": dict(environment or {}),
        }  # fmt: skip
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the forking process has ended")
        said = json.loads(line)
        return Answer(**{**said, "points": [tuple(point) for point in said["points"]]})


def serve() -> None:
    """Answers requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for name in FIRST:
        importlib.import_module(name)
    warm()
    place = Path(f"/tmp/mint-robustness-{os.getpid()}")  # noqa: S108 - of this process alone
    place.mkdir(mode=0o700)
    known: set[str] = set()
    try:
        for line in sys.stdin:
            request = json.loads(line)
            answer = _fork(request, place)
            for name in answer.pop("imported"):
                if name not in known:
                    known.add(name)
                    with contextlib.suppress(Exception):
                        importlib.import_module(name)
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    finally:
        for file in place.iterdir():
            file.unlink()
        place.rmdir()


def warm() -> None:
    """Fills caches that every child would fill anew, where this version of transformers has them."""
    with contextlib.suppress(Exception):
        from transformers.conversion_mapping import get_checkpoint_conversion_mapping

        get_checkpoint_conversion_mapping("llama")


def _fork(request: dict[str, Any], place: Path) -> dict[str, Any]:
    for file in place.iterdir():
        file.unlink()
    gc.freeze()  # a child's collector need not walk through all that was imported
    child = os.fork()
    if child == 0:
        _child(request, place)
    end = time.monotonic() + PATIENCE
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.kill(child, signal.SIGALRM)
            time.sleep(1)
        time.sleep(0.005)
    report = place / "report.json"
    told = json.loads(report.read_text()) if report.exists() else {}
    return {
        "code": os.waitstatus_to_exitcode(status),
        "out": (place / "out").read_text(errors="replace"),
        "err": (place / "err").read_text(errors="replace"),
        "points": told.get("points", []), "result": told.get("result"), "room": told.get("room", 0),
        "imported": told.get("imported", []),
    }  # fmt: skip


def _child(request: dict[str, Any], place: Path) -> None:
    code, told = 70, {}
    try:
        for descriptor, name in ((1, "out"), (2, "err")):
            file = os.open(place / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
            os.dup2(file, descriptor)
            os.close(file)
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123
        sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
        sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1)
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        before = set(sys.modules)
        code, told = _work(request)
        told["imported"] = sorted(name for name in set(sys.modules) - before if not name.startswith("toy_"))
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            if hasattr(resource, "RLIMIT_AS"):
                hard = resource.getrlimit(resource.RLIMIT_AS)[1]
                resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
            sys.stdout.flush()
            sys.stderr.flush()
            (place / "report.json").write_text(json.dumps(told))
        os._exit(code)


def _work(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    from mint_core.cli import main
    from tests.robustness.file_layer import Act, FileLayer

    told: dict[str, Any] = {}
    begin = _address_space("VmSize")
    if request["room"] is not None:
        resource.setrlimit(resource.RLIMIT_AS, (begin + request["room"], resource.RLIM_INFINITY))
    layer = None
    if request["act"] is not None or request["count"]:
        layer = FileLayer(os.path.realpath(request["folder"]), Act(**request["act"]) if request["act"] else None)
        layer.install()
    code = 0
    if request["function"] is not None:
        module, _, name = request["function"].partition(":")
        try:
            told["result"] = getattr(importlib.import_module(module), name)(*request["arguments"])
        except SystemExit as stop:  # of a command that the function gave
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    else:
        try:
            main(request["argv"])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    if layer is not None and request["count"]:
        told["points"] = layer.points
    if request["measure"]:
        told["room"] = _address_space("VmPeak") - begin
    return code, told


def _address_space(name: str) -> int:
    """Bytes, as Linux tells them; 0 elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    serve()
