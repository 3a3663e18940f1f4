"""Ten steps of every aligner through the CLI: loss and gradient norm as they were, however a step is computed.

The numbers in golden.json were written by `MINT_WRITE_GOLDEN=1 python -m pytest tests/test_golden.py`. They change only
where the mathematics of training changes, or the tiny student does.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import mint_core
from mint_core.aligners.trainer import Guard
from mint_core.errors import ConfigError
from tests.tiny_students import build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")
GOLDEN = Path(__file__).with_name("golden.json")
STEPS = 10
ALIGNERS = {
    "sft": {"name": "sft", "epochs": 5},
    "orpo": {"name": "orpo", "epochs": 5},
    "dpo": {"name": "dpo", "epochs": 2, "sft_epochs": 3, "beta": 0.5},
}
"""16 training samples in steps of 8: two steps per epoch."""


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("llama", tmp_path_factory.mktemp("golden") / "llama")


@pytest.fixture
def config(install_plugin, tmp_path: Path, student: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a config file whose aligner has these options."""
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)

    def write(aligner: str, **options: object) -> Path:
        content = {
            "task": "toy",
            "strategy": {"name": "pairwise", "k": 2, "q": 3},
            "student": {"model": str(student), "device": "cpu"},
            "aligner": {
                **ALIGNERS[aligner], "warmup": 0, "learning_rate": 2e-3, "lora_rank": 4, "lora_dropout": 0.0,
                "batch_size": 8, "log_steps": 1, **options,
            },
        }  # fmt: skip
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(content))
        return file

    return write


def trajectory(folder: Path) -> list[list[float]]:
    """Loss and gradient norm of every step."""
    history = json.loads((folder / "training" / "history.json").read_text())["history"]
    assert [entry["step"] for entry in history] == list(range(1, STEPS + 1))
    return [[round(entry["loss"], 6), round(entry["grad_norm"], 6)] for entry in history]


def assert_golden(found: list[list[float]], aligner: str) -> None:
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("MINT_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps({**known, aligner: found}, indent=1) + "\n")
        return
    for step, (one, other) in enumerate(zip(found, known[aligner], strict=True), 1):
        assert one == pytest.approx(other, rel=2e-3, abs=2e-4), step


@pytest.mark.parametrize("aligner", ALIGNERS)
def test_the_trajectory_is_the_golden_one(mint, config, aligner) -> None:
    answer = mint("run", "--config", config(aligner), "--until", "align", "--name", "g")
    assert answer.code == 0, answer.err
    assert_golden(trajectory(Path("runs/g")), aligner)


@pytest.mark.skipif("MINT_WRITE_GOLDEN" in os.environ, reason="writes the golden numbers")
@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 2, "accumulation": 4},
        {"batch_size": 4, "accumulation": 2, "share_prompt": False},
        {"token_budget": 300},
        {"gradient_checkpointing": True},
    ],
    ids=["2x4", "4x2 distinct rows", "token budget", "checkpointing"],
)
@pytest.mark.parametrize("aligner", ["orpo", "dpo"])
def test_however_a_step_is_computed(mint, config, aligner, options) -> None:
    answer = mint("run", "--config", config(aligner, **options), "--until", "align", "--name", "g")
    assert answer.code == 0, answer.err
    assert_golden(trajectory(Path("runs/g")), aligner)


@pytest.mark.skipif("MINT_WRITE_GOLDEN" in os.environ, reason="writes the golden numbers")
@pytest.mark.parametrize("aligner", ALIGNERS)
def test_resumed_in_the_middle(mint, config, aligner, monkeypatch) -> None:
    """Ended by SIGTERM in step 6; for dpo that is before its second phase, of which nothing is written yet."""
    file = config(aligner)
    steps: list[int] = []
    on_step_end = Guard.on_step_end

    def interrupt(self, args, state, control, **other) -> None:
        on_step_end(self, args, state, control, **other)
        steps.append(state.global_step)
        if len(steps) == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Guard, "on_step_end", interrupt)
    first = mint("run", "--config", file, "--until", "align", "--name", "g")
    assert (first.code, "The same command goes on from there." in first.err) == (130, True), first.err
    assert json.loads(Path("runs/g/run.json").read_text())["status"] == "interrupted"
    again = mint("run", "--config", file, "--until", "align", "--name", "g")
    assert (again.code, len(steps)) == (0, STEPS)
    assert "Resuming from step 6 of 10." in again.err
    assert '"Resuming from step 6 of 10."' in Path("runs/g/log.jsonl").read_text()
    assert_golden(trajectory(Path("runs/g")), aligner)


