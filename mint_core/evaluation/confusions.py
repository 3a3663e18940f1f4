"""Which label is answered for which: counts from first answers, and the pairs that are confused most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mint_core.errors import ConfigError, did_you_mean, nearest_name
from mint_core.types import LabelSpace

Pair = tuple[str, str]
MOST_PAIRS = 5
"""Pairs that are looked for where the user names none."""
_OFTEN = 2
"""So many samples must be confused, both ways together."""
_FEW = 30
"""Labels that a message lists."""


def confusions(records: Mapping[str, Iterable[Mapping[str, Any]]], labels: LabelSpace) -> dict[str, Any]:
    """Confusion matrices of first answers, as lists of their cells that are not 0.

    Args:
        records: By variant, see `mint_core.evaluation.evaluate.Record`.
        labels: Gives the order.

    Returns:
        `labels` (those that are a truth or a first answer) and `counts`: by variant lists of [truth, answer, count],
        places in `labels`; the answer is None where the first name is no label that is known, or there is none.
    """
    counts = {
        variant: Counter((one["truth"], next(iter(one["answer"]), None)) for one in of)
        for variant, of in records.items()
    }
    met = {label for count in counts.values() for cell in count for label in cell if label is not None}
    names = [name for name in labels.names if name in met]
    place: dict[str | None, int | None] = {name: at for at, name in enumerate(names)}
    place[None] = None
    listed = {
        variant: sorted(
            ([place[truth], place[answer], n] for (truth, answer), n in count.items()),
            key=lambda cell: (cell[0], len(names) if cell[1] is None else cell[1]),
        )
        for variant, count in counts.items()
    }
    return {"labels": names, "counts": listed}


def most_confused(found: Mapping[str, Any], variant: str) -> list[Pair]:
    """The pairs that a variant confuses most in its first answers, both directions together, at least twice.

    At most MOST_PAIRS; of pairs that are equally frequent the earlier one in the label space comes first.

    Args:
        found: From `confusions`.
        variant: Whose.
    """
    both: Counter[tuple[int, int]] = Counter()
    for truth, answer, n in found["counts"].get(variant, ()):
        if answer is not None and answer != truth:
            both[min(truth, answer), max(truth, answer)] += n
    often = sorted((pair for pair, n in both.items() if n >= _OFTEN), key=lambda pair: (-both[pair], pair))
    return [(found["labels"][one], found["labels"][other]) for one, other in often[:MOST_PAIRS]]


def named_pairs(wanted: Sequence[Pair], labels: LabelSpace) -> list[Pair]:
    """The user's pairs, by canonical names.

    Raises:
        ConfigError: A name is no label, or a pair names one label twice.
    """
    pairs = []
    for pair in wanted:
        for name in pair:
            if labels.find(name) is None:
                raise ConfigError(f"evaluate.pairs: there is no label '{name}'{_meant(name, labels)}.")
        one, other = (str(labels.find(name)) for name in pair)
        if one == other:
            raise ConfigError(f"evaluate.pairs: '{pair[0]}' and '{pair[1]}' are one label; name two.")
        pairs.append((one, other))
    return list(dict.fromkeys(pairs))


def _meant(name: str, labels: LabelSpace) -> str:
    """What the user may have meant, and all labels where they are few."""
    if len(labels) <= _FEW:
        return did_you_mean(name, labels.names)
    near = nearest_name(name, (form for label in labels.names for form in labels.all_names(label)))
    return f"; did you mean '{near}'?" if near else f" among the {len(labels):,} labels"
