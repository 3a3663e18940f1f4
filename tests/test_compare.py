"""`mint compare` and `mint sweep` on the toy plugin and a tiny text student, and the parts that can be tested alone."""

import io
import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

import mint_core
from mint_core.comparison.compare import make_schedule
from mint_core.comparison.figures import _figure, draw
from mint_core.comparison.rows import Row, parse_baseline, parse_ratios, parse_row, parse_seeds, student_rows
from mint_core.comparison.summary import summarise
from mint_core.comparison.table import grids, markdown, tables
from mint_core.comparison.values import Columns, RowValues
from mint_core.errors import ConfigError, StorageError
from mint_core.evaluation.statistics import told_p
from mint_core.files import digest_of_path
from mint_core.runs.folder import RunFolder
from tests.servers import LIST, says
from tests.tiny_students import build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
HOW = {"draws": 200, "confidence": 0.95, "seed": 0}
M = Columns({"m": "M"}, {"m": "a rule"}, frozenset())


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("llama", tmp_path_factory.mktemp("student") / "llama")


@pytest.fixture
def toy(install_plugin, tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Options of a comparison on the toy, in an empty folder; the labels are scored, so that every row has numbers."""
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    records = [
        {"id": f"p{i}", "split": "test" if i % 4 == 3 else "train", "label": ("Colon", "Liver", "Skin")[i % 3],
         "group": f"g{i // 2 * 2 + (i % 4 == 3)}"}
        for i in range(24)
    ]  # fmt: skip
    (tmp_path / "toy.json").write_text(json.dumps(records))
    return {
        "task": {"name": "toy", "source": "file", "data": str(tmp_path / "toy.json")},
        "student": {"model": str(student)},
        "out": str(tmp_path / "runs"),
        "name": "c",
        "aligner": {"epochs": 1, "warmup": 0, "lora_rank": 4, "batch_size": 8, "learning_rate": 0.05},
        "predict": {"decode": "score"},
        "evaluate": {"bootstrap": 200},
    }


class Log(mint_core.Observer):
    """Which stages of which run were made, and which reused."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []
        self.run = ""

    def message(self, text: str) -> None:
        self.run = text if text.startswith("[") else self.run

    def stage(self, name: str, *, reused: bool, reason: str = "") -> None:
        if not reused:
            self.made.append((self.run, name))

    def count(self, stage: str) -> int:
        return sum(name == stage for _, name in self.made)


def rows(comparison) -> dict[str, dict]:
    return {row["name"]: row for row in comparison.content["rows"]}


def test_a_comparison_shares_labels_and_preferences_and_judges_all_rows_alike(toy) -> None:
    log = Log()
    result = mint_core.compare(
        toy, aligners=["base", "dpo", "sft", "orpo"], seeds=2, baselines=["oracle:sharpness=0.0"], observer=log
    )
    found = rows(result)
    assert list(found) == [
        "base",
        "dpo",
        "sft",
        "orpo",
        "teacher",
        "oracle:sharpness=0.0",
        "random list",
        "majority list",
    ]
    # the teacher and the baseline label once each, preferences are made once, the base row once
    assert (log.count("label"), log.count("prefer"), log.count("align")) == (2, 1, 6)
    assert found["base"]["runs"] == ["base"]
    assert found["orpo"]["runs"] == ["orpo-seed0", "orpo-seed1"]
    labels = {digest_of_path(result.path / run / "rankings") for run in ("base", "orpo-seed0", "dpo-seed1")}
    assert len(labels) == 1
    # each seed starts from the SFT of its own seed, although that row stands below
    assert found["dpo"]["starts_from"] == {"0": "sft-seed0", "1": "sft-seed1"}
    config = json.loads((result.path / "dpo-seed1" / "run.json").read_text())["config"]
    assert config["aligner"]["sft_adapter"] == str(result.path / "sft-seed1" / "adapter")
    assert config["align_seed"] == 1
    weights = [digest_of_path(result.path / f"orpo-seed{s}" / "adapter" / "adapter_model.safetensors") for s in (0, 1)]
    assert weights[0] != weights[1]
    # the teacher knows every label; the baseline is fitted and judged beside it
    assert found["teacher"]["subsets"][0]["metrics"]["top-1"]["mean"] == 1.0
    assert found["oracle:sharpness=0.0"]["subsets"][0]["metrics"]["top-1"]["mean"] < 1.0
    assert found["oracle:sharpness=0.0"]["subsets"][0]["metrics"]["car"]["mean"] < 1.0
    assert found["oracle:sharpness=0.0"]["subsets"][0]["n"] == 6


def test_the_record_agrees_with_the_runs_and_makes_the_comparison_again(toy) -> None:
    named = {**toy, "evaluate": {**toy["evaluate"], "pairs": [["Colon", "Liver"]]}}
    result = mint_core.compare(named, aligners=["base", "orpo"], seeds=2, baselines=["oracle:sharpness=0.0"])
    content = json.loads((result.path / "compare.json").read_text())
    assert content == json.loads(json.dumps(result.content))
    orpo = rows(result)["orpo"]["subsets"][0]["metrics"]["car"]
    means = []
    for seed in (0, 1):
        metrics = json.loads((result.path / f"orpo-seed{seed}" / "metrics.json").read_text())
        [aligned] = [row for row in metrics["rows"] if row["variant"] == "aligned"]
        means.append(aligned["metrics"]["car"]["mean"])
    assert list(orpo["per_seed"].values()) == pytest.approx(means)
    assert orpo["mean"] == pytest.approx(sum(means) / 2)
    assert orpo["sd"] == pytest.approx(abs(means[0] - means[1]) / 2**0.5)
    assert orpo["low"] <= orpo["mean"] <= orpo["high"]
    assert rows(result)["orpo"]["subsets"][0]["against"]["row"] == "base"
    assert "against" not in rows(result)["base"]["subsets"][0]
    table = pq.read_table(result.path / "samples.parquet").to_pylist()
    own = [line["metrics"]["car"] for line in table if line["row"] == "orpo"]
    assert sum(own) / len(own) == pytest.approx(orpo["mean"])
    for name in ("orpo", "oracle:sharpness=0.0", "teacher"):
        side = rows(result)[name]["confusable"][0]["sides"][0]
        ranks = [line["rank"] for line in table if line["row"] == name and line["truth"] == "Colon"]
        assert side["ranks"]["truth"]["mean"] == pytest.approx(sum(ranks) / len(ranks))
        assert rows(result)[name]["ranks_all"]
    assert "| Colon, not Liver: oracle:sharpness=0.0 | " in (result.path / "compare.md").read_text()
    for name in ("compare.png", "compare.svg", "compare.md", "compare.html"):
        assert (result.path / name).stat().st_size > 500
    text = (result.path / "compare.md").read_text()
    assert [line.split(" | ")[0] for line in text.partition("Calibration")[2].splitlines()[3:9]] == [
        "| ---", "| base", "| orpo", "| orpo, seed 0", "| orpo, seed 1", "| teacher",
    ]  # fmt: skip
    assert "oracle:sharpness=0.0" in (result.path / "compare.svg").read_text()
    page = (result.path / "compare.html").read_text()
    assert re.findall(r'href="([^#][^"]*)"', page.replace("xlink:", "")) == [
        f"{run}/report.html" for run in ("base", "orpo-seed0", "orpo-seed1")
    ]
    test = rows(result)["orpo"]["subsets"][0]["against"]["metrics"]["top-1"]
    for shown in ("<svg", "orpo - base", told_p(test), f"±{100 * orpo['sd']:.1f}", "ORPO: Mono"):
        assert shown in page, shown
    log = Log()
    again = mint_core.compare(result.path / "compare.json", observer=log)
    assert log.made == []
    assert again.content["rows"] == content["rows"]


def test_any_two_rows_are_tested_where_they_are_named(toy) -> None:
    baseline = "oracle:sharpness=0.0"
    given = {**toy, "compare": {"pairs": [["orpo", baseline], ["teacher", "random list"]]}}
    result = mint_core.compare(given, aligners=["base", "orpo"], seeds=1, baselines=[baseline])
    named = [(pair["first"], pair["second"], pair["subset"]) for pair in result.content["pairs"]]
    assert named == [("orpo", baseline, "all"), ("teacher", "random list", "all")]
    lines = pq.read_table(result.path / "samples.parquet").to_pylist()
    values = {
        name: {one["sample"]: one["metrics"]["car"] for one in lines if one["row"] == name}
        for name in ("orpo", baseline)
    }
    apart = [value - values[baseline][sample] for sample, value in values["orpo"].items()]
    found = result.content["pairs"][0]["metrics"]["car"]
    assert found["difference"] == pytest.approx(sum(apart) / len(apart))
    assert (found["wins"], found["losses"]) == (sum(one > 1e-9 for one in apart), sum(one < -1e-9 for one in apart))
    assert 0 < found["p_value"] <= 1
    assert f"orpo - {baseline}" in (result.path / "compare.md").read_text()
    again = mint_core.compare(result.path / "compare.json")
    assert again.content["pairs"] == result.content["pairs"]


def test_a_pair_whose_row_did_not_come_out_is_named(toy, mint, tmp_path: Path) -> None:
    """There is one teacher, and it has no row of another's name."""
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(toy))
    pairs = ("--pair", "teacher of base,base", "--pair", "teacher,base")
    answer = mint("compare", "-c", tmp_path / "c.yaml", "--aligners", "base", *pairs)
    assert answer.code == 0, answer.err
    assert "There is no row 'teacher of base', so that the pairs that name it are not tested." in answer.err
    assert "teacher - base" in answer.out


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["orpo"], "takes two rows"),
        ([["orpo", "base", "sft"]], "takes two rows"),
        (["orpo,bsae"], "no row 'bsae' to test; did you mean 'base'"),
        (["orpo,retriever"], "no row 'retriever'"),
        (["orpo,orpo"], "against itself"),
        (["orpo,a,b"], r"pairs: \[\[FIRST, SECOND\]\]"),
    ],
)
def test_pairs_that_there_are_not_are_refused_before_anything_starts(toy, pairs, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        mint_core.compare(toy, aligners=["base", "orpo"], pairs=pairs)
    assert not Path(toy["out"]).exists()


def test_an_interrupted_comparison_goes_on(toy) -> None:
    class Stop(Log):
        def stage(self, name: str, *, reused: bool, reason: str = "") -> None:
            super().stage(name, reused=reused, reason=reason)
            if self.run.startswith("[2/") and name == "predict":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mint_core.compare(toy, aligners=["base", "orpo"], seeds=1, observer=Stop())
    path = Path(toy["out"]) / "c"
    assert not (path / "compare.json").exists()
    assert json.loads((path / "orpo-seed0" / "run.json").read_text())["status"] == "interrupted"
    log = Log()
    mint_core.compare(toy, aligners=["base", "orpo"], seeds=1, observer=log)
    assert [stage for _, stage in log.made] == ["predict", "evaluate", "report"]
    log = Log()
    wider = mint_core.compare(toy, aligners=["base", "orpo"], seeds="0,4", observer=log)
    assert {run for run, _ in log.made} == {"[3/3] orpo, seed 4"}
    assert rows(wider)["orpo"]["seeds"] == [0, 4]


def test_rows_with_overlays_from_flags_and_yaml(toy, mint, tmp_path: Path) -> None:
    toy["compare"] = {
        "rows": [{"name": "with passages", "aligner": None, "retriever": "echo"}],
        "seeds": [3],
    }
    config = tmp_path / "mint.yaml"
    config.write_text(yaml.safe_dump(toy))
    answer = mint(
        "compare", "-c", config, "--aligners", "base", "--row", "narrow=orpo:weight=0.5,strategy.k=1,strategy.q=1"
    )
    assert answer.code == 0, answer.err
    for shown in ("base", "narrow", "with passages", "teacher", "random list", "with passages - narrow"):
        assert shown in answer.out
    path = Path(toy["out"]) / "c"
    narrow = json.loads((path / "narrow-seed3" / "run.json").read_text())["config"]
    assert (narrow["aligner"]["weight"], narrow["strategy"]["k"], narrow["align_seed"]) == (0.5, 1, 3)
    assert narrow["aligner"]["epochs"] == 1  # what all aligners share
    assert json.loads((path / "with-passages" / "run.json").read_text())["config"]["retriever"] == {"name": "echo"}
    listed = {one["folder"]: one for one in json.loads(mint("runs", "--out", path.parent, "--json").out)}
    assert listed.keys() == {"c", "c/base", "c/narrow-seed3", "c/with-passages"}
    assert (listed["c"]["task"], listed["c"]["teacher"], listed["c"]["state"]) == ("toy", "oracle", "complete")
    assert listed["c"]["aligner"] == "base, narrow, with passages" and listed["c"]["figure"].startswith("Top-2 ")
    before = {name: (path / name).read_bytes() for name in ("compare.md", "compare.svg")}
    for name in before:
        (path / name).unlink()
    again = mint("report", path)
    assert (again.code, again.out) == (0, f"{path / 'compare.html'}\n"), again.err
    assert (path / "compare.md").read_bytes() == before["compare.md"] and (path / "compare.svg").is_file()
    (path / "compare.json").write_text("{}")
    assert "compare.json is damaged" in mint("report", path).err


def test_a_sweep_has_one_row_per_ratio(toy, mint, tmp_path: Path) -> None:
    config = tmp_path / "mint.yaml"
    config.write_text(yaml.safe_dump(toy))
    answer = mint("sweep", "-c", config, "--aligner", "orpo", "--aor", "2/2, 2/4", "--seeds", "1")
    assert answer.code == 0, answer.err
    assert answer.err.count("label     done") == 1
    assert answer.err.count("prefer    done") == 2
    path = Path(toy["out"]) / "c"
    content = json.loads((path / "sweep.json").read_text())
    assert [row["name"] for row in content["rows"]] == ["2/2", "2/4", "teacher", "random list", "majority list"]
    assert content["config"]["sweep"] == {"aor": ["2/2", "2/4"], "seeds": [0]}
    for run, q in (("2-2-seed0", 2), ("2-4-seed0", 4)):
        preferences = pq.read_table(path / run / "preferences" / "preferences.parquet").to_pylist()
        assert {len(row["rejected"][0]) for row in preferences} == {q}
    assert "2/4" in (path / "sweep.svg").read_text()
    assert (path / "sweep.png").stat().st_size > 500
    log = Log()
    mint_core.sweep(path / "sweep.json", observer=log)
    assert log.made == []


def test_two_processes_cannot_share_a_comparison(toy) -> None:
    from filelock import FileLock

    path = Path(toy["out"]) / "c"
    path.mkdir(parents=True)
    with FileLock(path / ".lock"), pytest.raises(StorageError, match="Another process"):
        mint_core.compare(toy, aligners=["base"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--aligners", ""], "name of letters or digits"),
        ([], "needs rows"),
        (["--aligners", "base,orpo,base"], "'base' and 'base' share a name"),
        (["--row", "soft=orpo", "--row", "SOFT=sft"], "'soft' and 'SOFT' share a name"),
        (["--aligners", "orpo", "--row", "orpo-seed0=base"], "share the folder orpo-seed0"),
        (["--row", "teacher=orpo"], "a row 'teacher' already"),
        (["--aligners", "base,oprpo"], "did you mean 'orpo'"),
        (["--aligners", "base", "--aligner", "orpo"], "--aligners"),
        (["--aligners", "orpo", "--seeds", ""], "list of seeds is empty"),
        (["--aligners", "orpo", "--seeds", "0"], "list of seeds is empty"),
        (["--aligners", "orpo", "--seeds", "1,1"], "must be different"),
        (["--aligners", "orpo", "--seeds", "one"], "a count or a list"),
        (["--aligners", "base", "--row", "soft"], "NAME=aligner"),
        (["--row", "soft=orpo:wieght=1"], "did you mean 'weight'"),
        (["--row", "soft=orpo:strateggy.k=1"], "did you mean 'strategy'"),
        (["--row", "soft=orpo:evaluate.split=val"], "must be the same for all rows"),
        (["--aligners", "base", "--baseline", "orakle"], "did you mean 'oracle'"),
        (["--aligners", "base", "--baseline", ":x=1"], "--baseline takes"),
        (["--aligners", "orpo", "--set", "align_seed=3"], "--seeds"),
        (["--row", "hard=orpo:strategy.k=4,strategy.q=4"], "Row 'hard': strategy 'listwise': k + q = 4 + 4"),
        (["--row", "slow=orpo:warmup=500"], "Row 'slow': The warm-up of 500 steps"),
        (["--row", "slow=dpo:warmup=20,epochs=1,sft_epochs=50"], "Row 'slow': The warm-up of 20 steps"),
        (["--row", "plain=base:epochs=3"], "trains nothing"),
        (["--set", "compare.rowz=[]", "--aligners", "base"], "did you mean 'rows'"),
        (["--set", "compare.seeds=[0, a]", "--aligners", "base"], "a count or a list of numbers"),
        (["--set", "compare.seeds=2.5", "--aligners", "base"], "a count or a list of numbers"),
        (["--set", "compare.baselines=[{name: oracle}]", "--aligners", "base"], "`baselines` takes a list"),
        (["--aligners", "base", "--set", "teacher.name=5"], "`teacher.name` must be a name"),
        (["--set", "compare=[{aligner: orpo}]"], "needs a `name`"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_starts(toy, mint, tmp_path: Path, arguments, sentence) -> None:
    config = tmp_path / "mint.yaml"
    config.write_text(yaml.safe_dump(toy))
    answer = mint("compare", "-c", config, *arguments)
    assert answer.code == 2, answer.err
    last = answer.err.strip().splitlines()[-1]
    assert sentence in last
    assert not Path(toy["out"]).exists()


@pytest.mark.parametrize(
    ("aor", "sentence"),
    [("2:2", "takes ratios"), ("", "takes ratios"), ("0/2", "takes ratios"), ("2/2,2/2", "share a name"),
     ("5/5", "k + q = 5 + 5"), (None, "at least one ratio")],
)  # fmt: skip
def test_ratios_that_make_no_sweep(toy, mint, tmp_path: Path, aor: str | None, sentence: str) -> None:
    config = tmp_path / "mint.yaml"
    config.write_text(yaml.safe_dump(toy))
    answer = mint("sweep", "-c", config, *(["--aor", aor] if aor is not None else []))
    assert answer.code == 2
    assert sentence in answer.err
    unaligned = mint("sweep", "-c", config, "--aor", "2/2", "--aligner", "none")
    assert (unaligned.code, "name an aligner" in unaligned.err) == (2, True)


def test_seeds_by_hand() -> None:
    assert parse_seeds("3", 0) == parse_seeds(3, 0) == (0, 1, 2)
    assert parse_seeds("3", 5) == (5, 6, 7)
    assert parse_seeds("0,5,7", 9) == parse_seeds([0, 5, 7], 9) == (0, 5, 7)
    assert parse_seeds("7,", 0) == (7,)


def test_every_row_with_every_student_by_hand() -> None:
    rows = student_rows(["org/A-1B", "/models/b.gguf"], [parse_row("base=base"), parse_row("soft=orpo:weight=0.1")])
    assert [row.name for row in rows] == ["A-1B base", "A-1B soft", "b.gguf base", "b.gguf soft"]
    assert rows[3].overlay == {
        "aligner": {"name": "orpo", "weight": 0.1},
        "student": {"model": "/models/b.gguf"},
    }
    with pytest.raises(ConfigError, match="needs rows"):
        student_rows(["a"], [])
    with pytest.raises(ConfigError, match="may set `student`"):
        student_rows(["a"], [Row("x", {"student": {"model": "b"}})])


def test_short_forms_of_rows_by_hand() -> None:
    assert parse_row("soft=orpo:weight=0.1,strategy.k=5") == Row(
        "soft", {"aligner": {"name": "orpo", "weight": 0.1}, "strategy": {"k": 5}}
    )
    assert parse_row("rag=base:retriever.name=hpo") == Row("rag", {"aligner": None, "retriever": {"name": "hpo"}})
    where = (
        "predict.engine=endpoint,predict.endpoint.url=http://localhost:8000/v1?a=b,predict.endpoint.model=org/NAME:8b"
    )
    assert parse_row(f"asked=base:{where}").overlay["predict"] == {
        "engine": "endpoint", "endpoint": {"url": "http://localhost:8000/v1?a=b", "model": "org/NAME:8b"},
    }  # fmt: skip
    assert parse_ratios(["10/15"]) == [Row("10/15", {"strategy": {"k": 10, "q": 15}})]
    assert parse_ratios("10/15") == parse_ratios(["10/15"])
    assert Row("10/15", {}).folder == "10-15"


def test_dpo_starts_from_the_sft_row_that_trains_what_it_asks_for(toy) -> None:
    """A row that asks for another SFT phase, or another shape, trains its own."""

    def starts(*texts: str) -> dict[str, str | None]:
        made = make_schedule("compare", toy, [parse_row(text) for text in texts], [0])
        return {run.row.name: run.starts_from for run in made.runs}

    assert starts("sft=sft", "dpo=dpo", "same=dpo:sft_epochs=1", "more=dpo:sft_epochs=2", "wide=dpo:lora_rank=8") == {
        "sft": None, "dpo": "sft-seed0", "same": "sft-seed0", "more": None, "wide": None,
    }  # fmt: skip
    assert starts("a=sft:epochs=1", "b=sft:epochs=3", "dpo=dpo:sft_epochs=3")["dpo"] == "b-seed0"


def test_a_baseline_reads_the_samples_on_which_it_is_judged(toy) -> None:
    rows = [parse_row("one=base:task.n=2"), parse_row("two=base")]
    made = make_schedule("compare", toy, rows, [0], baselines=[parse_baseline("oracle:sharpness=0.0")])
    assert made.baseline_runs[0].resolved.task.config.n == 2


def record(sample: str, value: float | None, cohort: str | None = None, seen: bool = True) -> dict:
    return {"sample": sample, "group": None, "cohort": cohort, "seen": seen, "truth": "x", "content": "", "lists": "",
            "metrics": {"m": value}, "why": {}, "ungated": {}, "answer": [], "subgroups": {}}  # fmt: skip


def of_seed(values: dict[str, float | None]) -> dict[str, dict]:
    return {sample: record(sample, value) for sample, value in values.items()}


def test_a_summary_by_hand() -> None:
    """Two seeds of row b: sample 1 has 1 and 0, so .5; sample 2 has 1 and 1; sample 3 is unscored.

    Means of the seeds 1 and 1/2: mean 3/4, SD sqrt(((1/4)^2 + (1/4)^2) / 1) = 0.3536. Against row a (0, 1): differences
    .5 and 0, one win and one tie; of the two sign flips of the one difference both reach it, so p = 1.
    """
    first = RowValues("a", "student", ("a",), {None: of_seed({"1": 0.0, "2": 1.0, "3": None})})
    second = RowValues(
        "b", "student", ("b0", "b1"),
        {0: of_seed({"1": 1.0, "2": 1.0, "3": None}), 1: of_seed({"1": 0.0, "2": 1.0, "3": None})},
    )  # fmt: skip
    other = RowValues("t", "teacher", ("a",), {None: of_seed({"1": 1.0, "2": 1.0, "3": 1.0})})
    found = summarise([first, second, other], M, HOW)
    metric = found[1]["subsets"][0]["metrics"]["m"]
    assert (metric["mean"], metric["n"], metric["unscored"]) == (0.75, 2, 1)
    assert metric["per_seed"] == {"0": 1.0, "1": 0.5}
    assert metric["sd"] == pytest.approx(0.35355, abs=1e-5)
    test = found[1]["subsets"][0]["against"]["metrics"]["m"]
    assert (test["difference"], test["wins"], test["ties"], test["losses"], test["p_value"]) == (0.25, 1, 1, 0, 1.0)
    assert "against" not in found[2]["subsets"][0]


def test_rows_are_compared_on_the_samples_that_both_have() -> None:
    first = RowValues("a", "student", ("a",), {None: of_seed({"1": 0.0, "2": 1.0})})
    second = RowValues("b", "student", ("b",), {None: of_seed({"2": 0.0, "3": 1.0})})
    alone = RowValues("c", "student", ("c",), {None: of_seed({"9": 0.0})})
    found = summarise([first, second, alone], M, HOW)
    test = found[1]["subsets"][0]["against"]["metrics"]["m"]
    assert (test["difference"], test["n"]) == (-1.0, 1)
    lost = found[2]["subsets"][0]["against"]["metrics"]["m"]
    assert (lost["difference"], lost["reason"]) == (None, "other samples")


def test_rows_are_paired_on_equal_samples_alone(toy, mint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids alone say nothing: another k and q ask CAR for other labels, another seed of a task draws other patients."""
    monkeypatch.setenv("COLUMNS", "250")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(toy))
    rows = ["narrow=base:strategy.k=1,strategy.q=1", "others=base:task.secret=ANOTHER-COHORT"]
    flags = [flag for row in rows for flag in ("--row", row)]
    answer = mint("compare", "-c", tmp_path / "c.yaml", "--aligners", "base", *flags, "--pair", "teacher,others")
    assert answer.code == 0, answer.err
    content = json.loads((tmp_path / "runs" / "c" / "compare.json").read_text())
    narrow, others = (row["subsets"][0]["against"]["metrics"] for row in content["rows"][1:3])
    assert (narrow["car"]["difference"], narrow["car"]["reason"]) == (None, "other lists of the teacher")
    assert (narrow["top-1"]["difference"], narrow["top-1"]["n"], narrow["top-1"]["reason"]) == (0.0, 6, None)
    assert {test["reason"] for test in others.values()} == {"other samples"}
    assert {test["difference"] for test in others.values()} == {None}
    assert {test["reason"] for test in content["pairs"][0]["metrics"].values()} == {"other samples"}
    for shown in (answer.out, (tmp_path / "runs" / "c" / "compare.md").read_text()):
        assert "other lists of the teacher: the metric reads the teacher's lists" in shown
        assert "other samples: no sample of one row is in the other" in shown
    lines = pq.read_table(tmp_path / "runs" / "c" / "samples.parquet").to_pylist()
    contents, lists = ({row: {one[key] for one in lines if one["row"] == row} for row in ("base", "narrow", "others")}
                       for key in ("content", "lists"))  # fmt: skip
    assert contents["base"] == contents["narrow"]
    assert contents["base"].isdisjoint(contents["others"])
    assert lists["base"].isdisjoint(lists["narrow"])


def test_samples_of_other_content_are_left_out_by_hand() -> None:
    """Sample 2 is another one in the second row, and sample 3 has other lists there: M has n = 2, C reads 1 alone."""
    both = Columns({"m": "M", "c": "C"}, {"m": "", "c": ""}, frozenset({"c"}))

    def of(name: str, value: float, **digests: dict) -> RowValues:
        records = {
            i: {**record(i, None), "metrics": {"m": value, "c": value}, **digests.get(f"s{i}", {})} for i in "123"
        }
        return RowValues(name, "student", (name,), {None: records})

    rows = [of("a", 0.0), of("b", 1.0, s2={"content": "x"}, s3={"lists": "y"})]
    tests = summarise(rows, both, HOW)[1]["subsets"][0]["against"]["metrics"]
    assert [(tests[key]["n"], tests[key]["apart"], tests[key]["reason"]) for key in "mc"] == [
        (2, 1, None),
        (1, 2, None),
    ]
    content = {
        "kind": "compare", "simulated": False, "split": "test", "seeds": [0], "confidence": 0.95,
        "titles": both.titles, "rules": both.rules, "rows": summarise(rows, both, HOW),
    }  # fmt: skip
    grid = grids(content)[1]
    assert [cell.rpartition(", ")[2] for cell in grid.parts[0][0][1:]] == ["1 left out", "2 left out"]
    assert grid.notes == [
        "left out: samples that both rows have, but not with the same content or lists of the teacher."
    ]


ASKED = "predict.engine=endpoint,predict.decode=free"


def test_a_row_of_a_model_that_is_only_asked(toy, mint, tmp_path: Path, monkeypatch, serve) -> None:
    """A model on a server stands beside ordinary rows, and the tables say how it was asked."""
    monkeypatch.setenv("COLUMNS", "250")
    server = serve(says("Let me think.\n" + LIST))
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(toy))
    where = f"predict.endpoint.url={server.url}?api-version=secret-word,predict.endpoint.model=big-model"
    flags = ["--row", f"asked=base:{ASKED},{where}"]
    flags += ["--row", f"reasons=base:{ASKED},{where},predict.shots=1,predict.reason=true"]
    answer = mint("compare", "-c", tmp_path / "c.yaml", "--aligners", "base,orpo", "--seeds", "1", *flags)
    assert answer.code == 0, answer.err
    path = tmp_path / "runs" / "c"
    rows = {row["name"]: row for row in json.loads((path / "compare.json").read_text())["rows"]}
    place = f"{server.url}/chat/completions"
    shown = {"engine": "endpoint", "endpoint": place, "model": "big-model"}
    assert rows["asked"]["asked"] == {**shown, "shots": 0, "reason": False}
    assert rows["orpo"]["asked"] == {"engine": "transformers", "shots": 0, "reason": False}
    assert {request["model"] for _, request in server.requests} == {"big-model"}
    assert len(server.requests) == 12  # six test samples, two rows
    assert rows["asked"]["subsets"][0]["metrics"]["top-n"]["n"] == 6
    assert rows["asked"]["subsets"][0]["against"]["metrics"]["car"]["n"] == 6
    # what stands before the list breaks the format, unless it was asked for
    assert [rows[name]["subsets"][0]["metrics"]["hfa"]["mean"] for name in ("asked", "reasons")] == [0.0, 1.0]
    plain = f"asked: asked: model big-model at {place}"
    long = (
        f"reasons: asked: model big-model at {place}, one solved example, "
        "reasons before the list (the last list counts, for HFA too)"
    )
    for page in (answer.out, (path / "compare.md").read_text()):
        assert long in page
        assert plain in [line.strip() for line in page.splitlines()]
        assert "orpo: asked" not in page
    report = (path / "reasons" / "report.html").read_text()
    assert f"; {long.removeprefix('reasons: ')}</dd>" in report
    for file in (path / "compare.md", *(path / "reasons" / name for name in ("report.html", "metrics.json"))):
        assert "secret-word" not in file.read_text(), file
    assert "; asked:" not in (path / "orpo-seed0" / "report.html").read_text()


def test_a_metric_with_two_titles_has_two_columns() -> None:
    """Top-5 of one row is not Top-10 of another, although the metric has one name."""
    runs = [
        {"titles": {"top-n": f"Top-{n}", "hfa": "HFA"}, "rules": {"top-n": "t", "hfa": "h"}, "reads_teacher": []}
        for n in (5, 10)
    ]
    found = Columns.of(runs)
    assert found.titles == {"top-n (Top-5)": "Top-5", "hfa": "HFA", "top-n (Top-10)": "Top-10"}
    records = {"1": {**record("1", None), "metrics": {"top-n": 1.0, "hfa": 0.0}}}
    assert found.keyed(records, runs[1]["titles"])["1"]["metrics"] == {"top-n (Top-10)": 1.0, "hfa": 0.0}


def test_names_in_brackets_stay_what_they_are() -> None:
    row = RowValues("b[/x] [red]", "student", ("a",), {None: {"1": record("1", 1.0)}})
    content = {
        "kind": "compare", "simulated": False, "split": "test", "seeds": [0], "confidence": 0.95, "titles": M.titles,
        "rows": summarise([row], M, HOW),
    }  # fmt: skip
    console = Console(file=io.StringIO(), width=200)
    console.print(tables(content)[0])
    assert "b[/x] [red]" in console.file.getvalue()


def test_a_bar_stands_beside_its_name_where_another_row_lacks_the_metric() -> None:
    both = Columns({"M5": "M5", "M10": "M10"}, {}, frozenset())
    rows = [
        RowValues(name, "student", (name,), {None: {"1": {**record("1", None), "metrics": {title: 1.0}}}})
        for name, title in (("five", "M5"), ("ten", "M10"))
    ]
    content = {
        "kind": "compare", "simulated": False, "split": "test", "seeds": [0], "confidence": 0.95,
        "titles": both.titles, "rows": summarise(rows, both, HOW),
    }  # fmt: skip
    five, ten = _figure(content).axes
    assert [bar.get_y() + bar.get_height() / 2 for bar in five.patches] == [0]
    assert [bar.get_y() + bar.get_height() / 2 for bar in ten.patches] == [1]
    assert five.get_ylim() == ten.get_ylim()


def test_a_dollar_sign_in_a_name_opens_no_formula(tmp_path: Path) -> None:
    title, row = r"100 $ of \frac", RowValues(r"$\frac$", "student", ("a",), {None: {"1": record("1", 1.0)}})
    content = {
        "kind": "compare", "simulated": False, "split": "test", "seeds": [0], "confidence": 0.95,
        "titles": {"m": title}, "rows": summarise([row], M, HOW),
    }  # fmt: skip
    draw(content, tmp_path / "c")
    assert title in (tmp_path / "c.svg").read_text()


def test_tables_name_subsets_and_escape_markdown() -> None:
    records = {"1": record("1", 1.0), "2": record("2", 0.0, seen=False), "3": record("3", 1.0, cohort="clinic|B")}
    row = RowValues("a|b", "student", ("a",), {None: records})
    content = {
        "kind": "compare", "simulated": True, "split": "test", "seeds": [0], "confidence": 0.95, "titles": M.titles,
        "source": "Somewhere.", "test": "none", "rules": M.rules, "rows": summarise([row], M, HOW),
    }  # fmt: skip
    names = [line[0] for part in grids(content)[0].parts for line in part]
    subsets = ["all", "seen", "unseen", "clinic|B", "clinic|B: seen"]
    assert names == [f"{subset}: a|b" for subset in subsets]
    text = markdown(content)
    assert "| clinic\\|B: a\\|b | 1 | 100.0 [100.0, 100.0] |" in text
    assert text.startswith("SIMULATED data")


def test_a_stage_is_adopted_only_where_it_is_whole(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "a") as made:
        out = made.workspace("label", "key" * 6) / "out"
        (out / "rankings").mkdir()
        (out / "rankings" / "x.txt").write_text("content")
        made.commit("label", "key" * 6, {"a": 1}, seconds=1.5, peak=7, facts={"n": 2})
    with RunFolder(tmp_path / "b") as other:
        assert other.adopt("label", "another", made) is None
        adopted = other.adopt("label", "key" * 6, made)
        assert adopted == made.manifest("label") == other.complete("label", "key" * 6)
        assert not list((tmp_path / "b" / ".work").iterdir())
    (tmp_path / "a" / "rankings" / "x.txt").write_text("tampered")
    with RunFolder(tmp_path / "c") as third:
        assert third.adopt("label", "key" * 6, made) is None
        assert not (tmp_path / "c" / "rankings").exists()
    shutil.rmtree(tmp_path / "a")
    with RunFolder(tmp_path / "c") as third:
        assert third.adopt("label", "key" * 6, made) is None
