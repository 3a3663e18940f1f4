"""The model card: what the hub reads of it, and that nothing of the user's own is touched."""

import json

import pytest
import yaml
from huggingface_hub import ModelCard

from mint_core.report import card
from tests.test_report import CASES

METRICS = CASES["learnt"][0]
TASK = {"type": "text-generation", "name": "Organs"}
GAP = {"mean": 0.25, "low": 0.1, "high": 0.4, "best": "female", "worst": "male"}
SUBGROUPS = {"smallest": 10, "sets": {"all": {"sex": {"cells": [], "gaps": {"aligned": {"top-1": GAP}}, "hidden": 0}}}}
PLAIN = "\n".join(["---", "library_name: peft", "---", "", "# Mine", "", *card.empty_sections(), "the end", ""])


def full() -> str:
    index = card.model_index(METRICS, "m", TASK)
    return card.with_index(card.filled(PLAIN, {card.RESULTS: card.results_section(METRICS)}), index)


def test_the_hub_reads_the_results_and_no_field_is_empty() -> None:
    data = ModelCard(full()).data
    found = {one.metric_type: one for one in data.eval_results}
    assert found["top-1"].metric_value == 34.0 and found["top-1"].metric_name == "TOP-1, percent"
    assert (found["top-1"].dataset_name, found["top-1"].dataset_split) == ("A source.", "test")
    assert data.model_name == "m"
    header = yaml.safe_load(full().split("---\n")[1])
    assert not [value for value in json.dumps(header).split() if value.strip(",") in ('""', "null", "{}", "[]")]
    assert "| aligned student | 34.0 [25.0, 43.0] |" in full()


def test_a_measurement_replaces_what_an_earlier_one_found_and_nothing_else() -> None:
    mine = (
        full().replace("the end", "my own words, \\1 and all").replace("library_name: peft", "library_name: x  # mine")
    )
    again = {**METRICS, "n": 77}
    text = card.filled(mine, {card.RESULTS: card.results_section(again), card.SUBGROUPS: []})
    text = card.with_index(text, card.model_index(again, "other", TASK))
    assert text.count("## Results") == text.count("model-index:") == 1
    assert "n = 77" in text and "n = 100" not in text and "name: other" in text
    assert "my own words, \\1 and all" in text and "library_name: x  # mine" in text
    emptied = card.with_index(card.filled(mine, {card.RESULTS: []}), None)
    assert emptied == mine.split("model-index")[0] + "---\n" + PLAIN.split("---\n")[2].replace(
        "the end", "my own words, \\1 and all"
    )


@pytest.mark.parametrize("text", ["My own words.", "---\nlicense: mit\n---\nMine.\n", ""])
def test_a_card_without_marks_is_left_alone(text: str) -> None:
    found = {name: ["## New"] for name in card.FILLED}
    assert card.with_index(card.filled(text, found), card.model_index(METRICS, "m", TASK)) == text


def test_the_worst_gaps_stand_there_where_they_were_measured() -> None:
    assert card.subgroups_section(METRICS) == []
    lines = card.subgroups_section({**METRICS, "subgroups": SUBGROUPS})
    assert "| sex (all) | - | - | 25.0 [10.0, 40.0], female over male | - |" in lines


@pytest.mark.parametrize(
    ("licence", "keys"),
    [
        (None, {}),
        ("CC BY-NC-SA 4.0", {"license": "cc-by-nc-sa-4.0"}),
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("Our hospital's terms, 2024", {"license": "other", "license_name": "our-hospital-s-terms-2024"}),
    ],
)
def test_a_licence_is_one_that_the_hub_knows_or_other(licence, keys) -> None:
    assert card.licence_keys(licence) == keys


def test_a_card_tells_nothing_of_a_machine() -> None:
    assert (
        card.without_folders("folder /home/ann/data/patches: 12 images, ~/x/y.csv")
        == "folder patches: 12 images, y.csv"
    )
    assert card.without_folders("https://example.org/a/b and and/or") == "https://example.org/a/b and and/or"


@pytest.mark.parametrize(
    ("name", "found"),
    [("a-lab/a-1B", "a-lab/a-1B"), ("https://huggingface.co/a/b", "a/b"), ("Smol", None), ("https://x.org/a/b", None)],
)
def test_the_base_is_named_where_it_is_on_the_hub(name, found) -> None:
    assert card.hub_id(name) == found
