"""The time that a run will take, said before its first stage."""

from pathlib import Path

import pytest

from mint_core.config import resolve
from mint_core.observer import Observer
from mint_core.planning.plan import make_plan
from mint_core.plugins import registry
from mint_core.stages.expected import expected, told
from mint_core.stages.run import Run

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("seconds", "sentence"),
    [
        ({"align": 30, "predict": 20}, ""),
        ({"align": 280, "predict": 20}, "roughly 5 min (align 5 min, predict less than a minute)"),
        ({"align": 1250, "predict": 600}, "roughly 30 min (align 20 min, predict 10 min)"),
        ({"align": 9000}, "roughly 2.5 h, judging"),
        ({"align": 180_000}, "roughly 50 h"),
    ],
)
def test_it_is_told_as_precisely_as_it_is_known(seconds, sentence: str) -> None:
    assert sentence in told(seconds)
    assert bool(told(seconds)) == bool(sentence)


@pytest.fixture
def run(install_plugin, tmp_path: Path, folder: Path):
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)

    def build(**config) -> Run:
        base = {"task": "toy", "out": str(tmp_path / "runs"), "student": {"model": str(folder), "device": "cpu"}}
        return Run(resolve({**base, **config}, registry()), tmp_path / "r", Observer(), tmp_path / "c")

    return build


@pytest.mark.parametrize("aligner", [{"name": "orpo", "share_prompt": False}, {"name": "dpo"}, {"name": "sft"}])
def test_training_is_as_many_tokens_as_the_plan_counts(run, student, aligner) -> None:
    """The toy's prompts differ by a digit, and its labels by a few letters."""
    made = run(aligner={**aligner, "warmup": 0}, strategy={"name": "pairwise", "k": 2, "q": 3})
    plan = make_plan(made.resolved)
    counted = sum(phase.epochs * phase.tokens_per_epoch.of(phase.layout) for phase in plan.phases)
    prompt = round(plan.lengths.prompt.median)
    found = expected(made, student, pace=1.0, prompt=prompt, trains=True, answers=False)
    assert found["align"] == pytest.approx(counted, rel=0.1)


def test_answers_count_who_answers_and_in_which_way(run, student) -> None:
    def seconds(**predict) -> float:
        return expected(run(predict=predict), student, pace=3.0, prompt=100, trains=False, answers=True)["predict"]

    alone = seconds(base=False)
    assert seconds() == pytest.approx(2 * alone)
    assert seconds(base=False, decode="constrained") == pytest.approx(2 * alone)
    assert seconds(base=False, decode="constrained", free_beside=False) == pytest.approx(alone)
    assert seconds(base=False, decode="score") > 8 * 100  # 8 samples, read once
