"""What lies behind the means: results by subgroup, confusion matrices, pairs of labels that are easily confused."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mint_core.evaluation.confusions import Pair, confusions, most_confused
from mint_core.evaluation.ranks import Ranked, RankOf, add_ranks, pair_ranks
from mint_core.evaluation.subgroups import SMALLEST, by_subgroup
from mint_core.evaluation.subsets import Member, whole_sets
from mint_core.types import VARIANTS, LabelSpace

NAMED = "named in evaluate.pairs"
_FOUND_IN = ("teacher", "base")
Records = Mapping[str, Mapping[str, dict[str, Any]]]
"""By variant and sample."""


def breakdown(
    records: Sequence[dict[str, Any]],
    members: Mapping[str, Member],
    labels: LabelSpace,
    *,
    named: Sequence[Pair] | None,
    n: int,
    rank_of: RankOf,
    full: Collection[str],
    how: Mapping[str, Any],
) -> dict[str, Any]:
    """Contents of metrics.json: `subgroups` of every data set, and of the task's own `confusions` and `pairs`.

    Args:
        records: All of them; they get ranks, see `add_ranks`.
        members: The evaluated samples.
        labels: The label space.
        named: Pairs that the user names; None = those that the teacher confuses most, or where it confuses none
            twice, the base student.
        n: Labels that are asked for (N).
        rank_of: See `RankOf`.
        full: Variants that rank all labels.
        how: `draws`, `confidence` and `seed` of the bootstrap.
    """
    told: dict[str, dict[str, dict[str, Any]]] = {}
    for record in records:
        variant = VARIANTS[record["variant"]]
        if not variant.blind and not variant.shuffled:
            told.setdefault(variant.name, {})[record["sample"]] = record
    sets = whole_sets(members)
    ids = next(iter(sets.values()))
    own = {variant: [of[i] for i in ids if i in of] for variant, of in told.items()}
    counted = confusions(own, labels)
    found_in = next((who for who in _FOUND_IN if most_confused(counted, who)), _FOUND_IN[0])
    pairs = most_confused(counted, found_in) if named is None else named
    rule = (
        NAMED
        if named is not None
        else f"most frequent confusions in the first answers of the {VARIANTS[found_in].title}"
    )
    add_ranks(records, pairs, rank_of)
    ranked = {variant: [Ranked.of(record, n + 1) for record in of] for variant, of in own.items()}
    return {
        "subgroups": {
            "smallest": SMALLEST,
            "sets": {name: _fields(told, members, ids, how) for name, ids in sets.items()},
        },
        "confusions": counted,
        "pairs": {
            "rule": rule,
            "absent_rank": n + 1,
            "full": [variant for variant in told if variant in full],
            "pairs": [{"labels": list(pair), "sides": pair_ranks(pair, ranked, how)} for pair in pairs],
        },
    }


def _fields(told: Records, members: Mapping[str, Member], ids: Sequence[str], how: Mapping[str, Any]) -> dict[str, Any]:
    """Every field of one data set."""
    values = {
        variant: {
            key: [of[i]["metrics"][key] if i in of else None for i in ids] for key in next(iter(of.values()))["metrics"]
        }
        for variant, of in told.items()
        if any(i in of for i in ids)
    }
    groups = [members[i].group for i in ids]
    fields = dict.fromkeys(field for i in ids for field in members[i].subgroups)
    return {
        field: by_subgroup(field, [members[i].subgroups[field] for i in ids], values, groups, **how) for field in fields
    }
