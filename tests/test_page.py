"""The page of a run: its frame, its figures, and the table sample by sample."""

import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mint_core.drawing import as_svg, new_figure, style
from mint_core.evaluation.calibration import calibration
from mint_core.evaluation.confusions import confusions
from mint_core.evaluation.ranks import Ranked, add_ranks, pair_ranks, rank_in_list
from mint_core.report import samples
from mint_core.report.bars import chapter as bars
from mint_core.report.explained import chapter as explain_chapter
from mint_core.report.html import Page, render_report
from mint_core.types import LabelSpace
from tests.test_report import CASES

METRICS = {**CASES["learnt"][0], "titles": {"top-1": "Top-1", "hfa": "HFA"}}
PRESERVED = {
    "limit": None, "confidence": 0.95, "harness": "h", "adapter": None, "rows": [],
}  # fmt: skip
WHO = ("base", "aligned", "teacher")
HOSTILE = '<script>alert("x")</script>'


def record(sample: str, variant: str, truth: str, *answer: str | None) -> dict:
    return {"sample": sample, "variant": variant, "truth": truth, "answer": list(answer)}


def page(records: list[dict], image=None, **more) -> str:
    facts = {"written": "2026-01-02", "command": "mint run", "sent": (), "metrics": METRICS, "history": None, **more}
    return render_report(
        Page(
            title="r", stages=[], student=None, licence=None, facts={},
            config={"seed": 3, "align_seed": None, "aligner": {"name": "orpo"}},
            samples=samples.chapter(records, image), **facts,
        )
    )  # fmt: skip


def test_each_sample_is_a_line_with_the_rank_of_its_truth() -> None:
    content = samples.chapter(
        [
            record("p1", "base", "Colon", None, "Liver"),
            record("p1", "aligned", "Colon", "Liver", "Colon"),
            record("p1", "chance", "Colon", "Colon"),  # not shown
            record("p2", "aligned", "Liver", "Liver"),
            record("p3", "aligned", "Liver"),  # wrote no list
        ]
    )
    assert content is not None
    assert content["variants"] == ["base student", "aligned student"]
    assert [(row["id"], row["ranks"]) for row in content["rows"]] == [("p1", "- 2"), ("p2", "x 1"), ("p3", "x -")]
    assert content["rows"][0]["answers"] == [
        {"first": "unknown name", "others": "2. Liver", "rank": "-", "place": "truth not listed"},
        {"first": "Liver", "others": "2. Colon", "rank": "2", "place": "rank 2"},
    ]
    assert content["rows"][2]["answers"][1]["first"] == "nothing"


def test_names_are_escaped_and_no_script_comes_from_outside() -> None:
    text = page([record(HOSTILE, "aligned", HOSTILE, HOSTILE)])
    assert HOSTILE not in text and text.count("&lt;script&gt;") == 5  # id, attribute, cell, answer, filter
    assert re.findall(r"<script[^>]*>", text) == ["<script>"]
    assert "default-src 'none'" in text
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)", text.replace("xlink:", ""))


def test_a_large_run_is_cut_and_says_so() -> None:
    truth = "a disease with a long name " * 4
    records = [
        record(f"s{i}", who, truth, *[truth] * 10) for i in range(3000) for who in ("base", "aligned", "teacher")
    ]
    text = page(records)
    assert len(text.encode()) < 5_000_000
    shown = text.count("data-truth=")
    assert 100 < shown <= 400
    assert f"The first {shown} of 3,000 samples; {3000 - shown:,} stand in samples.parquet alone." in text


def test_images_stand_there_only_where_they_were_asked_for() -> None:
    records = [record(f"s{i}", "aligned", "Liver", "Liver") for i in range(400)]
    noise = Image.merge("RGB", [Image.effect_noise((400, 400), 90) for _ in range(3)])
    text = page(records, lambda sample: noise if sample != "s0" else None)
    assert "This page shows patients' images, as was asked for" in text and "no image" not in text
    assert len(text.encode()) < 5_000_000
    assert 0 < text.count("data:image/jpeg;base64,") < 399
    without = page(records)
    assert "data:image" not in without and "no patient's text, no image." in without
    assert "Ids stand as the data name them" in without


def confused(count: int) -> dict:
    """What metrics.json says of confusions of the first label with every other one, both ways."""
    names = tuple(f"label {i}" for i in range(count))
    records = [{"truth": name, "answer": [names[0], name], "group": None} for name in names for _ in range(9)]
    pairs = [(names[0], name) for name in names[1:]]
    add_ranks(records, pairs, lambda one, label: rank_in_list(one["answer"], label))
    ranked = {"base": [Ranked.of(one, count + 1) for one in records]}
    how = {"draws": 20, "confidence": 0.95, "seed": 0}
    sides = [{"sides": pair_ranks(pair, ranked, how)} for pair in pairs]
    return {
        "confusions": confusions({"base": records}, LabelSpace(names)),
        "pairs": {"pairs": sides, "rule": "named", "absent_rank": count + 1, "full": []},
    }


