"""What mint knows of TRL's aligners before it trains: that they are there, how they count, what they start from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mint_core
from mint_core.aligners.dpo import Dpo, DpoConfig
from mint_core.aligners.sft import Sft, SftConfig
from mint_core.config import resolve
from mint_core.planning.plan import make_plan
from mint_core.plugins import registry
from mint_core.types import PreferenceGroup
from mint_trl.aligners import TrlDpo, TrlOrpo, TrlSft

NAMES = {"trl-sft", "trl-dpo", "trl-orpo"}


@pytest.fixture
def config(installed, folder: Path, tmp_path: Path) -> dict:
    return {
        "task": "trl-toy", "student": {"model": str(folder), "device": "cpu"}, "out": str(tmp_path / "runs"),
        "name": "t", "strategy": {"name": "pairwise", "k": 2, "q": 3}, "metrics": ["trl-toy"],
        "aligner": {"name": "trl-orpo", "epochs": 2, "warmup": 0.1, "lora_rank": 4, "batch_size": 3, "accumulation": 2},
    }  # fmt: skip


def test_the_aligners_are_registered(installed) -> None:
    mine = {one.component.name: one for one in registry().all("aligner") if one.distribution == "mint-trl"}
    assert set(mine) == NAMES
    assert not [broken for broken in registry().broken if broken.distribution == "mint-trl"]
    assert all(field.description for one in mine.values() for field in one.component.Config.model_fields.values())


def test_discovery_imports_neither_torch_nor_trl() -> None:
    code = (
        "import sys, mint_trl.plugin as p; p.mint_aligners(); sys.exit('torch' in sys.modules or 'trl' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_steps_count_pairs() -> None:
    """2 x 3 pairs in batches of 3: two steps; the chosen ones alone: one."""
    groups = [PreferenceGroup("p", (("a",), ("b",)), (("c",), ("d",), ("e",)))]
    sft, dpo = TrlDpo(DpoConfig(batch_size=3, epochs=1, sft_epochs=1)).phases(0)
    assert (sft.units(groups), dpo.units(groups)) == (2, 6)
    assert (sft.steps(2), dpo.steps(6)) == (1, 2)
    assert TrlOrpo().phases(0)[0].reads_prompt


def test_a_plan_counts_pairs(config) -> None:
    phase = make_plan(resolve(config, registry())).phases[0]
    assert (phase.layout, phase.rejected) == ("expanded", True)
    assert phase.steps == 32  # 96 pairs in batches of 3, two per step, two epochs


def test_dpo_starts_from_trls_own_sft() -> None:
    own, theirs = SftConfig(epochs=3), DpoConfig(sft_epochs=3)
    assert TrlDpo(theirs).start_option(TrlSft(own)) == "sft_adapter"
    assert TrlDpo(theirs).start_option(Sft(own)) is None
    assert Dpo(theirs).start_option(TrlSft(own)) is None
    assert Dpo(theirs).start_option(Sft(own)) == "sft_adapter"


def test_a_run_from_the_config_to_the_adapter(config) -> None:
    config["aligner"] |= {"name": "trl-dpo", "sft_epochs": 1, "epochs": 1}
    made = mint_core.run(config, until="align")
    settings = json.loads((made.path / "training" / "history.json").read_text())["settings"]
    assert (settings["sft_steps"], settings["rows"]) == (6, 96)  # 32 chosen responses and 96 pairs, 6 in a step
    assert (made.path / "adapter" / "adapter_model.safetensors").is_file()
