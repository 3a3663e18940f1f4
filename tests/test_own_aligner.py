"""A stranger's aligner, on none of mint's training code: compared as it is, planned where it says its phases."""

import json
import math
from pathlib import Path

import pytest
import yaml

import mint_core
from mint_core.comparison.compare import make_schedule as plan_comparison
from mint_core.comparison.rows import parse_row
from mint_core.config import merge, resolve
from mint_core.errors import ConfigError
from mint_core.interfaces import Aligner, AlignmentResult, TrainingPhase
from mint_core.planning.plan import make_plan
from mint_core.plugins import registry
from mint_core.types import PreferenceGroup
from tests.tiny_students import build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
OWN = '''
"""Two aligners: `silent` says nothing of itself; `copycat` says its phases, and can begin from a run of sft."""
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from mint_core import hookimpl
from mint_core.interfaces import AdapterShape, Aligner, AlignmentResult, ComponentConfig, TrainingPhase


class Silent(Aligner):
    """Draws an adapter and trains nothing."""

    name = "silent"

    def align(self, job):
        from mint_core.students.adapter import add_lora, target_modules

        names = target_modules(job.student.model, "attention", vision=False)
        model = add_lora(job.student.model, names, 4, 4, 0.0)
        model.save_pretrained(str(job.adapter), save_embedding_layers=False)
        return AlignmentResult(0, 0.0, ({"loss": 0.0, "step": 0},), {})


class CopycatConfig(ComponentConfig):
    passes: float = Field(2, gt=0, description="Passes over the groups.")
    warm_passes: float | None = Field(None, description="Passes of the first phase; null = whatever sft takes.")
    begin: Path | None = Field(None, description="An adapter to begin from.")
    pairs: bool = Field(False, description="Read pairs instead of groups.")
    shaped: bool = Field(True, description="Say which adapter is trained.")


class Copycat(Aligner):
    """Passes over the groups, copies the adapter that it begins from, and trains nothing."""

    name = "copycat"
    Config = CopycatConfig

    def phases(self, parameters):
        own = {"batch_size": 4, "accumulation": 2, "layout": "expanded" if self.config.pairs else "distinct"}
        last = TrainingPhase("copy", self.config.passes, **own)
        return (last,) if self.config.begin else (TrainingPhase("warm", 1, 2, rejected=False), last)

    def shape(self, parameters):
        return AdapterShape(rank=4, alpha=4, targets="attention") if self.config.shaped else None

    def shortened(self, epochs):
        return Copycat(self.config.model_copy(update={"passes": epochs}))

    def start_option(self, other):
        wanted = self.config.warm_passes
        if other.name != "sft" or self.config.begin or wanted not in (None, other.config.epochs):
            return None
        return "begin"

    def align(self, job):
        from mint_core.students.adapter import add_lora, continue_adapter, target_modules

        model = job.student.model
        if self.config.begin:
            model = continue_adapter(model, self.config.begin, 0.0)
        else:
            model = add_lora(model, target_modules(model, "attention", vision=False), 4, 4, 0.0)
        steps = [phase.steps(phase.units(job.groups)) for phase in self.phases(0)]
        for step in range(1, sum(steps) + 1):
            job.advance(step, sum(steps), {})
        model.save_pretrained(str(job.adapter), save_embedding_layers=False)
        return AlignmentResult(sum(steps), 0.0, ({"loss": 0.0, "step": sum(steps)},), {"began": str(self.config.begin)})


@hookimpl
def mint_aligners():
    return [Silent, Copycat]
'''


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("llama", tmp_path_factory.mktemp("own") / "llama")