def test_an_example_of_each_label_stands_beside_pairs_where_images_were_asked_for() -> None:
    records = [record(f"s{i}", "base", f"label {i // 2}", "label 0") for i in range(4)]
    images = {f"s{i}": Image.new("RGB", (4, 4), (60 * i, 0, 0)) for i in range(4)}
    metrics = {**METRICS, **confused(3)}
    text = page(records, images.get, metrics=metrics)
    beside = re.findall(r'<figure><img src="([^"]+)" alt=""><figcaption>([^<]+)', text)
    assert [label for _, label in beside] == ["label 0", "label 1", "label 1", "label 0", "label 0", "label 0"]
    shown = dict(re.findall(r'<td>(s\d)</td><td data-heading="image"><img src="([^"]+)"', text))
    assert {source for source, _ in beside} == {shown["s0"], shown["s2"]}  # the first sample of each
    assert "<figure>" not in page(records, metrics=metrics)


def test_a_page_with_everything_stays_below_5_mb() -> None:
    """As much of each chapter as a page can hold, drawn from real functions; the plain page has none of them."""
    rng = np.random.default_rng(0)
    noise = Image.merge("RGB", [Image.effect_noise((400, 400), 90) for _ in range(3)])
    shares = rng.dirichlet(np.ones(30), 500)
    answers = shares.argmax(1)
    one = calibration(np.log(shares), answers, answers, [None] * 500, draws=50, confidence=0.95, seed=0)
    steps = [{"step": i, "loss": 1 / i, "margin": float(i)} for i in range(1, 5001)]
    sample = {
        "id": "s", "label": "Liver", "label_from": "answer", "log_prob": -1.0, "text": "word " * 400,
        "effects": [{"start": 5 * i, "stop": 5 * i + 4, "effect": 0.1} for i in range(400)],
    }  # fmt: skip
    explained = {
        "parts": "phrases", "grid": None, "shows": ["text"], "left_out": [], "samples": [sample] * 6,
    }  # fmt: skip
    records = [record(f"s{i}", who, "a long label " * 9, *["x" * 90] * 9) for i in range(400) for who in WHO]
    whole = page(
        records,
        lambda _: noise,
        metrics={**METRICS, **confused(45), "calibration": {"subset": "all", "variants": dict.fromkeys(WHO, one)}},
        history={"history": steps, "validation": [], "settings": {}},
        explained=explain_chapter(explained, "A check."),
    )
    chapters = ("Confusions", "How far probabilities can be believed", "Why the student answers so", "Training")
    assert all(f">{chapter}</h2>" in whole for chapter in chapters)
    assert "data:image/jpeg" in whole and len(whole.encode()) < 5_000_000
    assert not any(f">{chapter}</h2>" in page([]) for chapter in chapters)


def test_every_metric_has_a_panel_of_bars() -> None:
    ((subset, left, panels),) = bars(METRICS)
    assert (subset, [heading for heading, _ in panels]) == ("all", ["Top-1", "HFA"])
    text = page([])
    (first, _) = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert "Top-1, percent</text>" in first and first.count("<rect") == 3  # base, aligned, random list
    percent = 284 - left  # pixels of 100 %: aligned stands at 34 [25, 43]
    assert f'width="{0.34 * percent:.1f}"' in first
    assert f'd="M{left + 0.25 * percent:.1f} ' in first and f"H{left + 0.43 * percent:.1f}m" in first


def test_all_figures_of_a_page_have_ids_of_their_own() -> None:
    with style():
        figure = new_figure(3, 2, (0.5, 0.5, 0.1, 0.1))
        figure.subplots().errorbar([1, 2], [1, 2], yerr=1)
        drawn = as_svg(figure)
    text = page([], ability=drawn + drawn, preserved=PRESERVED)
    ids = Counter(re.findall(r'\bid="([^"]+)"', text))
    assert len(ids) > 20 and max(ids.values()) == 1
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', text):
        assert target in ids, target
    assert 'class="wide"' not in text  # narrow figures fit a phone


def test_a_wide_figure_has_a_box_in_which_it_can_be_moved() -> None:
    figure = '<svg height="100pt" width="400pt" xmlns="http://www.w3.org/2000/svg"></svg>'
    assert f'<div class="wide">{figure}</div>' in page([], ability=figure, preserved=PRESERVED)


@pytest.mark.parametrize("heading", ["Results", "How to cite", "How to make the run again", "Config"])
def test_the_contents_lead_to_every_chapter(heading: str) -> None:
    text = page([record("p1", "aligned", "Liver", "Liver")])
    anchor = re.search(rf'<a href="#([a-z-]+)">{heading}</a>', text)
    assert anchor and f'<h2 id="{anchor[1]}">{heading}</h2>' in text


def test_the_page_says_how_to_cite_and_how_to_make_the_run_again() -> None:
    text = page([], versions={"torch": "2.10", "open_clip_torch": None})
    assert "arXiv 2505.05736" in text and "ORPO: Monolithic" in text and "Direct Preference" not in text
    assert "mint run --config run.json --out ELSEWHERE" in text
    assert "Seeds: 3, of the alignment 3." in text
    assert "Versions: torch 2.10" in text and "open_clip" not in text
