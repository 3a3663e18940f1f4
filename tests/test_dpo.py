"""The aligner `dpo`: SFT, a frozen reference computed once, DPO on the same adapter, resumption in either phase."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mint_core.aligners import reference as reference_module
from mint_core.aligners.dpo import Dpo, DpoConfig
from mint_core.aligners.losses import response_log_probs
from mint_core.aligners.reference import distinct_responses, reference_log_probs
from mint_core.aligners.rows import TrainingRows
from mint_core.aligners.sft import Sft, SftConfig
from mint_core.config import StudentConfig
from mint_core.errors import ConfigError, ModelError
from mint_core.interfaces import AlignmentJob, AlignmentResult
from mint_core.students.adapter import load_adapter
from mint_core.students.encoding import append_response, encode_prompt, encode_response
from mint_core.students.load import load_student
from mint_core.students.prompts import write_response
from mint_core.types import ImageRef, Message, PreferenceGroup, Prompt
from tests.tiny_students import HEADER, build

GROUPS = [
    PreferenceGroup("case-0", (("Colon",),), (("Liver",),)),
    PreferenceGroup("case-1", (("Liver", "Colon"),), (("Kidney", "Bile duct"),)),
    PreferenceGroup("case-2", (("Kidney",), ("Colon",)), (("Liver",), ("Skin",), ("Bile duct",)), (0.8, 0.2)),
    PreferenceGroup("case-2", (("Kidney",),), (("Adrenal gland",),)),
]
PROMPTS = {g.sample_id: Prompt((Message("user", f"Patch {g.sample_id}. Name the tissues."),)) for g in GROUPS}
OPTIONS = {
    "epochs": 2, "sft_epochs": 3, "batch_size": 2, "learning_rate": 1e-3, "warmup": 0, "lora_rank": 4,
    "lora_dropout": 0.0, "log_steps": 1,
}  # fmt: skip
SFT_STEPS, DPO_STEPS = 6, 4


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def job(folder: Path, tmp_path: Path) -> Callable[..., AlignmentJob]:
    """A job with a freshly loaded student."""

    def make(name: str = "one", **other: Any) -> AlignmentJob:
        standard = {
            "student": load_student(StudentConfig(model=str(folder), device="cpu")),
            "groups": GROUPS, "prompts": PROMPTS, "header": HEADER, "seed": 0, "work": tmp_path / name / "work",
            "adapter": tmp_path / name / "adapter", "advance": lambda *_: None,
        }  # fmt: skip
        return AlignmentJob(**{**standard, **other})

    return make


def dpo(**options: Any) -> Dpo:
    return Dpo(DpoConfig(**{**OPTIONS, **options}))


def sft(**options: Any) -> Sft:
    standard = {key: value for key, value in OPTIONS.items() if key not in ("epochs", "sft_epochs")}
    return Sft(SftConfig(**{**standard, "epochs": OPTIONS["sft_epochs"], **options}))


def weights(job: AlignmentJob) -> dict[str, torch.Tensor]:
    return load_file(job.adapter / "adapter_model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], tolerance: float = 0.0) -> bool:
    assert first.keys() == second.keys()
    return all((first[key] - second[key]).abs().max() <= tolerance for key in first)


def losses(result: AlignmentResult) -> list[float]:
    return [entry["loss"] for entry in result.history]


# What it computes.


def test_both_phases_are_trained_and_recorded(job) -> None:
    steps: list[tuple[int, int]] = []
    given = job(advance=lambda step, total, _: steps.append((step, total)))
    result = dpo().align(given)
    assert steps == [(step, SFT_STEPS + DPO_STEPS) for step in range(1, SFT_STEPS + DPO_STEPS + 1)]
    assert [entry["step"] for entry in result.history] == list(range(1, SFT_STEPS + DPO_STEPS + 1))
    assert result.steps == SFT_STEPS + DPO_STEPS
    assert result.final_loss == result.history[-1]["loss"]
    used = result.settings
    assert (used["epochs"], used["sft_epochs"], used["beta"], used["sft_steps"]) == (2, 3, 0.1, SFT_STEPS)
    assert (used["sft_learning_rate"], used["reference_responses"]) == (1e-3, 2 + 2 + 6)
    assert len(used["reference"]) == 32
    json.dumps(used)


def test_the_presets_of_the_papers(job) -> None:
    """SFT for 5 epochs, 2 epochs of DPO, beta 0.1."""
    result = Dpo(DpoConfig(warmup=0.1, lora_rank=4, batch_size=4)).align(job())
    used = result.settings
    assert (used["sft_epochs"], used["epochs"], used["beta"], used["learning_rate"]) == (5, 2, 0.1, 5e-5)
    assert result.steps == 7


def test_the_first_step_stands_at_the_reference(job) -> None:
    """Before the first update student and reference agree: every margin is 0, and the loss log 2."""
    first = dpo().align(job()).history[SFT_STEPS]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["margin"] == pytest.approx(0, abs=1e-5)
    assert first["chosen_reward"] == pytest.approx(0, abs=1e-5)


def test_it_learns_to_prefer(job) -> None:
    result = dpo(epochs=10, learning_rate=5e-3).align(job())
    assert result.history[-1]["margin"] > 0.05
    assert result.history[-1]["accuracy"] == 1
    assert result.final_loss < math.log(2) - 0.02


def test_an_adapter_of_an_sft_run_stands_in_for_the_first_phase(job) -> None:
    """The SFT phase is the aligner `sft`: both ways end at the same weights."""
    whole = job("whole")
    straight = dpo().align(whole)
    first = job("sft")
    sft().align(first)
    second = job("second")
    result = dpo(sft_adapter=first.adapter, lora_rank=None).align(second)
    assert same(weights(second), weights(whole), 1e-6)
    assert result.steps == DPO_STEPS
    assert losses(result) == pytest.approx(losses(straight)[SFT_STEPS:], abs=1e-5)
    used = result.settings
    assert (used["lora_rank"], used["lora_alpha"], used["sft_epochs"]) == (4, 2.0, None)
    assert used["sft_adapter"] == str(first.adapter)
    assert used["reference"] == straight.settings["reference"]  # the same weights say the same
    assert len(used["sft_adapter_digest"]) == 32
    assert not same(weights(second), weights(first), 1e-4)


def test_beta_and_the_rejected_count(job) -> None:
    first, second, third = job("first"), job("second"), job("third")
    dpo().align(first)
    dpo(beta=1.0).align(second)
    others = [replace(group, rejected=(("Adrenal gland", "Skin"),)) for group in GROUPS]
    dpo().align(replace(third, groups=others))
    assert not same(weights(first), weights(second), 1e-4)
    assert not same(weights(first), weights(third), 1e-4)


# The reference.


@pytest.mark.parametrize("budget", [None, 60])
def test_the_reference_is_the_students_own_log_probability(job, budget) -> None:
    """Row by row, without padding and batches."""
    first = job("sft")
    sft().align(first)
    given = job("reference")
    model = load_adapter(given.student.model, first.adapter)
    found = reference_log_probs(TrainingRows(given), model, batch_size=3, budget=budget).log_probs
    assert set(found) == {(i, r) for i, responses in distinct_responses(given).items() for r in responses}
    for (sample_id, response), value in found.items():
        prompt = encode_prompt(given.student, sample_id, PROMPTS[sample_id])
        ids = encode_response(given.student, write_response(HEADER, response), prompt.end_of_turn)
        row = append_response(prompt, ids)
        labels = row["input_ids"].clone()
        labels[:, : prompt.length] = -100
        with torch.no_grad():
            expected = response_log_probs(model(**row).logits, labels).total.item()
        assert value == pytest.approx(expected, abs=1e-4)


def test_each_response_of_a_prompt_is_scored_once(job) -> None:
    distinct = distinct_responses(job())
    assert [len(responses) for responses in distinct.values()] == [2, 2, 6]  # case-2 stands in two groups
    assert distinct["case-2"].count(("Kidney",)) == 1


def test_the_reference_is_kept_by_content(job, monkeypatch) -> None:
    given = job()
    model = load_adapted(given)
    calls: list[int] = []
    score = reference_module._score
    monkeypatch.setattr(reference_module, "_score", lambda *a, **k: calls.append(1) or score(*a, **k))
    first = reference_log_probs(TrainingRows(given), model, 2)
    again = reference_log_probs(TrainingRows(given), model, 2)
    assert (first, len(calls)) == (again, 1)
    other_prompt = replace(given, prompts={**PROMPTS, "case-0": Prompt((Message("user", "Another."),))})
    assert reference_log_probs(TrainingRows(other_prompt), model, 2).digest != first.digest
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1
    assert reference_log_probs(TrainingRows(given), model, 2).digest != first.digest
    assert len(calls) == 3


def load_adapted(given: AlignmentJob) -> Any:
    """The job's student with the adapter that `dpo` would begin with."""
    from mint_core.aligners.trainer import begin

    return begin(given, dpo(), dpo().settings(1))