@pytest.fixture
def toy(install_plugin, tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    install_plugin("mint-own", "own_plugin_under_test", OWN)
    monkeypatch.chdir(tmp_path)
    return {
        "task": "toy", "student": {"model": str(student), "device": "cpu"}, "out": str(tmp_path / "runs"), "name": "c",
        "strategy": {"name": "pairwise", "k": 2, "q": 3}, "evaluate": {"bootstrap": 100},
    }  # fmt: skip


def planned(toy: dict, aligner: dict, **options):
    return make_plan(resolve(merge(toy, {"aligner": aligner}), registry()), **options)


def test_what_an_aligner_need_not_say() -> None:
    class Bare(Aligner):
        name = "bare"

        def align(self, job) -> AlignmentResult:
            raise NotImplementedError

    assert (Bare().phases(0), Bare().shape(0), Bare().shortened(1.0), Bare().start_option(Bare())) == (
        (),
        None,
        None,
        None,
    )


def test_steps_by_hand() -> None:
    """7 groups of 2 x 3 responses, batches of 4, two per step, 3 epochs: 1 step each, 3 in all; 42 pairs: 6, 18."""
    groups = [PreferenceGroup(f"p{i}", (("a",), ("b",)), (("c",), ("d",), ("e",))) for i in range(7)]
    phase = TrainingPhase("x", 3, 4, 2, warmup=0.5)
    assert (phase.units(groups), phase.steps(7), phase.per_step, phase.warmup_steps(3)) == (7, 3, 8, 2)
    pairs = TrainingPhase("x", 3, 4, 2, warmup=18, layout="expanded")
    assert (pairs.units(groups), pairs.steps(42)) == (42, 18)
    assert TrainingPhase("x", 1, 4, layout="expanded", rejected=False).units(groups) == 14
    assert phase.steps(42, processes=3) == 6  # 4 batches, two steps of each epoch
    with pytest.raises(ConfigError, match="warm-up of 18 steps is as long as the training"):
        pairs.warmup_steps(18)


def test_a_plan_of_what_a_stranger_says(toy) -> None:
    plan = planned(toy, {"name": "copycat"}, steps=True)
    assert [(phase.name, phase.steps, phase.groups_per_step, phase.layout) for phase in plan.phases] == [
        ("warm", 8, 2, "shared"),
        ("copy", 4, 8, "distinct"),
    ]  # 16 groups: batches of 2 once; batches of 4, two per step, twice
    assert plan.lengths.rejected is not None
    assert plan.memory.trainable > 0
    assert all(not math.isnan(seconds) for seconds in plan.probe.seconds_per_step)
    pairs = planned(toy, {"name": "copycat", "pairs": True}).phases[1]
    assert (pairs.steps, pairs.layout) == (24, "expanded")  # 96 pairs in 12 steps, twice


def test_a_plan_without_the_adapters_shape_says_so(toy) -> None:
    plan = planned(toy, {"name": "copycat", "shaped": False})
    assert (plan.memory.trainable, plan.memory.adapter, plan.memory.optimiser) == (0, 0, 0)
    assert plan.memory.activations > 0
    assert "does not say which adapter it trains" in plan.warnings[-1]


def test_an_aligner_that_says_nothing_cannot_be_planned(toy, mint) -> None:
    file = Path("mint.yaml")
    file.write_text(yaml.safe_dump({**toy, "aligner": "silent"}))
    answer = mint("plan", "-c", file)
    assert answer.code == 2
    assert "The aligner 'silent' does not say what it will train" in answer.err.strip().splitlines()[-1]


def test_a_row_starts_from_the_run_that_a_stranger_names(toy) -> None:
    rows = ["silent=silent", "sft=sft:epochs=1,warmup=0,lora_rank=4", "own=copycat", "more=copycat:warm_passes=3"]
    made = plan_comparison("compare", toy, [parse_row(row) for row in rows], [0])
    assert {run.row.name: run.starts_from for run in made.runs} == {
        "silent": None, "sft": None, "own": "sft-seed0", "more": None,
    }  # fmt: skip
    done = mint_core.compare(toy, rows=rows, seeds="0,")
    assert [row["name"] for row in done.content["rows"]][:4] == ["silent", "sft", "own", "more"]
    folder = Path(toy["out"]) / "c"
    settings = json.loads((folder / "own-seed0" / "training" / "history.json").read_text())["settings"]
    assert settings["began"] == str(folder / "sft-seed0" / "adapter")
    weights = [
        (folder / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("own-seed0", "sft-seed0")
    ]
    assert weights[0] == weights[1]


def test_a_strangers_warm_up_is_checked_before_the_first_stage(toy, monkeypatch) -> None:
    late = TrainingPhase("copy", 1, 8, warmup=2)
    component = registry().get("aligner", "copycat").component
    monkeypatch.setattr(component, "phases", lambda self, parameters: (late,))
    with pytest.raises(ConfigError, match=r"warm-up of 2 steps is as long as the training \(2 steps\)"):
        mint_core.run({**toy, "aligner": "copycat"}, until="label")
    assert not (Path(toy["out"]) / "c" / "stages" / "label.json").exists()
