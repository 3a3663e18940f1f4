"""The aligner `sft`: it learns the chosen responses, by their weights, and never looks at the rejected ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mint_core.aligners.batches import GroupCollator
from mint_core.aligners.orpo import Orpo, OrpoConfig
from mint_core.aligners.rows import TrainingRows
from mint_core.aligners.sft import Sft, SftConfig
from mint_core.config import StudentConfig
from mint_core.errors import ContractError, DataError
from mint_core.interfaces import AlignmentJob, AlignmentResult, Student
from mint_core.students.load import load_student
from mint_core.types import Message, PreferenceGroup, Prompt
from tests.tiny_students import HEADER

GROUPS = [
    PreferenceGroup("case-0", (("Colon",),), (("Liver",),)),
    PreferenceGroup("case-1", (("Liver", "Colon"),), (("Kidney", "Bile duct"),)),
    PreferenceGroup("case-2", (("Kidney",), ("Colon",)), (("Liver",), ("Skin",))),
    PreferenceGroup("case-3", (("Bile duct",),), (("Skin", "Colon"),)),
]
PROMPTS = {g.sample_id: Prompt((Message("user", f"Patch {g.sample_id}. Name the tissues."),)) for g in GROUPS}
OPTIONS = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3, "warmup": 0, "lora_rank": 4, "lora_dropout": 0.0}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def align(folder: Path, tmp_path: Path) -> Callable[..., tuple[AlignmentResult, dict[str, torch.Tensor]]]:
    """Trains a freshly loaded student and reads the adapter back."""

    def run(name: str, *, groups: Any = GROUPS, aligner: Any = None, **options: Any):
        student = load_student(StudentConfig(model=str(folder), device="cpu"))
        made = aligner or Sft(SftConfig(**{**OPTIONS, **options}))
        result = made.align(job(student, tmp_path / name, groups=groups))
        return result, load_file(tmp_path / name / "adapter" / "adapter_model.safetensors")

    return run


def job(student: Student, folder: Path, groups: Any = GROUPS) -> AlignmentJob:
    return AlignmentJob(
        student=student, groups=groups, prompts=PROMPTS, header=HEADER, seed=0, work=folder / "work",
        adapter=folder / "adapter", advance=lambda *_: None,
    )  # fmt: skip


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], tolerance: float = 1e-6) -> bool:
    assert first.keys() == second.keys()
    return all((first[key] - second[key]).abs().max() <= tolerance for key in first)


def test_it_is_orpo_without_the_odds_ratio(align) -> None:
    result, found = align("sft")
    _, expected = align("orpo", aligner=Orpo(OrpoConfig(weight=0.0, **OPTIONS)))
    assert same(found, expected)
    assert result.steps == 4
    assert result.settings["learning_rate"] == 1e-3
    assert any(value.any() for key, value in found.items() if "lora_B" in key)


def test_rejected_responses_are_not_even_encoded(student, tmp_path, align) -> None:
    batch = GroupCollator(TrainingRows(job(student, tmp_path)), rejected=False).batch(GROUPS)
    assert len(batch["labels"]) == 5  # the chosen ones
    without = [replace(group, rejected=()) for group in GROUPS]
    assert same(align("with")[1], align("without", groups=without)[1], 0)


def test_an_empty_chosen_response_is_refused(student, tmp_path) -> None:
    groups = [PreferenceGroup("case-0", ((),), (("Liver",),))]
    with pytest.raises(DataError, match="case-0 has an empty response"):
        Sft(SftConfig(**OPTIONS)).align(job(student, tmp_path, groups))


def test_weights_count(align) -> None:
    """All the weight on one response is that response alone; equal weights are none."""
    chosen = (("Kidney",), ("Colon",))
    alone = [PreferenceGroup("case-2", chosen[:1], (("Liver",),))]
    both = [PreferenceGroup("case-2", chosen, (("Liver",),))]
    all_on_one = [replace(both[0], chosen_weights=(1.0, 0.0))]
    equal = [replace(both[0], chosen_weights=(0.5, 0.5))]
    adapters = {
        name: align(name, groups=groups)[1]
        for name, groups in {"alone": alone, "both": both, "all_on_one": all_on_one, "equal": equal}.items()
    }
    assert same(adapters["alone"], adapters["all_on_one"], 1e-5)
    assert same(adapters["both"], adapters["equal"])
    assert not same(adapters["alone"], adapters["both"], 1e-4)


@pytest.mark.parametrize("weights", [(1.0,), (0.5, 0.6), (1.5, -0.5)])
def test_weights_that_do_not_fit_are_refused(student, tmp_path, weights) -> None:
    groups = [PreferenceGroup("case-2", (("Kidney",), ("Colon",)), (("Liver",),), weights)]
    with pytest.raises(ContractError, match=r"case-2 do not fit its 2 responses.*summing to 1"):
        Sft(SftConfig(**OPTIONS)).align(job(student, tmp_path, groups))
