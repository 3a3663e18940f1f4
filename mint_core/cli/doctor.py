"""`mint doctor`: judges the machine, one line per matter: ok, warning or problem, with what to do."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from mint_core.cli.say import say, say_json

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says."""

    status: Literal["ok", "warning", "problem"]
    fact: str
    advice: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), help="Where runs would be written [runs]."
)
def doctor(as_json: bool, out: Path) -> None:
    """Judge the machine: Python, torch, memory, disk, offline readiness, plugins.

    Exit code 1 where there is a problem.
    """
    findings = examine(out)
    if as_json:
        say_json([{"matter": matter, **asdict(one)} for matter, one in findings.items()])
    else:
        for matter, finding in findings.items():
            say(f"{finding.status:<8} {matter:<10} {finding.fact}", indent=20)
            if finding.advice:
                say(f"{'':<19} -> {finding.advice}", indent=23)
    if any(finding.status == "problem" for finding in findings.values()):
        sys.exit(1)


def examine(out: Path) -> dict[str, Finding]:
    """All findings by matter; a check that itself fails is a problem, not a crash.

    Args:
        out: Where runs would be written.
    """
    checks: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "torch": _torch,
        "device": _device,
        "memory": _memory,
        "disk": lambda: _disk(out),
        "offline": _offline,
        "telemetry": _telemetry,
        "plugins": _plugins,
    }
    return {matter: _tried(check) for matter, check in checks.items()}


def _tried(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # a broken installation is what doctor is for
        return Finding("problem", f"the check failed: {type(error).__name__}: {error}", "reinstall mint-core")


def _python() -> Finding:
    version = platform.python_version()
    return Finding("ok", f"{version} on {platform.system()} {platform.machine()}")


def _torch() -> Finding:
    import torch

    number = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if number < (2, 10):
        return Finding("problem", torch.__version__, "torch before 2.10 can be tricked by a weights file: upgrade")
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:
        advice = "install torch and torchvision together, so that they match"
        return Finding("problem", f"torch {torch.__version__}, but torchvision fails ({type(error).__name__})", advice)
    return Finding("ok", f"torch {torch.__version__}, torchvision {torchvision.__version__}")


def _device() -> Finding:
    import torch

    from mint_core.students.load import resolve_device

    device = resolve_device("auto")
    if device == "cuda":
        count = torch.cuda.device_count()
        free, total = torch.cuda.mem_get_info()
        fact = f"{count} x {torch.cuda.get_device_name()}, {free / _GIB:.0f} of {total / _GIB:.0f} GiB free"
        if free < 8 * _GIB:
            return Finding("warning", fact, "a 1B student wants about 8 GiB; see who holds the memory with nvidia-smi")
        return Finding("ok", fact)
    if device == "mps":
        return Finding("ok", "Apple GPU (mps)")
    advice = "fine for the embedded default; a student of 1B and more wants a GPU"
    return Finding("warning", f"CPU only, {torch.get_num_threads()} threads", advice)


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    fact = f"{memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB free"
    if memory.available < 4 * _GIB:
        return Finding("problem", fact, "the embedded default wants 4 GiB: close something")
    return Finding("ok", fact)


def _disk(out: Path) -> Finding:
    place = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    fact = f"{free / _GIB:.1f} GiB free for {out}"
    if not os.access(place, os.W_OK):
        return Finding("problem", f"{place} is not writable", "choose another folder with --out")
    if free < _GIB:
        return Finding("problem", fact, "a run wants at least 1 GiB: free some, or choose another folder with --out")
    if free < 20 * _GIB:
        return Finding("warning", fact, "enough for the embedded default; students of 1B and more want 20 GiB")
    return Finding("ok", fact)


def _offline() -> Finding:
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    cache = Path(constants.HF_HUB_CACHE)
    models = sorted(path.name.removeprefix("models--").replace("--", "/") for path in cache.glob("models--*"))
    hub = "off (HF_HUB_OFFLINE)" if offline else "allowed when a hub id is given"
    fact = f"hub {hub}, {len(models)} models in the cache"
    if offline and not models:
        return Finding("warning", fact, "only the embedded default and local folders can be used")
    return Finding("ok", fact + "; the embedded default needs no network")


def _telemetry() -> Finding:
    from mint_core.students import load

    value = os.environ.get("HF_HUB_DISABLE_TELEMETRY")
    if str(value).lower() in ("1", "true", "yes", "on"):
        return Finding("ok", "usage pings of the libraries are off")
    advice = f"unset HF_HUB_DISABLE_TELEMETRY, so that {load.__name__} can turn them off"
    return Finding("warning", f"HF_HUB_DISABLE_TELEMETRY={value}", advice)


def _plugins() -> Finding:
    from mint_core.plugins import registry

    found = registry()
    trouble = [f"{broken.distribution} ({broken.reason})" for broken in found.broken] + found.duplicates()
    if trouble:
        return Finding("problem", "; ".join(trouble), "run `mint plugins`; upgrade or uninstall what is named")
    if not found.names("task"):
        return Finding("warning", "no task is installed", "install a plugin that brings one (docs/how-to/plugins.md)")
    return Finding(
        "ok",
        f"{len(found.all())} components from {len({r.distribution for r in found.all()})} distributions",
    )
