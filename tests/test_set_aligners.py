"""The aligners `simpo`, `mult-dpo` and `kl`: their group losses by hand, and that training does what they ask."""

import math

import pytest
import torch

from mint_core.aligners.batches import GroupLogProbs
from mint_core.aligners.dpo import MultDpo, MultDpoConfig
from mint_core.aligners.kl import Kl, KlConfig
from mint_core.aligners.losses import ResponseLogProbs
from mint_core.aligners.simpo import Simpo, SimpoConfig
from mint_core.config import StudentConfig
from mint_core.interfaces import AlignmentJob
from mint_core.students.load import load_student
from mint_core.types import Message, PreferenceGroup, Prompt
from tests.tiny_students import HEADER, build

OPTIONS = {"epochs": 6, "warmup": 0, "learning_rate": 1e-2, "lora_rank": 8, "lora_dropout": 0.0, "batch_size": 4}


def group(chosen: list[float], rejected: list[float], weights: list[float], tokens: int = 2) -> GroupLogProbs:
    """A group whose responses have `tokens` tokens, from their summed log-probabilities; the reference says -1."""

    def scored(totals: list[float]) -> ResponseLogProbs:
        total = torch.tensor(totals)
        return ResponseLogProbs(total / tokens, total, torch.full((len(totals),), tokens))

    return GroupLogProbs(
        chosen=scored(chosen),
        rejected=scored(rejected),
        chosen_weights=torch.tensor(weights),
        rejected_weights=torch.full((len(rejected),), 1 / len(rejected)),
        whole_nll=torch.zeros(0),
        chosen_reference=torch.full((len(chosen),), -1.0),
        rejected_reference=torch.full((len(rejected),), -1.0),
    )


def test_simpo_is_the_weighted_mean_over_pairs() -> None:
    """By hand: means per token -1 and -2 against -3; beta 1, margin 0.5, shares 3/4 and 1/4; SFT term 1/4 of 1.25."""
    found = Simpo(SimpoConfig(beta=1.0, margin=0.5, sft_weight=0.25)).group_loss(
        group([-2.0, -4.0], [-6.0], [0.75, 0.25])
    )
    by_hand = 0.75 * math.log1p(math.exp(-1.5)) + 0.25 * math.log1p(math.exp(-0.5)) + 0.25 * 1.25
    assert found["loss"].item() == pytest.approx(by_hand, rel=1e-6)


def test_kl_is_zero_where_the_student_agrees() -> None:
    """By hand: probabilities 3/8 and 1/8 (rejected: 0 within fp32) are shares 3/4 and 1/4 after normalisation."""
    agrees = group([math.log(3 / 8), math.log(1 / 8)], [-200.0], [0.75, 0.25])
    assert Kl(KlConfig()).group_loss(agrees)["loss"].item() == pytest.approx(0, abs=1e-6)
    # Shares 1 and 0 against 3/4 and 1/4: KL = log(4/3).
    certain = group([math.log(3 / 8), math.log(1 / 8)], [-200.0], [1.0, 0.0])
    assert Kl(KlConfig()).group_loss(certain)["loss"].item() == pytest.approx(math.log(4 / 3), rel=1e-5)


def test_mult_dpo_reads_rewards() -> None:
    """By hand: rewards 0.5 * (-1 + 1) = 0 and 0.5 * (-3 + 1) = -1 against -1: -log(1 / (1 + 2/e)) and 1 more."""
    found = MultDpo(MultDpoConfig(beta=0.5)).group_loss(group([-1.0, -3.0], [-3.0], [0.5, 0.5]))
    assert found["loss"].item() == pytest.approx(math.log(1 + 2 / math.e) + 0.5, rel=1e-6)
    assert found["accuracy"].item() == 0.5  # the figures of dpo stay


@pytest.mark.parametrize(
    ("aligner", "config"),
    [
        (Simpo, SimpoConfig(**OPTIONS)),
        (Kl, KlConfig(**OPTIONS)),
        (MultDpo, MultDpoConfig(**OPTIONS, sft_epochs=1, beta=1.0)),
    ],
    ids=["simpo", "kl", "mult-dpo"],
)
def test_training_lowers_the_loss(aligner, config, tmp_path) -> None:
    student = load_student(StudentConfig(model=str(build("llama", tmp_path / "student")), device="cpu"))
    groups = [PreferenceGroup(f"p{i}", (("Colon",), ("Liver",)), (("Skin",), ("Kidney",))) for i in range(8)]
    job = AlignmentJob(
        student=student,
        groups=groups,
        prompts={g.sample_id: Prompt((Message("user", f"Patch {g.sample_id}."),)) for g in groups},
        header=HEADER,
        seed=0,
        work=tmp_path / "work",
        adapter=tmp_path / "adapter",
        advance=lambda *_: None,
    )
    result = aligner(config.model_copy(update={"log_steps": 1})).align(job)
    own = [entry["loss"] for entry in result.history][-12:]  # without mult-dpo's SFT phase
    assert own[-1] < 0.7 * own[0]
    assert (job.adapter / "adapter_model.safetensors").is_file()
