"""The rank of a label in an answer, and the mean ranks of two labels that are easily confused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mint_core.evaluation.confusions import Pair
from mint_core.evaluation.statistics import estimate
from mint_core.types import Ranking

RankOf = Callable[[Mapping[str, Any], str], int | None]
"""The rank of a label in a record's answer, from 1; None where it is not listed."""


def rank_in_list(answer: Sequence[str | None], label: str) -> int | None:
    """Place of a label in a list, from 1; None where it is not listed."""
    return answer.index(label) + 1 if label in answer else None


def rank_in_scores(scores: NDArray[np.float32], place: int) -> int:
    """Place of a label among all labels, from 1; of equal scores the earlier label comes first.

    Args:
        scores: (n_labels,), in the order of the label space.
        place: Of the label in it.
    """
    own = scores[place]
    return 1 + int((scores > own).sum()) + int((scores[:place] == own).sum())


def rank_in_rankings(rankings: Mapping[str, Ranking]) -> RankOf:
    """The ranks of a teacher who ranks all labels; `rankings` by sample id."""

    def rank_of(record: Mapping[str, Any], label: str) -> int:
        return rankings[record["sample"]].labels.index(label) + 1

    return rank_of


def add_ranks(records: Iterable[dict[str, Any]], pairs: Sequence[Pair], rank_of: RankOf) -> None:
    """Adds to every record `rank`, that of the truth, and `confusers`: label and rank of what its pairs name beside it.

    Args:
        records: See `mint_core.evaluation.evaluate.Record`.
        pairs: Of labels that are easily confused.
        rank_of: See `RankOf`.
    """
    for record in records:
        truth = record["truth"]
        others = (other for pair in pairs if truth in pair for other in pair if other != truth)
        record["rank"] = rank_of(record, truth)
        record["confusers"] = [{"label": other, "rank": rank_of(record, other)} for other in dict.fromkeys(others)]


class Ranked(NamedTuple):
    """One sample of one row."""

    truth: str
    group: str | None
    ranks: Mapping[str, float | None]
    """By label, those of several seeds averaged; None = not listed."""
    absent: float
    """What counts for a label that is not listed: N + 1, the least rank that it can have."""

    @classmethod
    def of(cls, record: Mapping[str, Any], absent: int) -> Ranked:
        """From a record with ranks."""
        ranks = {one["label"]: one["rank"] for one in record["confusers"]}
        return cls(record["truth"], record["group"], {**ranks, record["truth"]: record["rank"]}, absent)


def pair_ranks(pair: Pair, rows: Mapping[str, Sequence[Ranked]], how: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The mean rank of the truth and of its confuser, for the samples of either label.

    Args:
        pair: The two labels.
        rows: The samples of each row (a variant, for example).
        how: `draws`, `confidence` and `seed` of the bootstrap.

    Returns:
        Two sides, each with `truth`, `confuser`, `n` and `rows`: per row the estimates `truth` and `confuser`, with
        `absent`: how many samples' answers do not list the label. Rows that know no ranks of the pair are left out.
    """
    sides = []
    for truth, confuser in (pair, pair[::-1]):
        by_row = {}
        for row, samples in rows.items():
            own = [one for one in samples if one.truth == truth and confuser in one.ranks]
            if own:
                by_row[row] = {"truth": _mean(own, truth, how), "confuser": _mean(own, confuser, how)}
        n = max((one["truth"]["n"] for one in by_row.values()), default=0)
        sides.append({"truth": truth, "confuser": confuser, "n": n, "rows": by_row})
    return sides


def _mean(samples: Sequence[Ranked], label: str, how: Mapping[str, Any]) -> dict[str, Any]:
    given = [one.ranks[label] for one in samples]
    ranks = [one.absent if rank is None else rank for one, rank in zip(samples, given, strict=True)]
    return {**asdict(estimate(ranks, [one.group for one in samples], **how)), "absent": given.count(None)}
