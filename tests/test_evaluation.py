"""The files of an evaluation, and the tables made from them, with metrics that a stranger wrote."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

import mint_core
from mint_core.errors import ConfigError
from mint_core.report.table import columns

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
STRANGER = '''
from pydantic import Field
from mint_core import hookimpl
from mint_core.interfaces import ComponentConfig, Metric


def metric(own_name, own_title, said):
    class Own(Metric):
        """Says one value."""

        name = own_name

        class Config(ComponentConfig):
            value: float = Field(said, description="What it says.")
            word: str = Field("", description="Says nothing.")

        def score(self, sample):
            return self.config.value

        def title(self, n):
            return own_title

        def rule(self):
            return f"{own_name} says {self.config.value}."

    return Own


METRICS = [
    metric("count", "n", 0.25),
    metric("groups", "group", 0.5),
    metric("one", "Same", 0.125),
    metric("other", "Same", 0.75),
    metric("third", "Equal", 1.0),
    metric("fourth", "Equal", 1.0),
    metric("marked", "<b>[red]x[/y]", 0.0),
]


@hookimpl
def mint_metrics():
    return METRICS
'''
NAMES = ["count", "groups", "one", "other", "third", "fourth", "marked"]


@pytest.fixture
def toy(install_plugin, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    install_plugin("mint-stranger", "stranger_under_test", STRANGER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    return {
        "task": {"name": "toy", "source": "simulated"},
        "student": {"model": str(folder)},
        "out": str(tmp_path / "runs"),
        "name": "r",
        "aligner": None,
        "predict": {"decode": "score"},
        "evaluate": {"bootstrap": 100},
        "metrics": NAMES,
    }


def test_titles_collide_with_nothing(toy, mint, tmp_path: Path) -> None:
    """Titled `n`, `group`, or like another one: none of them takes the place of anything."""
    (tmp_path / "mint.yaml").write_text(yaml.safe_dump(toy))
    answer = mint("run", "-c", tmp_path / "mint.yaml")
    assert answer.code == 0, answer.err
    path = tmp_path / "runs" / "r"
    metrics = json.loads((path / "metrics.json").read_text())
    assert metrics["titles"] == dict(
        zip(NAMES, ["n", "group", "Same", "Same", "Equal", "Equal", "<b>[red]x[/y]"], strict=True)
    )
    assert metrics["rules"]["other"] == "other says 0.75."
    base = metrics["rows"][0]
    assert (base["variant"], base["n"]) == ("base", 8)
    means = {key: estimate["mean"] for key, estimate in base["metrics"].items()}
    assert means == dict(zip(NAMES, [0.25, 0.5, 0.125, 0.75, 1.0, 1.0, 0.0], strict=True))
    # the bootstrap draws the samples' groups, eight of them, whatever a metric is called
    assert {estimate["clusters"] for estimate in base["metrics"].values()} == {8}
    line = pq.read_table(path / "samples.parquet").to_pylist()[0]
    assert (line["group"], line["metrics"]["groups"]) == ("g0", 0.5)
    command = f"<code>mint run -c {tmp_path / 'mint.yaml'}</code>"
    assert command in (path / "report.html").read_text()
    assert mint("report", path).code == 0
    assert command in (path / "report.html").read_text()  # that of the run, whoever draws the page
    for page in (answer.out, (path / "report.html").read_text()):
        for shown in ("Same (one)", "Same (other)", "Equal"):
            assert shown in page
        assert "Equal (" not in page
    assert "<b>[red]x[/y]" in answer.out
    assert "&lt;b&gt;[red]x[/y]" in (path / "report.html").read_text()
    assert "<b>" not in (path / "report.html").read_text()


def test_a_metric_with_several_options_has_several_keys(toy) -> None:
    toy["metrics"] = ["one", {"name": "one", "value": 0.5, "word": "odd"}, "other"]
    found = mint_core.run(toy).metrics
    assert list(found["titles"]) == ["one", "one:value=0.5,word=odd", "other"]
    assert found["rows"][0]["metrics"]["one:value=0.5,word=odd"]["mean"] == 0.5
    again = mint_core.run(Path(toy["out"]) / "r" / "run.json")
    assert "evaluate" in again.reused


def test_one_metric_twice_is_refused(toy) -> None:
    toy["metrics"] = ["one", {"name": "one", "value": 0.125}]
    with pytest.raises(ConfigError, match="The metric 'one' is there twice with the same options"):
        mint_core.run(toy)
    assert not Path(toy["out"]).exists()


def test_columns_by_hand() -> None:
    titles = {"a": "T", "b": "T", "c": "U"}
    assert columns(titles, [{"a": 1, "b": 1, "c": 2}]) == [("a", "T"), ("c", "U")]
    assert columns(titles, [{"a": 1, "b": 1, "c": 2}, {"a": 1, "b": 0, "c": 2}]) == [
        ("a", "T (a)"), ("b", "T (b)"), ("c", "U"),
    ]  # fmt: skip
