"""`make robust`: tries everything, prints the table and writes it to robust.md and robust.json."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.robustness.parts import PARTS
from tests.robustness.table import Trial, failures, table
from tests.robustness.world import World


def main() -> int:
    """Tries the parts that are named, or all.

    Returns:
        0 where everything survived.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.robustness", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--sample", action="store_true", help="as few as the ordinary suite tries")
    parser.add_argument("--count", type=int, help="trials per part; for fuzzing, per reader")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of robust.md and robust.json [.]")
    given = parser.parse_args()
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="mint-robust-") as place:
        world = World(Path(place))
        try:
            for name in given.parts or PARTS:
                part, begin, before = PARTS[name], time.monotonic(), len(trials)
                count = part.sample if given.sample else part.whole if given.count is None else given.count
                for trial in part.trials(world, count):
                    trials.append(trial)
                    if not trial.survived:
                        print(f"  {trial.kind}: {trial.case}: {trial.how}", file=sys.stderr, flush=True)
                took = time.monotonic() - begin
                print(f"{name}: {len(trials) - before} trials in {took:.0f} s", file=sys.stderr, flush=True)
        finally:
            world.close()
    text = table(trials)
    print(text)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "robust.md").write_text(text, encoding="utf-8")
    (given.out / "robust.json").write_text(json.dumps([asdict(one) for one in trials], indent=1), encoding="utf-8")
    return 1 if failures(trials) else 0


if __name__ == "__main__":
    sys.exit(main())