# Interruptions.


def interrupt_at(step: int) -> Callable[..., None]:
    def advance(now: int, total: int, figures: Any) -> None:
        if now == step:
            raise KeyboardInterrupt

    return advance


@pytest.mark.parametrize(
    ("stopped_at", "goes_on_at"),
    [(3, 3), (SFT_STEPS + 1, SFT_STEPS + 1), (SFT_STEPS + 3, SFT_STEPS + 3)],
    ids=["in SFT", "at the start of DPO", "in DPO"],
)
def test_it_goes_on_in_either_phase(job, monkeypatch, stopped_at, goes_on_at) -> None:
    """Dropout shows that the random state goes on too."""
    options = {"save_steps": 2, "lora_dropout": 0.1}
    whole, broken = job("whole"), job("broken")
    straight = dpo(**options).align(whole)
    with pytest.raises(KeyboardInterrupt):
        dpo(**options).align(replace(broken, advance=interrupt_at(stopped_at)))
    steps: list[int] = []
    calls: list[int] = []
    score = reference_module._score
    monkeypatch.setattr(reference_module, "_score", lambda *a, **k: calls.append(1) or score(*a, **k))
    result = dpo(**options).align(job("broken", advance=lambda step, *_: steps.append(step)))
    assert steps == list(range(goes_on_at, SFT_STEPS + DPO_STEPS + 1))
    assert len(calls) == (1 if stopped_at <= SFT_STEPS else 0)  # a reference that is there is not computed again
    assert same(weights(broken), weights(whole))
    assert losses(result) == losses(straight)


