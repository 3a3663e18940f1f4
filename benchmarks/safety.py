"""What digests and fsync cost of the demo: `python benchmarks/safety.py`. The goal is less than 2 %.

Makes `mint run --teacher plip --aligner orpo` in a temporary folder, in this process, and counts the seconds that are
spent in fsync and in digests of files, wherever they are asked for. What a digest waits for a disk to read is in it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import mint_core
from mint_core import files

SECONDS: Counter[str] = Counter()
CALLS: Counter[str] = Counter()
_inside: list[str] = []


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Counts the seconds of a function; those of one that calls another once."""

    def call(*arguments: Any, **named: Any) -> Any:
        begin = time.perf_counter()
        _inside.append(name)
        try:
            return function(*arguments, **named)
        finally:
            _inside.pop()
            CALLS[name] += 1
            if not _inside:
                SECONDS[name] += time.perf_counter() - begin

    return call


def wrap() -> None:
    """Puts the timers in place, in every module that has imported a function by its name."""
    digest = files.digest_of_path
    counted = timed("digests", digest)
    for module in list(sys.modules.values()):
        if getattr(module, "digest_of_path", None) is digest:
            module.digest_of_path = counted  # type: ignore[attr-defined]
    os.fsync = timed("fsync", os.fsync)


def main() -> None:
    """Makes the run and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--again", action="store_true", help="measure the same command on the complete run too")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="an option of the run, as in mint"
    )
    given = parser.parse_args()
    overrides = tuple(given.set)
    with tempfile.TemporaryDirectory() as out, tempfile.TemporaryDirectory() as other:
        config = {"teacher": "plip", "aligner": "orpo", "out": out}
        mint_core.run({**config, "out": other}, until="prefer", overrides=overrides)  # imports are no cost of safety
        wrap()
        for what in ("first", *(["again"] if given.again else [])):
            SECONDS.clear()
            CALLS.clear()
            begin = time.perf_counter()
            mint_core.run(config, overrides=overrides)
            total = time.perf_counter() - begin
            share = {name: round(100 * SECONDS[name] / total, 3) for name in ("digests", "fsync")}
            print(
                json.dumps(
                    {
                        "run": what, "seconds": round(total, 1), "calls": dict(CALLS),
                        "seconds_of": {name: round(SECONDS[name], 3) for name in share}, "percent": share,
                        "percent_together": round(sum(share.values()), 3),
                    }
                ),
                flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
