"""TRL as reference for mint's engine: the same losses where the definitions agree, the known differences elsewhere."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from mint_core.aligners.dpo import Dpo, DpoConfig
from mint_core.aligners.orpo import Orpo, OrpoConfig
from mint_core.aligners.sft import Sft, SftConfig
from mint_core.config import StudentConfig
from mint_core.errors import ConfigError, TrainingError
from mint_core.interfaces import AlignmentJob
from mint_core.students.load import load_student
from mint_core.testing import ALIGNER_CHECKS
from mint_core.types import Message, PreferenceGroup, Prompt
from mint_trl.aligners import TrlDpo, TrlOrpo, TrlOrpoConfig, TrlSft

HEADER = "MOST_LIKELY_TISSUE:"
LABELS = ("Adrenal gland", "Bile duct", "Colon", "Kidney", "Liver", "Skin")
GROUPS = [
    PreferenceGroup(
        f"case-{i}",
        (tuple(LABELS[(i + j) % 6] for j in range(1 + i % 3)),),
        (tuple(LABELS[(i + 3 + j) % 6] for j in range(1 + (i + 1) % 3)),),
    )
    for i in range(10)
]
PROMPTS = {g.sample_id: Prompt((Message("user", f"Patch {g.sample_id}. Name the tissues."),)) for g in GROUPS}
OPTIONS = {
    "epochs": 1, "batch_size": 1, "learning_rate": 1e-3, "warmup": 0, "lora_rank": 4, "lora_dropout": 0.0,
    "log_steps": 1,
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("check", ALIGNER_CHECKS)
def test_contract(check, tmp_path: Path) -> None:
    check(TrlSft(), tmp_path)


@pytest.fixture
def job(folder: Path, tmp_path: Path) -> Callable[..., AlignmentJob]:
    """A job with a freshly loaded student."""

    def make(name: str, **other: Any) -> AlignmentJob:
        standard = {
            "student": load_student(StudentConfig(model=str(folder), device="cpu", dtype="fp32")),
            "groups": GROUPS, "prompts": PROMPTS, "header": HEADER, "seed": 0, "work": tmp_path / name / "work",
            "adapter": tmp_path / name / "adapter", "advance": lambda *_: None,
        }  # fmt: skip
        return AlignmentJob(**{**standard, **other})

    return make


def sft(engine: str, **options: Any) -> Sft:
    return {"mint": Sft, "trl": TrlSft}[engine](SftConfig(**{**OPTIONS, **options}))


def dpo(engine: str, **options: Any) -> Dpo:
    return {"mint": Dpo, "trl": TrlDpo}[engine](DpoConfig(**{**OPTIONS, "sft_epochs": 1, **options}))


def orpo(engine: str, **options: Any) -> Orpo:
    if engine == "trl":
        return TrlOrpo(TrlOrpoConfig(**{**OPTIONS, **options}))
    return Orpo(OrpoConfig(**{**OPTIONS, "nll": "all", **options}))


def losses(result: Any) -> list[float]:
    return [entry["loss"] for entry in result.history]


def weights(job: AlignmentJob) -> dict[str, torch.Tensor]:
    return load_file(job.adapter / "adapter_model.safetensors")


def distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[key] - second[key]).abs().max()) for key in first)


# Where the definitions agree.


@pytest.mark.parametrize("make", [sft, orpo], ids=["sft", "orpo"])
def test_ten_steps_give_the_losses_of_trl(job, make) -> None:
    """One row per batch: then TRL's mean over the tokens of a batch is mint's mean per response."""
    ours, theirs = job("mint"), job("trl")
    found, expected = make("mint").align(ours), make("trl").align(theirs)
    assert len(losses(found)) == 10
    assert losses(found) == pytest.approx(losses(expected), abs=1e-4)
    assert distance(weights(ours), weights(theirs)) < 1e-4
    assert max(losses(found)) - min(losses(found)) > 1e-2  # the comparison is not one of constants


@pytest.mark.parametrize("batch_size", [1, 2])
def test_ten_steps_of_dpo_give_the_losses_of_trl(job, batch_size) -> None:
    """Both begin from one SFT adapter; TRL computes the reference in every step, mint once."""
    first = job("sft")
    sft("mint").align(first)
    options = {"sft_adapter": first.adapter, "batch_size": batch_size, "epochs": batch_size, "learning_rate": 5e-3}
    ours, theirs = job("mint"), job("trl")
    found = dpo("mint", lora_rank=None, **options).align(ours)
    expected = dpo("trl", lora_rank=None, **options).align(theirs)
    assert len(losses(found)) == 10
    assert losses(found) == pytest.approx(losses(expected), abs=1e-4)
    assert distance(weights(ours), weights(theirs)) < 1e-4
    assert losses(found)[0] == pytest.approx(math.log(2), abs=1e-4)
    assert min(losses(found)) < math.log(2) - 1e-2


def test_a_group_is_the_mean_of_its_expanded_pairs(job) -> None:
    """mint sees one group of 2 x 2 responses, TRL a batch of its four pairs: the same first loss, and the same step."""
    group = PreferenceGroup("case-0", (("Colon",), ("Liver",)), (("Skin",), ("Kidney",)))
    first = job("sft", groups=[group])
    sft("mint").align(first)
    ours, theirs = job("mint", groups=[group]), job("trl", groups=[group])
    options = {"sft_adapter": first.adapter, "lora_rank": None, "epochs": 3, "learning_rate": 5e-3}
    found = dpo("mint", batch_size=1, **options).align(ours)
    expected = dpo("trl", batch_size=4, **options).align(theirs)
    assert expected.settings["rows"] == 4
    assert losses(found) == pytest.approx(losses(expected), abs=1e-4)
    assert distance(weights(ours), weights(theirs)) < 1e-4


# Where they do not: docs/explanation/aligners.md, "What differs from TRL".


def test_trl_averages_over_the_tokens_of_a_batch(job) -> None:
    """Responses of different lengths in one batch: TRL weighs the longer ones more."""
    found, expected = (sft(e, batch_size=5).align(job(e)) for e in ("mint", "trl"))
    difference = abs(losses(found)[0] - losses(expected)[0])
    assert 1e-3 < difference < 0.2
    lengths = {len(group.chosen[0]) for group in GROUPS}
    assert len(lengths) == 3


def test_trls_orpo_spends_its_sft_term_on_the_prompt(job) -> None:
    response, whole = (orpo("mint", nll=nll).align(job(nll)) for nll in ("response", "all"))
    gaps = [abs(a - b) for a, b in zip(losses(response), losses(whole), strict=True)]
    assert gaps[0] > 1e-3  # the same student: only the definition differs
    assert max(gaps) > 0.1
    with pytest.raises(ValidationError):
        orpo("trl", nll="response")


# The engine.


@pytest.mark.parametrize("make", [sft, dpo, orpo], ids=["sft", "dpo", "orpo"])
def test_it_writes_a_plain_adapter_and_a_record(job, make) -> None:
    steps: list[tuple[int, int]] = []
    given = job("trl", advance=lambda step, total, _: steps.append((step, total)))
    result = make("trl").align(given)
    assert {p.name for p in given.adapter.iterdir()} <= {
        "adapter_config.json", "adapter_model.safetensors", "README.md"
    }  # fmt: skip
    mine = job("mint")
    make("mint").align(mine)
    assert weights(given).keys() == weights(mine).keys()
    expected = 20 if make is dpo else 10
    assert steps == [(step, expected) for step in range(1, expected + 1)]
    assert [entry["step"] for entry in result.history] == list(range(1, expected + 1))
    assert result.steps == expected
    assert result.settings["rows"] == 10
    assert result.settings["trl"]


@pytest.mark.parametrize("stopped_at", [4, 14], ids=["in SFT", "in DPO"])
def test_it_goes_on_after_an_interruption(job, stopped_at) -> None:
    def interrupt(step: int, total: int, figures: Any) -> None:
        if step == stopped_at:
            raise KeyboardInterrupt

    whole = job("whole")
    straight = dpo("trl", save_steps=3).align(whole)
    with pytest.raises(KeyboardInterrupt):
        dpo("trl", save_steps=3).align(job("broken", advance=interrupt))
    steps: list[int] = []
    broken = job("broken", advance=lambda step, *_: steps.append(step))
    result = dpo("trl", save_steps=3).align(broken)
    assert steps == list(range(stopped_at, 21))
    assert losses(result) == pytest.approx(losses(straight), abs=1e-6)
    assert distance(weights(broken), weights(whole)) < 1e-6


def test_answers_by_epoch_change_nothing_under_trl(job) -> None:
    plain, judged = job("plain"), job("judged", validate=lambda model, count: {"hfa": torch.rand(count).mean().item()})
    straight, curve = dpo("trl").align(plain), dpo("trl", validate_samples=2).align(judged)
    assert [entry["step"] for entry in curve.validation] == [0, 10, 20]
    assert losses(curve) == losses(straight)
    assert distance(weights(judged), weights(plain)) == 0


def test_no_usage_ping(job, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    sft("trl").align(job("trl"))
    assert constants.HF_HUB_DISABLE_TELEMETRY


def test_a_prompt_never_reaches_trls_messages(job, capfd, caplog) -> None:
    given = job("trl")
    secret = {i: Prompt((Message("user", f"SECRET-PATIENT-TEXT {i}"),)) for i in PROMPTS}
    dpo("trl").align(replace(given, prompts=secret))
    said = capfd.readouterr()
    assert "SECRET" not in said.out + said.err + caplog.text


def test_a_gradient_that_is_not_finite_stops(job) -> None:
    given = job("trl")
    given.student.model.get_input_embeddings().weight.data[:] = float("nan")
    with pytest.raises(TrainingError, match="gradient is not finite in step 1 under TRL"):
        sft("trl").align(given)
    assert not given.adapter.exists()


@pytest.mark.parametrize("make", [sft, dpo, orpo], ids=["sft", "dpo", "orpo"])
def test_weighted_groups_are_refused(job, make) -> None:
    groups = [replace(GROUPS[3], chosen=(("Colon",), ("Liver",)), chosen_weights=(0.9, 0.1))]
    with pytest.raises(ConfigError, match=r"'trl-\w+' knows no weights, and the responses of sample case-3 carry some"):
        make("trl").align(job("trl", groups=groups))


def test_an_image_text_student_is_refused(job) -> None:
    given = job("trl")
    seeing = replace(given.student, reads_images=True)
    with pytest.raises(ConfigError, match=r"'trl-sft' trains text students only, and .* reads images"):
        sft("trl").align(replace(given, student=seeing))


def test_a_trl_without_orpo_is_one_sentence(job, monkeypatch) -> None:
    import sys

    import trl

    monkeypatch.setitem(sys.modules, "trl.experimental.orpo", None)
    with pytest.raises(ConfigError, match=rf"trl {trl.__version__} has no ORPO trainer any more"):
        orpo("trl").align(job("trl"))