def test_other_weights_under_the_same_path_never_resume_old_checkpoints(job) -> None:
    first = job("sft")
    sft().align(first)
    given = job("two")
    dpo(sft_adapter=first.adapter).align(given)
    before = weights(given)
    changed = {key: value + 0.05 for key, value in weights(first).items()}
    save_file(changed, first.adapter / "adapter_model.safetensors")
    result = dpo(sft_adapter=first.adapter).align(job("two"))
    assert not same(weights(given), before, 1e-3)
    assert result.history[0]["margin"] == pytest.approx(0, abs=1e-5)


# A DPO run without its SFT stage.


def test_a_folder_without_an_adapter_is_refused(job, tmp_path) -> None:
    with pytest.raises(ModelError, match=r"nowhere holds no adapter.*`sft` aligner, or leave aligner.sft_adapter out"):
        dpo(sft_adapter=tmp_path / "nowhere").align(job())


def test_a_pickled_adapter_counts_as_none(job, tmp_path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "adapter_config.json").write_text("{}")
    (tmp_path / "bin" / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="holds no adapter"):
        dpo(sft_adapter=tmp_path / "bin").align(job())


@pytest.fixture
def adapter(job) -> Path:
    given = job("sft")
    sft(epochs=1).align(given)
    return given.adapter


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {key: value[:, :-1].contiguous() for key, value in state.items()},  # sizes of another student
        lambda state: {key.replace("layers.0", "layers.7"): value for key, value in state.items()},
        lambda state: dict(list(state.items())[2:]),  # a layer is missing
    ],
    ids=["sizes", "layers", "missing"],
)
def test_an_adapter_of_another_student_is_refused(job, adapter, change) -> None:
    state = load_file(adapter / "adapter_model.safetensors")
    save_file(change(state), adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"does not fit this student.*run the `sft` aligner with this student first"):
        dpo(sft_adapter=adapter).align(job())


