"""The table sample by sample: id, truth, and each one's answer with the rank of the truth."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mint_core.characters import visible
from mint_core.types import VARIANTS

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS = ("sample", "variant", "truth", "answer")
"""What the table reads of samples.parquet."""
_ROWS = 400
_BYTES = 1_500_000
"""Of the table's text, and of its images: the page stays below 5 MB."""
_EDGE = 96
"""Pixels of a thumbnail's longer side."""
_SHOWN = [name for name, one in VARIANTS.items() if not (one.blind or one.free or one.shuffled)]
_UNKNOWN = "unknown name"
"""A name that is no label is not shown: it may be a patient's words."""


def chapter(
    records: Iterable[Mapping[str, Any]], image: Callable[[str], Image | None] | None = None
) -> dict[str, Any] | None:
    """What the table shows, in the order of the records; None where there is none.

    Args:
        records: Rows of samples.parquet with `COLUMNS`.
        image: The image of a sample by its id, where images were asked for.
    """
    by_sample: dict[str, dict[str, Mapping[str, Any]]] = {}
    for record in records:
        if record["variant"] in _SHOWN:
            by_sample.setdefault(record["sample"], {})[record["variant"]] = record
    if not by_sample:
        return None
    variants = [name for name in _SHOWN if any(name in own for own in by_sample.values())]
    rows: list[dict[str, Any]] = []
    room = {"text": _BYTES, "images": _BYTES}
    for sample, own in [*by_sample.items()][:_ROWS]:
        row = _row(sample, own, variants)
        room["text"] -= len(str(row).encode())
        if room["text"] < 0:
            break
        if image is not None and (found := image(sample)) is not None:
            row["image"] = _thumbnail(found)
            room["images"] -= len(row["image"])
            if room["images"] < 0:
                row["image"] = ""
        rows.append(row)
    left = len(by_sample) - len(rows)
    count = f"All {len(rows):,} samples."
    if left:
        count = f"The first {len(rows):,} of {len(by_sample):,} samples; {left:,} stand in samples.parquet alone."
    if room["images"] < 0:
        count += f" Images of {sum(bool(row.get('image')) for row in rows):,} of them; for more there is no room."
    return {
        "told": count,
        "variants": [VARIANTS[name].title for name in variants],
        "labels": sorted({row["truth"] for row in rows}),
        "images": image is not None,
        "rows": rows,
    }


def examples(content: Mapping[str, Any] | None) -> dict[str, str]:
    """An image of each label from what `chapter` shows, the first one that it has; none where images are not shown."""
    rows = content["rows"] if content else ()
    return {row["truth"]: row["image"] for row in reversed(rows) if row.get("image")}


def _row(sample: str, own: Mapping[str, Mapping[str, Any]], variants: Iterable[str]) -> dict[str, Any]:
    answers = [_answer(own[name]) if name in own else None for name in variants]
    truth = next(iter(own.values()))["truth"]
    ranks = " ".join(one["rank"] if one else "x" for one in answers)
    return {"id": visible(sample), "truth": visible(truth), "answers": answers, "ranks": ranks}


def _answer(record: Mapping[str, Any]) -> dict[str, str]:
    """The first name, the others, and the place of the truth among them, `-` where it is not there."""
    names = list(record["answer"] or ())
    rank = str(names.index(record["truth"]) + 1) if record["truth"] in names else "-"
    first, *others = [visible(name) if name is not None else _UNKNOWN for name in names] or ["nothing"]
    listed = ", ".join(f"{place}. {name}" for place, name in enumerate(others, 2))
    return {
        "first": first,
        "others": listed,
        "rank": rank,
        "place": "truth not listed" if rank == "-" else f"rank {rank}",
    }


def _thumbnail(image: Image) -> str:
    """A small image as the source of an `<img>`; what the file says beside its pixels is left behind."""
    small = image.convert("RGB")
    small.thumbnail((_EDGE, _EDGE))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
