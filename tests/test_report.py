"""What a run's page says first, and that it can be read on a phone and on paper."""

import re
from typing import Any

import pytest

from mint_core.report.conclusion import conclusion
from mint_core.report.html import Page, render_report

CLAIMS = {
    "hfa": "keeps to the format",
    "top-n": "has it among its five",
    "top-1": "names the right label first",
    "car": "",
}


def estimate(mean: float | None, low: float = 0.0, high: float = 0.0, unscored: int = 0) -> dict[str, Any]:
    return {"mean": mean, "low": low, "high": high, "unscored": unscored}


def all_alike(*values: float | None) -> dict[str, Any]:
    return dict.fromkeys(CLAIMS, estimate(*values))


def metrics(difference: tuple[float, float, float] | None = None, **rows: tuple[float, float, float]) -> dict[str, Any]:
    """Content of metrics.json for 100 samples, whose metrics all have the values of Top-1."""
    return {
        "rows": [
            {"variant": variant.replace("_", "-"), "subset": "all", "n": 100, "metrics": all_alike(*values)}
            for variant, values in rows.items()
        ],
        "aligned_minus_base": {"all": all_alike(*difference)} if difference else {},
        "claims": CLAIMS, "confidence": 0.95, "titles": {key: key.upper() for key in CLAIMS},
        "rules": dict.fromkeys(CLAIMS, "A rule."), "asked": {"engine": "transformers", "shots": 0, "reason": False},
        "decode": "score", "simulated": False, "source": "A source.", "split": "test", "n": 100, "n_labels": 9, "N": 5,
        "seed": 0, "bootstrap": 100, "teacher_top_1": {}, "failures": {}, "ungated": {},
    }  # fmt: skip


CHANCE = (0.05, 0.01, 0.10)
CASES = {
    "learnt": (
        metrics((0.29, 0.19, 0.38), base=(0.05, 0.01, 0.1), aligned=(0.34, 0.25, 0.43), chance=CHANCE),
        "The aligned student names the right label first in 34 of 100 samples, the base student in 5; the difference "
        "of 29 percentage points is larger than chance (95 % interval 19 to 38).",
    ),
    "nothing shown": (
        metrics((0.02, -0.04, 0.08), base=(0.3, 0.2, 0.4), aligned=(0.32, 0.22, 0.42), chance=CHANCE),
        "The aligned student names the right label first in 32 of 100 samples, the base student in 30; the difference "
        "of 2 percentage points is not larger than chance (95 % interval -4 to 8): no gain is shown.",
    ),
    "worse": (
        metrics((-0.1, -0.15, -0.05), base=(0.3, 0.2, 0.4), aligned=(0.2, 0.13, 0.28), chance=CHANCE),
        "The aligned student names the right label first in 20 of 100 samples, the base student in 30; it has become "
        "worse, by 10 percentage points and more than chance (95 % interval -15 to -5).",
    ),
    "never in the format": (
        metrics((0.0, 0.0, 0.0), base=(0.0, 0.0, 0.0), aligned=(0.0, 0.0, 0.0), chance=CHANCE),
        "The aligned student names the right label first in 0 of 100 samples, the base student in 0; no gain is shown. "
        "It keeps to the format in 0 of 100 samples. That is not clearly better than a list drawn at random (5).",
    ),
    "the majority does as well": (
        metrics(
            (0.6, 0.5, 0.7), base=(0.1, 0.0, 0.2), aligned=(0.7, 0.6, 0.8), chance=CHANCE, majority=(0.7, 0.6, 0.8)
        ),
        "The aligned student names the right label first in 70 of 100 samples, the base student in 10; the difference "
        "of 60 percentage points is larger than chance (95 % interval 50 to 70). That is not clearly better than "
        "always naming the most frequent training labels (70).",
    ),
    "blind": (
        metrics(
            (0.29, 0.19, 0.38), base=(0.05, 0.01, 0.1), aligned=(0.34, 0.25, 0.43), aligned_shuffled=(0.3, 0.2, 0.4),
            chance=CHANCE,
        ),
        "The aligned student names the right label first in 34 of 100 samples, the base student in 5; the difference "
        "of 29 percentage points is larger than chance (95 % interval 19 to 38). With another sample's image it is not "
        "clearly worse (30): it may not look at the image.",
    ),
    "only the base student": (
        metrics(base=(0.06, 0.02, 0.12), chance=CHANCE),
        "The base student names the right label first in 6 of 100 samples (95 % interval 2 to 12 %). That is not "
        "clearly better than a list drawn at random (5).",
    ),
    "nobody was scored": (metrics(base=(None, None, None)), ""),
}  # fmt: skip


@pytest.mark.parametrize(("content", "told"), CASES.values(), ids=CASES)
def test_the_conclusion_follows_from_the_intervals(content, told) -> None:
    assert conclusion(content) == told


def test_samples_that_were_not_scored_do_not_count() -> None:
    content = metrics(base=(0.5, 0.4, 0.6))
    content["rows"][0]["metrics"]["top-1"] = estimate(0.5, 0.4, 0.6, unscored=20)
    assert "in 40 of 80 samples" in conclusion(content)


def test_without_a_claim_there_is_no_conclusion() -> None:
    assert conclusion({**metrics(base=(0.5, 0.4, 0.6)), "claims": dict.fromkeys(CLAIMS, "")}) == ""


def page(sent: tuple[str, ...] = ()) -> str:
    return render_report(
        Page(
            title="r", metrics=CASES["learnt"][0], stages=[], history=None, student=None, licence=None, facts={},
            config={}, command="mint run --data 'my patients.csv'", written="2026-01-02",
            sent=sent,
        )
    )  # fmt: skip


def test_the_page_begins_with_what_must_be_known() -> None:
    top = page().partition(">Results</h2>")[0]
    for shown in (
        CASES["learnt"][1],
        "2026-01-02",
        "mint run --data &#39;my patients.csv&#39;",
        "score: every label was scored",
        "no patient's text, no image, no sample's name",
        "No data of this run have left this machine.",
    ):
        assert shown in top, shown
    assert "Left this machine: notes, to a server." in page(("notes, to a server",))


def test_the_page_can_be_read_on_a_phone_and_printed() -> None:
    """Below 40rem every cell is a line of its own and needs its heading; nothing but an interval keeps to one line."""
    text = page()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "@media print" in text and "@media (max-width: 40rem)" in text
    assert len(re.findall(r'<td data-heading="[^"]+">[-\d.]+ <span>\[', text)) == 4 * 4
    assert re.findall(r"^.*nowrap.*$", text, re.MULTILINE) == ["td span { white-space: nowrap; }"]
