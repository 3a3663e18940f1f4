"""The model card: what stands in it before anything is measured, and the sections that measurements fill later.

A section that is filled later stands between two marks. mint writes what is between them and nothing else, so that
whatever somebody adds or rewrites stays; who deletes the marks of a section keeps it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from mint_core.cautions import in_short
from mint_core.characters import markdown_table, visible
from mint_core.evaluation.statistics import told
from mint_core.preservation.results import markdown as preserved_lines
from mint_core.report.conclusion import conclusion
from mint_core.report.table import columns_of, sections
from mint_core.types import Variant

RESULTS, SUBGROUPS, ABILITY = "results", "subgroups", "general ability"
FILLED = (RESULTS, SUBGROUPS, ABILITY)
"""The sections that measurements fill, in their order."""
_END = "<!-- mint: end -->"
_INDEX = re.compile(r"^model-index:\n(?:[ -].*\n)*", re.MULTILINE)
_PATH = re.compile(r"(?<![\w/:.~-])~?/(?:[^\s/:;,()]+/)+([^\s/:;,()]+)")
_HUB_ID = re.compile(r"(?:https://huggingface\.co/)?([\w.-]+/[\w.-]+)")
_ALIGNED = Variant("aligned").name
_LICENCES = frozenset(
    {
        *("apache-2.0", "mit", "bsd-3-clause", "gpl-3.0", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0"),
        *("cc-by-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0"),
        *("cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odbl", "odc-by", "pddl"),
    }
)
"""Identifiers that the hub knows, https://huggingface.co/docs/hub/repositories-licenses; others count as `other`."""


def licence_keys(licence: str | None) -> dict[str, str]:
    """What the header of a card says of a licence; nothing where there is none."""
    if not licence:
        return {}
    slug = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-.")
    return {"license": slug} if slug in _LICENCES else {"license": "other", "license_name": slug}


def hub_id(name: str) -> str | None:
    """The id of a model on the hub, from an id or an address; None where it is something else."""
    found = _HUB_ID.fullmatch(name)
    return found[1] if found else None


def without_folders(text: str) -> str:
    """A text in which a whole path is its last part: a card tells nothing of a machine."""
    return visible(_PATH.sub(r"\1", text))


def empty_sections() -> list[str]:
    """The places of the sections that are filled later."""
    return [line for name in FILLED for line in (_begin(name), _END, "")]


def _begin(name: str) -> str:
    return f"<!-- mint: {name} -->"


def filled(card: str, found: Mapping[str, Sequence[str]]) -> str:
    """The card with sections between their marks; a section whose marks somebody took away is left out.

    Args:
        card: The text.
        found: Lines by section; none empty it.
    """
    for name, lines in found.items():
        begin, inside = _begin(name), "".join(f"{line}\n" for line in lines)
        text = f"{begin}\n{inside}{_END}".replace("\\", r"\\")  # a template of `re`
        between = re.compile(rf"^{re.escape(begin)}\n.*?^{re.escape(_END)}$", re.MULTILINE | re.DOTALL)
        card = between.sub(text, card, count=1)
    return card


def with_index(card: str, index: Mapping[str, Any] | None) -> str:
    """The card with the evaluation results in its header, where it has a header and the marks of the results.

    Args:
        card: The text.
        index: See `model_index`; None takes it away.
    """
    head, found, rest = card.removeprefix("---\n").partition("\n---\n")
    if not card.startswith("---\n") or not found or _begin(RESULTS) not in rest:
        return card
    block = yaml.safe_dump(dict(index), sort_keys=False, allow_unicode=True) if index else ""
    return f"---\n{_INDEX.sub('', head + chr(10))}{block}---\n{rest}"


def model_index(metrics: Mapping[str, Any], name: str, task: Mapping[str, str]) -> dict[str, Any] | None:
    """Evaluation results as the hub reads them; None where nothing was scored.

    https://github.com/huggingface/hub-docs/blob/main/modelcard.md

    Args:
        metrics: Content of metrics.json.
        name: Of the model.
        task: `type` and `name` of the task.
    """
    results = [
        {
            "task": dict(task),
            "dataset": {
                "name": without_folders(metrics["source"]) or task["name"],
                "type": re.sub(r"[^a-z0-9]+", "-", task["name"].lower()).strip("-") or "data",
                "config": row["subset"],
                "split": metrics["split"],
            },
            "metrics": [
                {"type": key, "value": round(100 * one["mean"], 4), "name": f"{metrics['titles'][key]}, percent"}
                for key, one in row["metrics"].items()
                if one["mean"] is not None
            ],
        }
        for row in metrics["rows"]
        if row["variant"] == _ALIGNED
    ]
    kept = [result for result in results if result["metrics"]]
    return {"model-index": [{"name": name, "results": kept}]} if kept else None


def results_section(metrics: Mapping[str, Any]) -> list[str]:
    """The results with their intervals, as Markdown."""
    level = round(100 * metrics["confidence"])
    parts = sections(metrics)
    header = [*([""] if len(parts) == 1 else ["", "n"]), *(column.heading for column in columns_of(metrics))]
    lines = []
    for part in parts:
        for name, cells in part.rows:
            lines.append([name, *cells] if len(parts) == 1 else [f"{part.subset}: {name}", str(part.n), *cells])
    told_first = conclusion(metrics)
    return [
        "## Results",
        "",
        *([told_first, ""] if told_first else []),
        f"{in_short(metrics, '. ')}{metrics['split']} split, n = {metrics['n']}, {metrics['n_labels']} labels, "
        f"N = {metrics['N']}, "
        f"percent with {level} % intervals from {metrics['bootstrap']} bootstrap draws of whole groups; answers: "
        f"{metrics['decode']}. One seed of the training.",
        "",
        *markdown_table(header, lines),
        "",
        *(f"- {column.heading}: {metrics['rules'][column.key]}" for column in columns_of(metrics)),
    ]


def subgroups_section(metrics: Mapping[str, Any]) -> list[str]:
    """The worst gap between subgroups, where some were measured."""
    columns = columns_of(metrics)
    lines = []
    for name, fields in (metrics.get("subgroups") or {}).get("sets", {}).items():
        for field, one in fields.items():
            gaps = (one.get("gaps") or {}).get(_ALIGNED, {})
            cells = [_gap(gaps.get(column.key)) for column in columns]
            if any(cell != "-" for cell in cells):
                lines.append([f"{field} ({name})", *cells])
    if not lines:
        return []
    return [
        "## Worst gaps between subgroups",
        "",
        "Percentage points between the best and the worst cell that is large enough, with the interval of the gap.",
        "",
        *markdown_table(["", *(column.heading for column in columns)], lines),
    ]


def _gap(gap: Mapping[str, Any] | None) -> str:
    return f"{told(gap)}, {gap['best']} over {gap['worst']}" if gap and gap.get("mean") is not None else "-"


def ability_section(preserved: Mapping[str, Any]) -> list[str]:
    """What alignment cost in general ability; from preserve.json."""
    return ["## General ability", "", *preserved_lines(preserved)]
