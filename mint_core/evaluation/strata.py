"""Labels by how often they were trained on: head, middle, tail, and those that were not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

HEAD, MIDDLE, TAIL, UNSEEN = "head", "middle", "tail", "unseen"
STRATA = (HEAD, MIDDLE, TAIL, UNSEEN)


def strata(trained: Iterable[str | None]) -> dict[str, str]:
    """The stratum of every label that was trained on; any other label is `unseen`.

    The labels are sorted by the number of their labelled training samples, the most frequent first, and cut into
    thirds. Labels of one number stay together: the middle of their places decides, place p of L labels (from 0, a
    half added) being head where p <= L/3, tail where p > 2L/3. Where all labels are equally frequent they are `middle`.

    Args:
        trained: Labels of the training samples; None = without one.
    """
    counts = Counter(label for label in trained if label is not None)
    alike = Counter(counts.values())
    found, before = {}, 0
    for count, labels in sorted(alike.items(), reverse=True):
        place = before + labels / 2
        found[count] = HEAD if 3 * place <= len(counts) else TAIL if 3 * place > 2 * len(counts) else MIDDLE
        before += labels
    return {label: found[count] for label, count in counts.items()}
