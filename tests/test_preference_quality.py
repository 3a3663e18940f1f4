"""What preferences are worth before any training: each measure by hand, and the command on a real run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import mint_core
from mint_core.aligners.batches import GroupLogProbs
from mint_core.aligners.losses import ResponseLogProbs
from mint_core.aligners.overlap import pair_values
from mint_core.interfaces import Context
from mint_core.preferences.quality import sample_values
from mint_core.preferences.topk import Listwise
from mint_core.report.quality import quality_line, quality_told
from mint_core.types import LabelSpace, Ranking
from tests.tiny_students import build

pytestmark = pytest.mark.usefixtures("one_thread")
TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
NAMES = ("Colon", "Liver", "Skin", "Lung")


def ranking(sample: str, shares: dict[str, float]) -> Ranking:
    return Ranking(sample, tuple(shares), np.log(np.array(list(shares.values()), np.float32)))


def test_measures_of_the_teacher_by_hand() -> None:
    """k = 2, q = 1. p: the teacher is right; q: the truth is its second; r: its last; s: nobody knows the truth."""
    strategy = Listwise(Listwise.Config(k=2, q=1), Context(LabelSpace(NAMES), 2))
    shares = {"Colon": 0.4, "Liver": 0.3, "Skin": 0.2, "Lung": 0.1}
    rankings = [ranking(sample, shares) for sample in "pqrs"]
    truths = ["Colon", "Liver", "Lung", None]
    groups = {r.sample_id: strategy.groups(r, t) for r, t in zip(rankings, truths, strict=True)}
    found = sample_values(strategy, rankings, truths, groups)
    assert found["top_1"] == [1, 0, 0, None]
    assert found["top_k"] == [1, 1, 0, None]
    assert found["promoted"] == [0, 1, 1, None]
    assert found["brought_in"] == [0, 0, 1, None]
    # Chosen Colon, Liver against Lung: log 0.3 / 0.1. Of r the chosen are Lung, Colon and the rejected one is Skin.
    assert found["margin"] == pytest.approx([np.log(3), np.log(3), np.log(0.1 / 0.2), np.log(3)])
    assert found["reversed"] == [0, 0, 1, 0]
    entropy = -sum(p * np.log(p) for p in shares.values()) / np.log(4)
    assert found["entropy"] == pytest.approx([entropy] * 4)


def test_a_sure_and_an_ignorant_teacher() -> None:
    strategy = Listwise(Listwise.Config(k=1, q=1), Context(LabelSpace(NAMES), 1))
    with np.errstate(divide="ignore"):
        sure = ranking("p", {"Colon": 1.0, "Liver": 0.0, "Skin": 0.0, "Lung": 0.0})
    even = ranking("q", dict.fromkeys(NAMES, 0.25))
    found = sample_values(strategy, [sure, even], [None, None], {"p": strategy.groups(sure, None)})
    assert found["entropy"] == pytest.approx([0, 1])
    assert found["margin"] == [pytest.approx(-np.log(1e-9), rel=1e-6), None]  # finite; and q has no preferences
    assert found["promoted"] == [None, None]


def probs(*averages: float) -> ResponseLogProbs:
    average = torch.tensor(averages).log()
    return ResponseLogProbs(average, average, torch.ones(len(averages), dtype=torch.long))


def test_measures_of_the_student_by_hand() -> None:
    """Odds 1 and 1/9 against 1/99 and 1/4: ratios log 99, log 4, log 11, log 4/9; three of four pairs agree.

    What is left of the gradient is 1 / (1 + odds ratio): 1/100, 1/5, 1/12, 9/13. Weights 3/4, 1/4 and 1/2, 1/2.
    """
    none = torch.zeros(0)
    group = GroupLogProbs(
        probs(0.5, 0.1), probs(0.01, 0.2), torch.tensor([0.75, 0.25]), torch.tensor([0.5, 0.5]), none, none, none
    )
    found = pair_values(group)
    share = np.array([0.375, 0.375, 0.125, 0.125])
    assert found == {
        "agrees": pytest.approx(0.875),
        "log_odds_ratio": pytest.approx(share @ np.log([99, 4, 11, 4 / 9]), rel=1e-5),
        "weight": pytest.approx(share @ [1 / 100, 1 / 5, 1 / 12, 9 / 13], rel=1e-5),
        "dead": pytest.approx(0.375),
    }


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("llama", tmp_path_factory.mktemp("student") / "llama")


@pytest.fixture
def config(install_plugin, tmp_path: Path, student: Path, monkeypatch) -> Path:
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    content = {
        "task": {"name": "toy", "secret": "patient"}, "student": {"model": str(student), "device": "cpu"},
        "strategy": {"name": "pairwise", "k": 2, "q": 3}, "aligner": {"name": "orpo", "warmup": 0}, "name": "q",
    }  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "c.yaml"


def test_the_command_judges_preferences_and_asks_the_student_once(mint, config: Path, monkeypatch) -> None:
    plain = mint("prefer", "--config", config)
    assert plain.code == 0, plain.err
    assert "right label first in 100.0 [100.0, 100.0] % of 16 labelled training samples" in plain.out
    assert "Base student" not in plain.out
    assert "Preferences: the teacher's Top-1 is 100.0 %, its Top-2 100.0 % (n = 16)" in plain.err
    asked = mint("prefer", "--config", config, "--student-groups", 5)
    assert asked.code == 0, asked.err
    assert "Base student, asked for 5 of 16 groups" in asked.out
    kept = json.loads(Path("runs/q/overlap.json").read_text())
    assert (kept["n"], kept["of"], kept["measures"]["agrees"]["n"]) == (5, 16, 5)
    assert 0 < kept["measures"]["weight"]["mean"] < 1

    def loaded(*_, **__):
        raise AssertionError("the student was loaded again")

    monkeypatch.setattr("mint_core.students.load.load_student", loaded)
    again = mint("prefer", "--config", config, "--student-groups", 5)
    assert (again.code, again.out) == (0, asked.out), again.err
    assert "Base student" in mint("prefer", "--config", config).out  # known, and told without being asked again
    other = mint_core.prefer(config, overrides=("strategy.q=2",))
    assert "student" not in other.quality  # it was asked about others
    assert other.quality["measures"]["top_1"]["mean"] == 1.0


def test_bad_input(mint, config: Path) -> None:
    answer = mint("prefer", "--config", config, "--student-groups", 0)
    assert (answer.code, "--student-groups" in answer.err) == (2, True)
    answer = mint("prefer", "--config", config, "--aligner", "none", "--student-groups", 3)
    assert (answer.code, "A run without an aligner has no stage 'prefer'" in answer.err) == (2, True)


def test_pairs_that_are_too_easy_are_called_so() -> None:
    one = {"mean": 0.9, "low": 0.8, "high": 1.0, "n": 10}
    none = dict.fromkeys(("mean", "low", "high"), None) | {"n": 0}
    teacher = dict.fromkeys(("margin", "entropy", "reversed"), one)
    teacher |= dict.fromkeys(("top_1", "top_k", "promoted", "brought_in"), none)
    content = {"measures": teacher, "k": 2, "strategy": "pairwise", "groups": 10}
    assert quality_line(content) == "Preferences: margin 0.90 nats, normalised entropy 0.90."
    student = {"n": 10, "of": 10, "measures": dict.fromkeys(("agrees", "log_odds_ratio", "weight", "dead"), one)}
    assert "dead from the start" in quality_told({**content, "student": student})[-1]
    student["measures"]["dead"] = {**one, "mean": 0.4}
    assert "dead from the start" not in " ".join(quality_told({**content, "student": student}))
