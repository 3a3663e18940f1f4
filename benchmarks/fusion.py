"""What other rules of fusion would have given, from the runs that a comparison left behind.

    python benchmarks/fusion.py runs/COMPARISON/*-fused-seed*      runs with `--fuse weighted`

Top-10 / Top-1 in percent on seen and unseen labels, the mean over the runs. Every rule fits its weight on the val split
of the run and is judged on the reported split; nothing is asked of a student again. V is the student's vote on a label
that training taught, log p plus

entropy      minus the mean of log p under p: the rule of `mint_core.retrieval.fusion`
uniform      log n of n taught labels: how much likelier than chance
half         half of that
offset       the share of log n, from 0 to 1, that is fitted beside the weight, see `withheld`
everywhere   nothing, and the student votes on all labels as well as on those of its training

`withheld`: every val sample counts twice for the fit, as it is and with the student's vote on its label withheld.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mint_core.answering.scores import ScoreTable
from mint_core.retrieval import fusion
from mint_core.stages.outputs import PREFERENCES, read_preferences
from mint_core.types import LabelSpace

Array = NDArray[np.float64]
SHARES = tuple(step / 8 for step in range(9))
RULES: dict[str, dict[str, Any]] = {
    "entropy": {},
    "entropy, withheld": {"withheld": True},
    "uniform": {"shares": (1.0,)},
    "uniform, withheld": {"shares": (1.0,), "withheld": True},
    "half": {"shares": (0.5,)},
    "offset, withheld": {"shares": SHARES, "withheld": True},
    "everywhere": {"everywhere": True},
}


class Run:
    """Scores and truths of one run folder."""

    def __init__(self, path: Path) -> None:
        table = ScoreTable.read(path / "scores")
        if table is None:
            raise SystemExit(f"{path} holds no scores of all labels")
        names = table.labels
        rows = pq.read_table(path / "rankings" / "rankings.parquet", columns=["sample", "split", "label"]).to_pylist()
        split = json.loads((path / "metrics.json").read_text())["split"]
        judged = pq.read_table(path / "samples.parquet", filters=[("variant", "==", "aligned")]).to_pylist()
        seen = {row["sample"]: row["seen"] for row in judged}
        self.parts = {}
        for part in ("val", split):
            own = [row for row in rows if row["split"] == part and row["sample"] in table.samples]
            student, retriever = (
                table.rows(variant, [row["sample"] for row in own]) for variant in ("aligned", "retriever")
            )
            truths = np.array([names.index(row["label"]) for row in own])
            self.parts[part] = (student, retriever, truths)
        self.split = split
        self.seen = np.array([seen[row["sample"]] for row in rows if row["split"] == split])
        groups = read_preferences(path / PREFERENCES)
        self.taught = fusion.mask({group.answer for group in groups}, LabelSpace(names))


def votes(student: Array, taught: fusion.Mask, share: float | None) -> Array:
    """The student's votes; without a share, those of mint."""
    own = fusion.student_votes(student, taught)
    if share is None:
        return np.asarray(own)
    voting = np.broadcast_to(taught, student.shape)
    # Probabilities sum to 1, so that what lifts log p to the vote is the logarithm of the votes' sum.
    lift = np.log(np.where(voting, np.exp(own), 0).sum(axis=1, keepdims=True))
    return np.asarray(np.where(voting, own - lift + share * np.log(voting.sum(axis=1, keepdims=True)), 0))


def reciprocal(scores: Array, truths: NDArray[np.int64]) -> float:
    """Mean reciprocal rank."""
    return float((1 / fusion.ranks(scores)[np.arange(len(truths)), truths]).mean())


def judge(
    run: Run, *, shares: tuple[float | None, ...] = (None,), withheld: bool = False, everywhere: bool = False
) -> list[float]:
    """Top-10 and Top-1 of seen and of unseen samples, in percent."""
    taught = np.ones_like(run.taught) if everywhere else run.taught
    student, retriever, truths = run.parts["val"]
    whole = np.broadcast_to(taught, student.shape).copy()
    cases = [whole]
    if withheld:
        cases.append(whole.copy())
        cases[1][np.arange(len(truths)), truths] = False
    theirs = fusion.standardised(retriever)
    tried = {}
    for share in shares:
        own = [votes(student, case, share) for case in cases]
        for weight in fusion.WEIGHTS:
            found = np.mean([reciprocal(one + weight * theirs, truths) for one in own])
            tried[share, weight] = round(float(found), 12)
    share, weight = max(tried, key=lambda key: tried[key])
    student, retriever, truths = run.parts[run.split]
    scores = votes(student, taught, share) + weight * fusion.standardised(retriever)
    places = fusion.ranks(scores)[np.arange(len(truths)), truths]
    return [100 * float((places[part] <= k).mean()) for part in (run.seen, ~run.seen) for k in (10, 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders with scores of a val split")
    runs = [Run(path) for path in parser.parse_args().runs]
    print(f"{len(runs)} runs{'':22s}seen Top-10   Top-1   unseen Top-10   Top-1")
    for name, rule in RULES.items():
        mean = np.mean([judge(run, **rule) for run in runs], axis=0)
        print(f"{name:28s}{mean[0]:11.1f} {mean[1]:7.1f} {mean[2]:15.1f} {mean[3]:7.1f}")


if __name__ == "__main__":
    main()
