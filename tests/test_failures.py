"""Answers that score 0 say why, what they are worth without the rule, and what to try."""

import json
from pathlib import Path

import pytest
import yaml

from mint_core.evaluation.failures import failures, many_fail
from mint_core.report.failures import failures_told, next_step
from mint_core.testing import metric_sample
from mint_core.types import LabelSpace
from mint_metrics.hfa import HFA
from mint_metrics.top_n import Top1, TopN

LABELS = LabelSpace(("Colon", "Liver", "Lung", "Skin"))
TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("response", "well_formed", "reason"),
    [
        (("Colon", "Liver"), True, None),
        ((), False, "no list"),
        (("Colon",), True, "too few names"),
        (("Colon", "Liver", "Lung"), True, "too many names"),
        (("Colon", "Quux"), True, "an unknown name"),
        (("Colon", "Colon"), True, "a name twice"),
        (("Colon", "Colonn"), True, "a name twice"),
        (("Colon", "Liver"), False, "more than the list"),
    ],
)
def test_every_way_to_fail_has_its_reason(response, well_formed: bool, reason: str | None) -> None:
    sample = metric_sample(LABELS, response, "Colon", 2, well_formed=well_formed)
    assert HFA().why(sample) == reason
    assert HFA().score(sample) == float(reason is None)
    assert TopN().ungated().score(sample) == float("Colon" in response)
    assert Top1(Top1.Config(hfa="off")).ungated() is None


def record(answer: list[str | None], reason: str | None) -> dict:
    return {"answer": answer, "why": {"hfa": reason, "top-n": None}}


def test_reasons_are_counted_with_two_examples_of_label_names() -> None:
    twice = [record(["Colon", "Colon"], "a name twice")] * 2 + [record(["Skin", None], "a name twice")]
    found = failures([*twice, record(["Lung"], "a name twice"), record([], "no list"), record(["Lung"], None)])
    assert found == {
        "hfa": {
            "n": 6,
            "failed": 5,
            "reasons": {"a name twice": 4, "no list": 1},
            "examples": {"a name twice": [["Colon", "Colon"], ["Skin", None]], "no list": [[]]},
        }
    }
    assert many_fail(found)
    assert not many_fail({"hfa": {"n": 10, "failed": 1}})
    assert many_fail({"hfa": {"n": 10, "failed": 2}})


def test_what_a_reader_is_told() -> None:
    one = {"mean": 0.5, "low": 0.25, "high": 0.75}
    content = {
        "decode": "free",
        "titles": {"hfa": "HFA", "top-n": "Top-2"},
        "failures": {
            "aligned": failures([record(["Skin", None], "an unknown name"), record(["Lung", "Skin"], None)]),
            "base": failures([record([], "no list")] * 2),
        },
        "ungated": {"aligned": {"top-n": one}},
    }
    assert failures_told(content) == [
        "aligned student: 1 of 2 answers fail HFA: an unknown name 1 (for example Skin / an unknown name).",
        "aligned student, without that rule: Top-2 50.0 [25.0, 75.0].",
        next_step("free"),
    ]


def test_a_wall_of_zeros_is_explained_in_run_and_compare(install_plugin, mint, folder, tmp_path, monkeypatch) -> None:
    """A student that was never trained writes no list."""
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    config = {
        "task": "toy", "student": {"model": str(folder)}, "out": str(tmp_path / "runs"), "aligner": None,
        "evaluate": {"bootstrap": 100},
    }  # fmt: skip
    (tmp_path / "mint.yaml").write_text(yaml.safe_dump({**config, "name": "r"}))
    answer = mint("run", "-c", tmp_path / "mint.yaml")
    assert answer.code == 0, answer.err
    told = failures_told(json.loads((tmp_path / "runs" / "r" / "metrics.json").read_text()))
    assert told[0].startswith("base student: 8 of 8 answers fail HFA: ")
    assert told[1].startswith("base student, without that rule: Top-2 ")
    said = " ".join(answer.out.split())
    assert all(sentence in said for sentence in told)
    assert all(sentence.split(" (")[0] in (tmp_path / "runs/r/report.html").read_text() for sentence in told)
    (tmp_path / "mint.yaml").write_text(yaml.safe_dump({**config, "name": "c"}))
    rows = ["--aligners", "base", "--row", "short=base:predict.max_new_tokens=3"]
    answer = mint("compare", "-c", tmp_path / "mint.yaml", *rows)
    assert answer.code == 0, answer.err
    said = " ".join(answer.out.split())
    assert "base: 8 of 8 answers fail HFA: " in said and "short: 8 of 8 answers fail HFA: no list 8" in said
    assert "short, without that rule: Top-2 0.0" in said and "Next step: " in said
