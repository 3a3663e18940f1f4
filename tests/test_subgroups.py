"""Results by subgroup: cells, worst gaps, ages in bands, label frequency, and that nobody reads who a patient is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import mint_core
from mint_core.comparison.breakdown import breakdown_of, grids, pairs_of
from mint_core.comparison.values import Columns, RowValues
from mint_core.config.schema import EvaluateConfig
from mint_core.errors import ConfigError
from mint_core.evaluation.ages import BANDS, age_band, holds_ages
from mint_core.evaluation.fields import FREQUENCY, cells_of, choose_fields
from mint_core.evaluation.statistics import estimate, resampled_means
from mint_core.evaluation.strata import strata
from mint_core.evaluation.subgroups import NOT_KNOWN, by_subgroup
from mint_core.report import subgroups
from mint_core.types import Sample

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
LABELS = ("Adrenal gland", "Bile duct", "Colon", "Kidney", "Liver", "Skin")
HOW: dict[str, Any] = {"draws": 400, "confidence": 0.95, "seed": 0}


def measured(cells: list[str | None], values: list[float | None], field: str = "sex", **how: Any) -> dict[str, Any]:
    return by_subgroup(field, cells, {"base": {"m": values}}, [None] * len(cells), **{**HOW, **how})


def test_worst_gap_by_hand() -> None:
    """Women 8 of 10, men 5 of 10, 11 unknown 0 of 11, and 9 of a third sex, too few to be shown."""
    cells = ["f"] * 10 + ["m"] * 10 + [None] * 11 + ["x"] * 9
    found = measured(cells, [1.0] * 8 + [0.0] * 2 + [1.0] * 5 + [0.0] * 5 + [0.0] * 11 + [1.0] * 9)
    assert [(cell["cell"], cell["n"], cell["rows"]["base"]["m"]["mean"]) for cell in found["cells"]] == [
        ("f", 10, 0.8), ("m", 10, 0.5), (NOT_KNOWN, 11, 0.0),
    ]  # fmt: skip
    assert found["not_shown"] == 1
    gap = found["gaps"]["base"]["m"]
    assert (gap["best"], gap["worst"], gap["compared"]) == ("f", "m", 2)  # who is not known is no group
    assert gap["mean"] == pytest.approx(0.3)
    assert gap["low"] < 0.3 < gap["high"]


def test_the_interval_of_a_gap_holds_for_all_pairs() -> None:
    """Of three cells there are three pairs: each end leaves out 2.5 % / 3 of the draws."""
    rng = np.random.default_rng(1)
    values = rng.random(60)
    cells = [name for name in "abc" for _ in range(20)]
    gap = measured(cells, list(values))["gaps"]["base"]["m"]
    columns = np.array(
        [[v if cell == name else np.nan for name in "abc"] for v, cell in zip(values, cells, strict=True)]
    )
    drawn = resampled_means(columns, [None] * 60, draws=400, seed=0)
    difference = drawn[:, "abc".index(gap["best"])] - drawn[:, "abc".index(gap["worst"])]
    assert (gap["low"], gap["high"]) == pytest.approx(tuple(np.quantile(difference, [0.025 / 3, 1 - 0.025 / 3])))


def test_draws_are_those_of_every_interval() -> None:
    """Clusters of unequal size: the means of the draws have the quantiles that `estimate` gives."""
    values = [1.0, 0.0, 0.0, 1.0, 1.0, 0.5]
    groups = ["a", "a", "a", "b", None, "c"]
    drawn = resampled_means(np.array(values)[:, None], groups, draws=300, seed=3)[:, 0]
    one = estimate(values, groups, draws=300, confidence=0.9, seed=3)
    assert (one.low, one.high) == pytest.approx(tuple(np.quantile(drawn, [0.05, 0.95])))


def test_equal_cells_have_no_gap_and_few_scores_no_mean() -> None:
    found = measured(["a"] * 10 + ["b"] * 10, [1.0] * 20)
    assert found["gaps"]["base"]["m"] == {
        "best": "a", "worst": "b", "mean": 0.0, "low": 0.0, "high": 0.0, "compared": 2
    }  # fmt: skip
    found = measured(["a"] * 10 + ["b"] * 10, [1.0] * 11 + [None] * 9)
    assert found["cells"][1]["rows"]["base"]["m"] == {
        "mean": None, "low": None, "high": None, "n": 1, "unscored": 9, "clusters": 0
    }  # fmt: skip
    assert found["gaps"] == {}


def test_unseen_labels_stand_apart() -> None:
    cells = ["tail"] * 10 + ["head"] * 10 + ["unseen"] * 10
    found = measured(cells, [0.5] * 10 + [1.0] * 10 + [0.0] * 10, FREQUENCY)
    assert [cell["cell"] for cell in found["cells"]] == ["head", "tail", "unseen"]
    assert (found["gaps"]["base"]["m"]["worst"], found["gaps"]["base"]["m"]["mean"]) == ("tail", 0.5)


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        ("aaaaabbbc", {"a": "head", "b": "middle", "c": "tail"}),
        # places 1.5 and 4.5 of 6: ties stay together
        ("aaabbbcccdef", {**dict.fromkeys("abc", "head"), **dict.fromkeys("def", "tail")}),
        ("abab", {"a": "middle", "b": "middle"}),
        # 1 of 4 is head (0.5 <= 4/3), two are in the middle (2 > 4/3, 2 <= 8/3), the last one (3.5) is tail
        ("aaabbccd", {"a": "head", "b": "middle", "c": "middle", "d": "tail"}),
    ],
)
def test_strata_by_hand(trained: str, expected: dict[str, str]) -> None:
    assert strata([*trained, None]) == expected


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("34", "18 to 39 years"), ("17.9", "12 to 17 years"), ("P4Y6M", "1 to 5 years"), ("P18M", "1 to 5 years"),
        ("5 years 11 months", "1 to 5 years"), ("72 months", "6 to 11 years"), ("newborn", "below 1 year"),
        ("22 weeks 2 days of gestation", "before birth"), ("PT12H", "below 1 year"), ("90", "65 years and older"),
        ("131", None), ("adult", None), ("0-5", None), ("", None),
    ],
)  # fmt: skip
def test_ages_become_bands(text: str, band: str | None) -> None:
    assert age_band(text) == band
    assert band is None or band in BANDS


def test_a_number_is_in_the_unit_that_its_field_names() -> None:
    assert age_band("72", "age_months") == "6 to 11 years"
    assert [holds_ages(name) for name in ("age", "Age (years)", "stage", "dosage")] == [True, True, False, False]


def sample(number: int, **fields: str) -> Sample:
    return Sample(f"p{number}", "test", "Colon", subgroups=fields)


def test_what_is_no_age_is_not_known_among_ages_and_stays_elsewhere() -> None:
    ages = [sample(1, age="34"), sample(2, age="P2Y"), sample(3, age="adult"), sample(4)]
    assert cells_of("age", ages) == ["18 to 39 years", "1 to 5 years", None, None]
    assert cells_of("age", [sample(1, age="0-5"), sample(2, age="6+")]) == ["0-5", "6+"]


def test_fields_that_cannot_be_reported() -> None:
    many = [sample(i, ward=f"ward {i}", note="The patient, " * 10, sex="f") for i in range(60)]
    with pytest.raises(ConfigError, match="no sample has a field 'sxe'; did you mean 'sex'"):
        choose_fields(["sxe"], (), many, many)
    with pytest.raises(ConfigError, match="'note' is free text") as refused:
        choose_fields(["note"], (), many, many)
    assert "The patient" not in str(refused.value)
    with pytest.raises(ConfigError, match="'ward' has 60 different values; name a column of at most 50"):
        choose_fields(["ward"], (), many, many)
    found = choose_fields(None, ("sex", "ward", "age"), many, many)
    assert found.names == ("sex",)
    assert found.left_out == ("Results are not reported by 'ward', which has 60 different values.",)
    assert choose_fields([], ("sex",), many, many) == ((), ())


def test_a_comparison_averages_over_the_seeds() -> None:
    """Women 10 of 10 and 0 of 10 by seed, men 5 of 10 twice: equal on average. A list that lacks a label counts 3."""
    by_seed = {}
    for seed, women in ((0, 1.0), (1, 0.0)):
        records = [
            {
                "sample": f"{sex}{i}", "group": None, "cohort": None, "seen": True, "content": "", "variant": "aligned",
                "truth": "A", "subgroups": {"sex": sex}, "metrics": {"m": women if sex == "f" else float(i < 5)},
                "rank": 1 if seed else None, "confusers": [{"label": "B", "rank": 2}],
            }
            for sex in "fm" for i in range(10)
        ]  # fmt: skip
        by_seed[seed] = {record["sample"]: record for record in records}
    row = RowValues("orpo", "student", ("orpo-seed0", "orpo-seed1"), by_seed)
    columns = Columns({"m": "M"}, {"m": ""}, frozenset())
    metrics = {"pairs": {"absent_rank": 3, "full": [], "pairs": [{"labels": ["A", "B"]}]}}
    found = breakdown_of(row, metrics, pairs_of([metrics, metrics]), columns, HOW)
    women, men = found["subgroups"]["all"]["sex"]["cells"]
    assert (women["cell"], women["metrics"]["m"]["mean"], men["metrics"]["m"]["mean"]) == ("f", 0.5, 0.5)
    assert (women["metrics"]["m"]["sd"], men["metrics"]["m"]["sd"]) == (pytest.approx(0.5**0.5), 0.0)
    assert found["subgroups"]["all"]["sex"]["gaps"]["m"]["mean"] == 0
    one, other = found["confusable"][0]["sides"]
    assert (one["ranks"]["truth"]["mean"], one["ranks"]["confuser"]["mean"], one["n"]) == (2.0, 2.0, 20)
    assert (other["truth"], other["n"], other["ranks"]) == ("B", 0, {})
    content = {"rows": [{"name": "orpo", "subsets": [{"metrics": {"m": women["metrics"]["m"]}}], **found}]}
    by_sex, pairs = grids({**content, "titles": {"m": "M"}})
    assert [line[:2] for part in by_sex.parts for line in part] == [
        ["orpo: f", "10"], ["orpo: m", "10"], ["orpo: worst gap", ""],
    ]  # fmt: skip
    assert by_sex.parts[0][0][2] == "50.0 [50.0, 50.0] ±70.7"
    assert pairs.parts == [[["A, not B: orpo", "20", "2.0 [2.0, 2.0]", "2.0 [2.0, 2.0]"]], []]
    assert pairs.notes == ["orpo: a label that is not in the list counts as the rank behind its end."]


def test_how_fields_and_pairs_may_be_written() -> None:
    assert EvaluateConfig(subgroups="sex, age").subgroups == ("sex", "age")
    assert EvaluateConfig(pairs=["Colon", "Skin"]).pairs == (("Colon", "Skin"),)  # one pair
    assert EvaluateConfig(pairs=[]).pairs == ()


@pytest.fixture
def toy(install_plugin, tmp_path: Path, folder: Path) -> dict[str, Any]:
    """60 samples, 30 of which are judged: 15 of each sex, two sites, the second one of 9 samples."""
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    write(tmp_path / "data.json", "f")
    return {
        "task": {"name": "toy", "source": "file", "data": str(tmp_path / "data.json")},
        "student": {"model": str(folder)},
        "out": str(tmp_path / "runs"),
        "name": "r",
        "aligner": None,
        "predict": {"decode": "score"},
        "evaluate": {"bootstrap": 100, "subgroups": ["sex", "site"]},
    }


def write(path: Path, second_sex: str) -> None:
    fields = [
        {"sex": "m" if i % 4 < 2 else second_sex, "site": "SMALL-SITE" if i < 18 else "B", "note": f"ward {i} " * 9}
        for i in range(60)
    ]
    records = [
        {"id": f"p{i}", "split": "test" if i % 2 else "train", "label": LABELS[i // 2 % 6], "subgroups": own}
        for i, own in enumerate(fields)
    ]
    path.write_text(json.dumps(records))


def test_a_run_reports_subgroups_that_nobody_read(toy, mint, tmp_path: Path) -> None:
    """The toy's task, teacher and retriever refuse a sample with subgroups; what is reported remakes two stages."""
    first = mint_core.run(toy)
    found = first.metrics["subgroups"]
    assert found["smallest"] == 10
    assert list(found["sets"]["all"]) == ["sex", "site", FREQUENCY]
    assert [(cell["cell"], cell["n"]) for cell in found["sets"]["all"]["sex"]["cells"]] == [("f", 15), ("m", 15)]
    assert found["sets"]["all"]["site"]["not_shown"] == 1
    record = pq.read_table(first.path / "samples.parquet").to_pylist()[0]
    assert record["subgroups"] == {"sex": "m", "site": "SMALL-SITE", FREQUENCY: "middle"}
    page = (first.path / "report.html").read_text()
    assert ">Subgroups</h2>" in page and "f (n = 15)" in page
    assert "site (1 shown, 1 too small)" in page
    for told in (page, (first.path / "metrics.json").read_text()):
        assert "SMALL-SITE" not in told and "ward 1" not in told
    (told,) = subgroups.gaps_told(first.metrics)  # of the site one cell is shown, of the frequency there is one
    assert told.startswith("Worst gap by sex: the base student names the right label first in ")
    again = mint_core.run({**toy, "evaluate": {"bootstrap": 100, "subgroups": "site"}}, until="evaluate")
    assert again.reused == ("label", "predict")
    write(tmp_path / "data.json", "w")
    changed = mint_core.run(toy, until="evaluate")
    assert changed.reused == ("label", "predict")
    assert [cell["cell"] for cell in changed.metrics["subgroups"]["sets"]["all"]["sex"]["cells"]] == ["m", "w"]


@pytest.mark.parametrize(
    ("evaluate", "told"),
    [
        ({"subgroups": ["note"]}, "'note' is free text (30 different values, the longest of 71 characters)"),
        ({"subgroups": ["sexx"]}, "no sample has a field 'sexx'; did you mean 'sex'?"),
        ({"pairs": [["Colon", "Skinn"]]}, "there is no label 'Skinn'; did you mean 'Skin'?"),
        ({"pairs": [["Colon", "colon"]]}, "'Colon' and 'colon' are one label; name two."),
        ({"pairs": ["Colon"]}, "each pair is a list of two labels"),
    ],
)
def test_refused_before_the_first_stage(toy, evaluate, told) -> None:
    with pytest.raises(ConfigError) as refused:
        mint_core.run({**toy, "evaluate": evaluate})
    assert told in str(refused.value)
    assert not Path(toy["out"]).exists()