def test_an_adapter_of_another_architecture_is_refused(job, adapter) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["target_modules"] = ["transformer.h.0.attn.c_attn"]
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="does not fit this student"):
        dpo(sft_adapter=adapter).align(job())


def test_an_adapter_of_another_hub_id_is_refused(job, adapter) -> None:
    """Same layers, same sizes, other weights: only the name tells."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "someone/student-a"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    given = job()
    given.student.model.name_or_path = "someone/student-b"
    with pytest.raises(ModelError, match="made for someone/student-a, and the student is someone/student-b"):
        dpo(sft_adapter=adapter).align(given)


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_damaged_adapter_is_refused(job, adapter, file) -> None:
    (adapter / file).write_bytes((adapter / file).read_bytes()[:50])
    with pytest.raises(ModelError, match="is damaged"):
        dpo(sft_adapter=adapter).align(job())


def test_another_rank_than_the_adapters_is_refused(job, adapter) -> None:
    with pytest.raises(ConfigError, match=r"aligner.lora_rank is 8, but the adapter in .* has 4; leave it out"):
        dpo(sft_adapter=adapter, lora_rank=8).align(job())


def test_a_warm_up_as_long_as_the_second_phase_is_refused_before_the_first(job) -> None:
    steps: list[int] = []
    with pytest.raises(ConfigError, match=r"warm-up of 5 steps.*4 steps"):
        dpo(warmup=5).align(job(advance=lambda step, *_: steps.append(step)))
    assert not steps


# Image-text students.


class Drawn(ImageRef):
    def __init__(self, colour: int) -> None:
        self.colour = colour

    @property
    def key(self) -> str:
        return str(self.colour)

    def open(self) -> Image.Image:
        return Image.new("RGB", (56, 56), (self.colour, 40, 90))


@pytest.mark.parametrize("name", ["llava", "mllama"])
def test_image_text_students(name, tmp_path) -> None:
    folder = build(name, tmp_path / "student")
    prompts = {i: replace(p, image=Drawn(60 * n)) for n, (i, p) in enumerate(PROMPTS.items())}

    def align(where: str, prompts: Any) -> AlignmentResult:
        student = load_student(StudentConfig(model=str(folder), device="cpu"))
        given = AlignmentJob(
            student, GROUPS, prompts, HEADER, 0, tmp_path / where / "work", tmp_path / where / "adapter",
            lambda *_: None,
        )  # fmt: skip
        return dpo(sft_epochs=1, epochs=2).align(given)

    result = align("one", prompts)
    assert result.history[2]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert math.isfinite(result.final_loss)
    other = align("two", {i: replace(p, image=Drawn(200)) for i, p in prompts.items()})
    assert other.settings["reference"] != result.settings["reference"]
    assert losses(other) != losses(result)  # the image is read
    shutil.rmtree(tmp_path / "one")


# Through a run.


def test_a_run_goes_on_from_the_adapter_of_an_sft_run(install_plugin, tmp_path, folder, monkeypatch, mint) -> None:
    import mint_core
    from tests.test_run import TOY

    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    options = {"warmup": 0, "batch_size": 8, "lora_rank": 4}
    common = {
        "task": "toy", "student": str(folder), "out": str(tmp_path / "runs"),
        "strategy": {"name": "pairwise", "weights": "teacher", "truth_share": 0.5},
    }  # fmt: skip
    first = mint_core.run(common, name="first", aligner={"name": "sft", "epochs": 1, **options}, until="align")
    chosen = {"name": "dpo", "epochs": 1, "sft_adapter": str(first.path / "adapter"), **options}
    second = mint_core.run(common, name="second", aligner=chosen, until="align")
    settings = json.loads((second.path / "training" / "history.json").read_text())["settings"]
    assert settings["sft_steps"] == 0
    assert settings["reference_responses"] == 16 * 4  # two chosen and two rejected labels for 16 samples
    answer = mint(
        "align", "--task", "toy", "--student", folder, "--aligner", "dpo", "--set", "aligner.warmup=0",
        "--set", "aligner.sft_adapter=nowhere", "--name", "third",
    )  # fmt: skip
    assert answer.code in (ConfigError.exit_code, ModelError.exit_code)
    assert "nowhere" in answer.err
    assert "Traceback" not in answer.err