@pytest.mark.skipif("MINT_WRITE_GOLDEN" in os.environ, reason="writes the golden numbers")
def test_two_processes_are_one(config, two_processes) -> None:
    """Batches of 4 in each of two processes; the first one alone labels, prefers and writes."""
    file = config("dpo", batch_size=4)
    codes, said = two_processes("run", "--config", file, "--until", "align", "--name", "g", "--quiet")
    assert codes == [0, 0], said
    assert_golden(trajectory(Path("runs/g")), "dpo")


SIGNALLED = """
import os, signal
from mint_core.aligners.trainer import Guard

def stopped(self, args, state, control, **other):
    on_step_end(self, args, state, control, **other)
    if state.global_step == 4 and os.environ.get("RANK") == "1" and not os.path.exists("signalled"):
        open("signalled", "x", encoding="utf-8").close()
        os.kill(os.getpid(), signal.SIGTERM)

on_step_end, Guard.on_step_end = Guard.on_step_end, stopped
"""


@pytest.mark.skipif("MINT_WRITE_GOLDEN" in os.environ, reason="writes the golden numbers")
def test_a_signal_to_one_of_two_processes_saves_in_both(config, two_processes, tmp_path) -> None:
    """Under torchrun itself, which ends a process when the other one has ended."""
    file = config("orpo", batch_size=4)
    (tmp_path / "site" / "toy_plugin_under_test.py").write_text(TOY + SIGNALLED)
    command = ("run", "--config", str(file), "--until", "align", "--name", "g", "--quiet")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    whole = [*launcher, "-m", "mint_core", *command]
    first = subprocess.run(whole, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert first.returncode != 0
    assert first.stderr.count("Interrupted. The same command goes on from there.") == 1
    codes, said = two_processes(*command[:-1])
    assert codes == [0, 0], said
    assert said.count("Resuming from step 4 of 10.") == 1
    assert_golden(trajectory(Path("runs/g")), "orpo")


def test_compare_under_torchrun_and_again(config, two_processes) -> None:
    """Several trainings, in parts, whose groups do not divide evenly; the second time every stage is reused."""
    file = config("orpo", batch_size=3, token_budget=400, epochs=1)
    command = ("compare", "--config", file, "--aligners", "base,orpo", "--seeds", "2", "--name", "c", "--quiet")
    for _ in range(2):
        codes, said = two_processes(*command)
        assert codes == [0, 0], said
        assert "Unexpected" not in said
    settings = json.loads(Path("runs/c/orpo-seed1/training/history.json").read_text())["settings"]
    assert settings["processes"] == 2
    assert json.loads(Path("runs/c/compare.json").read_text())["rows"]


def test_an_error_of_the_first_process_ends_all(config, two_processes) -> None:
    codes, said = two_processes("run", "--config", config("orpo", warmup=100), "--until", "align", "--quiet")
    assert all(codes)
    assert "warm-up of 100 steps" in said
    assert "Unexpected" not in said  # the other process has nothing to add


def test_world_size_alone_is_not_torchrun(mint, config, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert mint("run", "--config", config("orpo"), "--until", "prefer", "--quiet").code == 0


def test_a_program_under_torchrun_that_calls_mint_is_refused(mint, config, monkeypatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="start mint itself instead"):
        mint_core.run(config("orpo"), until="prefer")


def test_the_warm_up_is_checked_for_all_processes(config, monkeypatch) -> None:
    """10 steps for one process are 3 for four: the check before the first stage knows."""
    monkeypatch.setattr("mint_core.processes.check", lambda: None)
    monkeypatch.setattr("mint_core.processes.count", lambda: 4)
    with pytest.raises(ConfigError, match="warm-up of 5 steps is as long as the training"):
        mint_core.run(config("orpo", warmup=5), until="prefer")
