"""Reporting checklists: what a run knows is filled in, the rest are questions, and nothing is counted twice."""

from importlib.resources import files

import pytest
import yaml

from mint_core.report.checklist import CHECKLISTS, FIELDS, Known, fill, markdown
from tests.test_report import CASES

METRICS = CASES["learnt"][0]
STAGE = {"key": "abc", "seconds": 1.0, "peak_memory_bytes": 2**30, "facts": {"steps": 7}}
RECORD = {
    "config": {
        "seed": 3, "align_seed": None, "teacher": {"name": "oracle"}, "aligner": {"name": "orpo"},
        "strategy": {"name": "listwise", "k": None}, "student": {"model": "/home/ann/models/tiny"}, "retriever": None,
        "predict": {"shots": 0},
    },
    "versions": {"mint-core": "1", "python": "3.11", "open_clip_torch": None},
    "data": {
        "source": "notes in /home/ann/notes.csv", "simulated": False, "licence": None, "facts": {"notes read": 12},
        "samples": {"train": 10, "val": 0, "test": 100}, "labels": ["a", "b"], "reported_split": "test",
    },
    "student": {}, "stages": {"align": STAGE, "predict": STAGE},
}  # fmt: skip
KNOWN = Known(RECORD, METRICS, {"settings": {"epochs": 2, "lora_rank": 8}, "history": []}, None)
ITEMS = {"tripod-llm": 49, "tripod-ai": 52}
"""Numbered rows of the published tables."""


def content(name: str) -> dict:
    return yaml.safe_load((files("mint_core.report") / "checklists" / f"{name}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CHECKLISTS)
def test_every_item_of_the_publication_is_there_once(name: str) -> None:
    items = content(name)["items"]
    assert len({one["item"] for one in items}) == len(items) == ITEMS[name]
    assert {key for one in items for key in one.get("knows", ())} <= FIELDS.keys()
    assert all(one.get("knows") or one.get("asks") for one in items)
    assert "doi" in content(name)["source"]


def test_no_field_is_idle() -> None:
    assert {key for name in CHECKLISTS for one in content(name)["items"] for key in one.get("knows", ())} == set(FIELDS)


@pytest.mark.parametrize("name", CHECKLISTS)
def test_the_counts_are_those_of_the_items(name: str) -> None:
    found = fill(name, KNOWN)
    counts = [found.count(state) for state in ("filled", "partly", "open")]
    assert sum(counts) == ITEMS[name] and min(counts) > 0
    told = f"{counts[0]} of {ITEMS[name]} items filled from the run, {counts[1]} in part, {counts[2]} are questions"
    assert told in found.told
    text = markdown(found, "r")
    assert found.told in text
    assert text.count("\n| ") - 2 == ITEMS[name]
    assert "/home/ann" not in text


def test_what_is_known_stands_beside_where_it_stands() -> None:
    items = {one.item: one for one in fill("tripod-llm", KNOWN).items}
    assert items["17"].state == "filled"
    assert items["17"].found[0].text.endswith("TOP-1 5.0 [1.0, 10.0], CAR 5.0 [1.0, 10.0]")
    assert items["17"].found[0].where == "metrics.json: rows"
    assert items["13"].state == "open" and "Which board" in items["13"].question
    assert items["14e"].state == "open"  # no licence is known
    assert items["16b"].state == "open"  # no subgroups were measured
    licensed = Known({**RECORD, "data": {**RECORD["data"], "licence": "CC BY 4.0"}}, METRICS, KNOWN.history, None)
    [item] = [one for one in fill("tripod-llm", licensed).items if one.item == "14e"]
    assert item.state == "partly" and "CC BY 4.0" in item.found[0].text


def test_without_an_alignment_its_items_are_open() -> None:
    items = {one.item: one for one in fill("tripod-llm", Known(RECORD, METRICS, None, None)).items}
    assert items["6b"].state == "open" and items["6b"].question == "The run does not say."
