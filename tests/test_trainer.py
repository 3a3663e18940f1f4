"""The training engine on the smallest text student: what stops it, what it resumes from, and that it learns."""

import math
import os
import pickle
import re
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mint_core.aligners import checkpoints
from mint_core.aligners import trainer as engine
from mint_core.aligners.base import LoraAligner
from mint_core.aligners.orpo import Orpo, OrpoConfig
from mint_core.aligners.settings import PRESETS, TrainingConfig, settle
from mint_core.config import StudentConfig
from mint_core.errors import ConfigError, DataError, TrainingError
from mint_core.interfaces import AlignmentJob, AlignmentResult, Student
from mint_core.students.load import load_student
from mint_core.types import Message, PreferenceGroup, Prompt
from tests.tiny_students import HEADER, LABELS

BAD = "Skin"
"""Stands in one sample only, so that what is done to its tokens hits that sample."""
GROUPS = [
    PreferenceGroup("case-0", (("Colon",),), (("Liver",),)),
    PreferenceGroup("case-1", (("Liver", "Colon"),), (("Kidney", "Bile duct"),)),
    PreferenceGroup("case-2", (("Kidney",), ("Colon",)), (("Liver",), ("Bile duct",), ("Adrenal gland",))),
    PreferenceGroup("case-3", (("Bile duct",),), ((BAD, "Colon"),)),
    PreferenceGroup("case-4", (("Colon", "Bile duct", "Liver"),), (("Adrenal gland",),)),
    PreferenceGroup("case-5", (("Adrenal gland",),), (("Colon",),)),
]
PROMPTS = {
    group.sample_id: Prompt((Message("user", f"Patch {position}{'!' * position}. Name the tissues."),))
    for position, group in enumerate(GROUPS)
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def align(folder: Path, tmp_path: Path) -> Callable[..., tuple[AlignmentResult, dict[str, torch.Tensor]]]:
    """Trains a freshly loaded student and reads the adapter back."""

    def run(
        name: str = "one", *, advance: Any = None, tell: Any = None, groups: Any = GROUPS, seed: int = 0, **options
    ):
        fresh = load_student(StudentConfig(model=str(folder), device="cpu"))
        heard = {"advance": advance or (lambda *_: None), "tell": tell or (lambda _: None)}
        given = job(fresh, tmp_path / name, groups=groups, seed=seed, **heard)
        result = Orpo(config(**options)).align(given)
        return result, load_file(tmp_path / name / "adapter" / "adapter_model.safetensors")

    return run


def job(student: Student, folder: Path, **other: Any) -> AlignmentJob:
    standard = {
        "groups": GROUPS, "prompts": PROMPTS, "header": HEADER, "seed": 0, "work": folder / "work",
        "adapter": folder / "adapter", "advance": lambda *_: None,
    }  # fmt: skip
    return AlignmentJob(student=student, **{**standard, **other})


def config(**other: Any) -> OrpoConfig:
    standard = {
        "epochs": 2, "batch_size": 2, "learning_rate": 1e-3, "warmup": 0, "lora_rank": 4, "lora_dropout": 0.0,
    }  # fmt: skip
    return OrpoConfig(**{**standard, **other})


def newest(work: Path, steps: int = 6) -> Path | None:
    return checkpoints.usable_checkpoint(work, steps)


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    assert first.keys() == second.keys()
    assert first
    for key, value in first.items():
        assert (value - second[key]).abs().max() <= tolerance, key


def nothing_was_saved(folder: Path) -> bool:
    return not (folder / "adapter").exists() and not list((folder / "work").glob("checkpoint-*"))


def poison(student: Student) -> None:
    """Overwrites the embedding of a token that only case-3 holds, as a damaged weight file would."""
    tokens = {label: set(student.tokenizer(f" {label}")["input_ids"][1:]) for label in LABELS}
    only_bad = tokens[BAD].difference(*(tokens[label] for label in LABELS if label != BAD))
    assert only_bad
    student.model.get_input_embeddings().weight.data[list(only_bad)] = float("nan")


# What stops a training.


@pytest.mark.parametrize("batch_size", [1, 6])
def test_a_loss_that_is_not_finite_stops_and_names_the_sample(student, tmp_path, batch_size) -> None:
    poison(student)
    with pytest.raises(TrainingError, match="loss of sample case-3 is not finite; nothing was saved"):
        Orpo(config(batch_size=batch_size)).align(job(student, tmp_path))
    assert nothing_was_saved(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stops_and_names_the_samples(student, tmp_path, monkeypatch, value) -> None:
    """The loss is finite, the backward pass overflows in one weight: the Trainer alone would step all the same."""
    add_lora = engine.add_lora

    def overflowing(*args: Any) -> Any:
        model = add_lora(*args)
        weight = next(p for name, p in model.named_parameters() if "lora_B" in name)
        weight.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor([0]), value))
        return model

    monkeypatch.setattr(engine, "add_lora", overflowing)
    with pytest.raises(TrainingError, match="gradient is not finite in step 1") as stop:
        Orpo(config(batch_size=2, accumulation=2)).align(job(student, tmp_path))
    assert sum(group.sample_id in str(stop.value) for group in GROUPS) == 4  # both forward passes of the step
    assert nothing_was_saved(tmp_path)


def test_earlier_checkpoints_survive_a_stop(student, tmp_path) -> None:
    def advance(step: int, total: int, figures: Any) -> None:
        if step == 2:
            student.model.get_input_embeddings().weight.data[:] = float("nan")

    with pytest.raises(TrainingError):
        Orpo(config(save_steps=1)).align(job(student, tmp_path, advance=advance))
    assert not (tmp_path / "adapter").exists()
    weights = load_file(newest(tmp_path / "work") / "adapter_model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())


@pytest.mark.parametrize(
    "group",
    [
        PreferenceGroup("case-0", ((),), (("Liver",),)),
        PreferenceGroup("case-0", (("Colon",),), ((" ",),)),
        PreferenceGroup("case-0", (), (("Liver",),)),
        PreferenceGroup("case-0", (("Colon",),), ()),
    ],
)
def test_an_empty_response_is_refused(student, tmp_path, group) -> None:
    with pytest.raises(DataError, match="case-0 has an empty response"):
        Orpo(config()).align(job(student, tmp_path, groups=[group]))


def test_no_groups_are_refused(student, tmp_path) -> None:
    with pytest.raises(DataError, match="no preference group"):
        Orpo(config()).align(job(student, tmp_path, groups=[]))


@pytest.mark.parametrize("warmup", [500, 6])
def test_a_warm_up_as_long_as_the_training_is_refused(student, tmp_path, warmup) -> None:
    with pytest.raises(ConfigError, match=rf"warm-up of {warmup} steps.*6 steps.*warmup=0.1"):
        Orpo(config(warmup=warmup)).align(job(student, tmp_path))


def test_a_warm_up_of_ones_own_that_does_not_fit_is_refused(student, tmp_path) -> None:
    with pytest.raises(ConfigError, match="500 steps"):
        Orpo(OrpoConfig(lora_rank=4, warmup=500)).align(job(student, tmp_path))


def test_a_share_of_warm_up_always_leaves_a_step_to_learn(align) -> None:
    _, adapter = align(warmup=0.9, epochs=1, batch_size=6)  # one step
    assert any(value.any() for key, value in adapter.items() if "lora_B" in key)


def test_another_gpu_than_the_first_is_refused(student, tmp_path) -> None:
    """The Trainer would train on the first one without a word."""
    elsewhere = replace(student, device=torch.device("cuda", 1))
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES=1"):
        Orpo(config()).align(job(elsewhere, tmp_path))


# What it resumes from.


def interrupt_at(step: int) -> Callable[..., None]:
    def advance(now: int, total: int, figures: Any) -> None:
        if now == step:
            raise KeyboardInterrupt

    return advance


def test_it_resumes_from_the_newest_complete_checkpoint(align, tmp_path) -> None:
    options = {"epochs": 2, "save_steps": 2, "log_steps": 1}
    straight, expected = align("straight", **options)
    with pytest.raises(KeyboardInterrupt):
        align("broken", advance=interrupt_at(5), **options)
    work = tmp_path / "broken" / "work"
    assert newest(work) == work / "checkpoint-4"
    # The machine died while it wrote the next one: the folder is there, the weights are cut, the mark is missing.
    shutil.copytree(work / "checkpoint-4", work / "checkpoint-5", ignore=shutil.ignore_patterns("mint-complete"))
    weights = work / "checkpoint-5" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    steps: list[int] = []
    resumed, found = align("broken", advance=lambda step, *_: steps.append(step), **options)
    assert steps == [5, 6]
    assert_same(found, expected)
    assert resumed.steps == straight.steps == 6
    assert resumed.final_loss == straight.final_loss
    losses = [[entry["loss"] for entry in result.history] for result in (resumed, straight)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6


@pytest.fixture
def signals_are_heard():
    """Whoever starts the tests in the background makes them deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send_at(step: int, number: signal.Signals, times: int = 1) -> Callable[..., None]:
    def advance(now: int, total: int, figures: Any) -> None:
        for _ in range(times if now == step else 0):
            os.kill(os.getpid(), number)

    return advance


@pytest.mark.usefixtures("signals_are_heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_behind_the_step_and_nothing_shows_it_later(align, tmp_path, number) -> None:
    options = {"lora_dropout": 0.2, "log_steps": 4}
    straight, expected = align("straight", **options)
    told: list[str] = []
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        align("broken", advance=send_at(3, number), tell=told.append, **options)
    assert signal.getsignal(number) == before
    assert newest(tmp_path / "broken" / "work").name == "checkpoint-3"
    assert not (tmp_path / "broken" / "adapter").exists()
    steps: list[int] = []
    resumed, found = align("broken", advance=lambda step, *_: steps.append(step), tell=told.append, **options)
    assert steps == [4, 5, 6]
    assert [sentence.partition(":")[0] for sentence in told] == ["Stopping", "Resuming from step 3 of 6."]
    assert_same(found, expected)
    assert [(one["step"], one["loss"], one["grad_norm"]) for one in resumed.history] == [
        (one["step"], one["loss"], one["grad_norm"]) for one in straight.history
    ]
    assert resumed.final_loss == straight.final_loss


@pytest.mark.usefixtures("signals_are_heard")
def test_a_second_signal_stops_at_once(align, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        align("broken", advance=send_at(3, signal.SIGINT, times=2))
    assert newest(tmp_path / "broken" / "work") is None


def test_checkpoints_are_written_by_time_too(align, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        align("broken", advance=interrupt_at(5), save_steps=1000, save_minutes=1e-9)
    assert newest(tmp_path / "broken" / "work").name == "checkpoint-4"
    with pytest.raises(KeyboardInterrupt):
        align("never", advance=interrupt_at(5), save_steps=1000, save_minutes=None)
    assert newest(tmp_path / "never" / "work") is None


def test_a_program_with_a_handler_of_its_own_keeps_it(align) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        result, _ = align("one", advance=send_at(3, signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (result.steps, heard) == (6, [signal.SIGTERM])


def test_without_a_complete_checkpoint_it_starts_anew(align, tmp_path) -> None:
    _, expected = align("straight")
    (tmp_path / "new" / "work" / "checkpoint-3").mkdir(parents=True)
    steps: list[int] = []
    _, found = align("new", advance=lambda step, *_: steps.append(step))
    assert steps[0] == 1
    assert_same(found, expected)


def test_a_training_that_was_finished_but_not_saved_is_saved(align, tmp_path) -> None:
    first, expected = align("one", epochs=1)
    shutil.rmtree(tmp_path / "one" / "adapter")
    steps: list[int] = []
    again, found = align("one", advance=lambda step, *_: steps.append(step), epochs=1)
    assert not steps
    assert_same(found, expected)
    assert (again.steps, again.final_loss, len(again.history)) == (first.steps, first.final_loss, len(first.history))


def flip(path: Path, at: float = 0.9) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 1
    path.write_bytes(content)


@contextmanager
def said() -> Iterator[Callable[[], list[str]]]:
    """What is told as a warning meanwhile."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield lambda: [str(one.message) for one in found]


DAMAGE = {
    "one byte is another": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"weights": 1})),
}


@pytest.fixture(scope="module")
def interrupted(folder: Path, tmp_path_factory) -> Path:
    """The working folder of a training of 6 steps that was interrupted behind its checkpoint of step 4."""
    place = tmp_path_factory.mktemp("interrupted")
    fresh = load_student(StudentConfig(model=str(folder), device="cpu"))
    with pytest.raises(KeyboardInterrupt):
        Orpo(config(**RESUMED)).align(job(fresh, place, advance=interrupt_at(5)))
    return place / "work"


RESUMED = {"epochs": 2, "save_steps": 2, "log_steps": 3}
FILES = (
    "adapter_model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
    "figures-0.json",
    "mint-complete",
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_never_used(name: str, damage: str, interrupted: Path, tmp_path: Path) -> None:
    shutil.copytree(interrupted, tmp_path / "work")
    assert newest(tmp_path / "work").name == "checkpoint-4"
    DAMAGE[damage](tmp_path / "work" / "checkpoint-4" / name)
    with said() as sentences:
        found = checkpoints.usable_checkpoint(tmp_path / "work", 6)
    assert found == tmp_path / "work" / "checkpoint-2"
    assert not (tmp_path / "work" / "checkpoint-4").exists()
    if (name, damage) != ("mint-complete", "gone"):  # without its mark it was never complete
        assert sentences() == ["checkpoint-4 is damaged; the training goes on from the one before."]


def test_after_a_damaged_checkpoint_the_result_and_its_history_are_whole(interrupted: Path, align, tmp_path) -> None:
    straight, expected = align("straight", **RESUMED)
    shutil.copytree(interrupted, tmp_path / "resumed" / "work")
    flip(tmp_path / "resumed" / "work" / "checkpoint-4" / "adapter_model.safetensors")
    with said() as sentences:
        resumed, found = align("resumed", **RESUMED)
    assert any("checkpoint-4 is damaged" in one for one in sentences())
    assert_same(found, expected)
    assert [entry["step"] for entry in resumed.history] == [3, 6]  # as if there were no checkpoints
    assert [entry["loss"] for entry in resumed.history] == [entry["loss"] for entry in straight.history]
    assert resumed.final_loss == straight.final_loss


def test_the_tenth_checkpoint_is_newer_than_the_ninth(tmp_path) -> None:
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text('{"max_steps": 12}')
        checkpoints.complete(tmp_path / f"checkpoint-{step}")
    assert newest(tmp_path, 12) == tmp_path / "checkpoint-10"


# A memory that does not suffice.


def short_of_memory(monkeypatch, most: int, error: Exception) -> list[int]:
    """Forward passes over more tokens than `most` fail halfway, as they do on a small GPU; returns their sizes."""
    sizes: list[int] = []
    original = engine.GroupTrainer.compute_loss

    def compute(self, model, inputs, *args, **kwargs):
        sizes.append(inputs["size"].computed)
        result = original(self, model, inputs, *args, **kwargs)
        if inputs["size"].computed > most:
            raise error
        return result

    monkeypatch.setattr(engine.GroupTrainer, "compute_loss", compute)
    return sizes


NO_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError(),
)


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
def test_a_batch_that_does_not_fit_is_computed_in_smaller_parts(error, align, monkeypatch) -> None:
    options = {"epochs": 2, "batch_size": 4, "accumulation": 2, "log_steps": 1}
    whole, expected = align("whole", **options)
    sizes = short_of_memory(monkeypatch, 0, error)
    with pytest.raises(type(error)), said():
        align("never", **options)  # one group alone cannot be made smaller
    assert len(set(sizes)) > 1
    least = min(sizes)
    monkeypatch.undo()
    short_of_memory(monkeypatch, least, error)
    with said() as sentences:
        parts, found = align("parts", **options)
    (once,) = [one for one in sentences() if "smaller parts" in one]
    assert re.search(r"with the same result; aligner\.token_budget=\d+ would begin with them", once)
    assert_same(found, expected, 1e-5)
    assert parts.final_loss == pytest.approx(whole.final_loss, abs=1e-5)
    assert parts.settings["token_budget_shrunk_to"] < max(sizes)


def test_shrinking_can_be_switched_off(align, monkeypatch) -> None:
    short_of_memory(monkeypatch, 0, NO_MEMORY[0])
    with pytest.raises(torch.OutOfMemoryError):
        align("stopped", batch_size=4, on_oom="stop")


# What it computes.


def test_a_seed_fixes_the_adapter_even_with_dropout(align) -> None:
    first, again, other = (
        align(name, lora_dropout=0.05, epochs=1, seed=seed)[1] for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert_same(first, again)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_the_loss_falls_and_the_margin_grows(align) -> None:
    groups = [PreferenceGroup(group.sample_id, (("Colon",),), (("Liver",),)) for group in GROUPS]
    result, _ = align(groups=groups, epochs=20, batch_size=6, learning_rate=0.02, log_steps=1)
    assert result.steps == 20
    first, last = result.history[0], result.history[-1]
    assert last["loss"] < 0.8 * first["loss"]
    assert last["nll"] < first["nll"]
    assert last["odds_ratio"] < first["odds_ratio"]
    assert last["margin"] > first["margin"] + 0.05
    assert result.final_loss == last["loss"]


def test_the_history_ends_with_the_last_step(align) -> None:
    result, _ = align(epochs=1, log_steps=100)
    assert [entry["step"] for entry in result.history] == [3]
    assert {"loss", "nll", "odds_ratio", "margin", "learning_rate"} <= result.history[0].keys()


class Plain(LoraAligner):
    """A loss is all that an aligner needs."""

    name = "plain"

    def group_loss(self, group: Any) -> dict[str, torch.Tensor]:
        return {"loss": -group.chosen.average.mean()}


def test_lambda_zero_is_plain_sft(align, student, tmp_path) -> None:
    result, found = align("orpo", weight=0.0)
    assert result.history[-1]["loss"] == pytest.approx(result.history[-1]["nll"], rel=1e-2)
    Plain(config()).align(job(student, tmp_path / "sft"))
    assert_same(found, load_file(tmp_path / "sft" / "adapter" / "adapter_model.safetensors"), 1e-6)


def test_lambda_zero_does_not_see_the_rejected(align) -> None:
    others = [replace(group, rejected=(("Adrenal gland", "Kidney"),)) for group in GROUPS]
    _, first = align("first", weight=0.0)
    _, second = align("second", weight=0.0, groups=others)
    _, seen = align("seen", weight=1.0, groups=others)
    assert_same(first, second, 1e-5)
    assert any((first[key] - seen[key]).abs().max() > 1e-4 for key in first)


def test_the_record_holds_what_was_used(align) -> None:
    result, _ = align(preset="scripts", epochs=1)
    used = result.settings
    assert (used["preset"], used["weight"], used["clip"], used["lora_targets"]) == ("scripts", 0.1, 0.3, "all-linear")
    assert (used["learning_rate"], used["lora_rank"], used["lora_alpha"], used["epochs"]) == (1e-3, 4, 2.0, 1)


# Presets: the values of the papers and of the published scripts.


@pytest.mark.parametrize(
    ("preset", "weight", "expected"),
    [
        ("icml", 1.0, (5e-5, 500, 1.0, 5, "attention")),
        ("arxiv", 1.0, (5e-5, 500, 1.0, 5, "attention")),
        ("scripts", 0.1, (3e-5, 0.1, 0.3, 10, "all-linear")),
    ],
)
def test_presets(preset, weight, expected) -> None:
    asked = TrainingConfig(preset=preset)
    found = settle(asked, 3_000_000_000)
    assert (found.learning_rate, found.warmup, found.clip, found.epochs, found.lora_targets) == expected
    assert PRESETS[preset].orpo_weight == weight
    assert asked.lora_dropout == 0.05


@pytest.mark.parametrize(
    ("preset", "billions", "rank", "alpha"),
    [
        ("icml", 1.24, 256, 128),  # Llama 3.2 1B
        ("icml", 3.21, 128, 64),
        ("icml", 10.7, 128, 64),  # Llama 3.2 11B Vision
        ("arxiv", 1.24, 256, 128),
        ("arxiv", 2.61, 256, 128),  # Gemma 2 2B
        ("arxiv", 3.21, 256, 128),
        ("arxiv", 8.03, 128, 64),
        ("arxiv", 9.24, 128, 64),
        ("arxiv", 10.7, 128, 64),
        ("scripts", 1.24, 128, 64),
    ],
)
def test_the_rank_follows_the_size(preset, billions, rank, alpha) -> None:
    found = settle(TrainingConfig(preset=preset), int(billions * 1e9))
    assert (found.lora_rank, found.lora_alpha) == (rank, alpha)


def test_what_the_user_names_beats_the_preset() -> None:
    asked = TrainingConfig(preset="scripts", epochs=1, learning_rate=1e-4, warmup=0, clip=2, lora_targets="attention")
    found = settle(asked, 10**9)
    assert (found.epochs, found.learning_rate, found.warmup, found.clip) == (1, 1e-4, 0, 2)
    assert found.lora_targets == "attention"
    assert settle(TrainingConfig(lora_rank=8), 10**9).lora_alpha == 4  # alpha / r stays that of the preset
    assert settle(TrainingConfig(lora_rank=8, lora_alpha=16), 10**9).lora_alpha == 16


# What is the same, however a step is computed.


@pytest.mark.parametrize("options", [{"batch_size": 2, "accumulation": 2}, {"batch_size": 1, "accumulation": 4}])
def test_accumulated_batches_are_one_batch(align, options) -> None:
    """Six groups in steps of four and two: the mean is over the groups of a step, also in the last one."""
    one, expected = align("whole", batch_size=4, accumulation=1, log_steps=1)
    other, found = align("parts", **options, log_steps=1)
    assert [entry["loss"] for entry in other.history] == pytest.approx([e["loss"] for e in one.history], abs=1e-5)
    assert [e["grad_norm"] for e in other.history] == pytest.approx([e["grad_norm"] for e in one.history], rel=1e-4)
    assert_same(expected, found, 1e-5)


@pytest.mark.parametrize("share", [True, False])
def test_a_token_budget_changes_nothing_but_the_parts(align, share, monkeypatch) -> None:
    sizes: list[int] = []
    compute_loss = engine.GroupTrainer.compute_loss

    def counting(self: Any, model: Any, inputs: Any, **other: Any) -> Any:
        sizes.append(inputs["size"].computed)
        return compute_loss(self, model, inputs, **other)

    monkeypatch.setattr(engine.GroupTrainer, "compute_loss", counting)
    one, expected = align("whole", batch_size=6, token_budget=None, share_prompt=share, log_steps=1)
    whole = sizes.copy()
    sizes.clear()
    other, found = align("parts", batch_size=6, token_budget=whole[0] // 2, share_prompt=share, log_steps=1)
    assert len(sizes) > len(whole)
    assert max(sizes) <= whole[0] // 2
    assert [entry["loss"] for entry in other.history] == pytest.approx([e["loss"] for e in one.history], abs=1e-5)
    assert other.history[0]["padding"] < one.history[0]["padding"]  # like lengths come together
    assert_same(expected, found, 1e-5)


def test_a_checkpoint_of_another_number_of_steps_is_not_taken(align, tmp_path) -> None:
    """As where a training that four processes began goes on with one: its step 9 is another place."""

    def interrupt(step: int, total: int, figures: Any) -> None:
        if step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        align("moved", advance=interrupt, batch_size=1, epochs=4, save_steps=2)
    assert list((tmp_path / "moved" / "work").glob("checkpoint-*"))
    result, found = align("moved", batch_size=4, epochs=4, save_steps=2)
    _, expected = align("fresh", batch_size=4, epochs=4, save_steps=2)
    assert result.steps == 8
    assert_same(found, expected)


def test_a_full_memory_is_no_reason_for_a_row_per_response(student, tmp_path, monkeypatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("mint_core.aligners.batches.shared_batch", full)
    with pytest.raises(torch.OutOfMemoryError):
        Orpo(config()).align(job(student, tmp_path))


def test_a_group_larger_than_the_budget_is_not_torn_apart(align) -> None:
    one, expected = align("whole", batch_size=1)
    other, found = align("tight", batch_size=1, token_budget=1)
    assert other.steps == one.steps
    assert_same(expected, found)


def test_figures_are_means_over_all_groups_since_the_last_line(align) -> None:
    """Loss and its parts agree in every line: loss = nll + odds_ratio at weight 1, over several steps of a line."""
    result, _ = align("figures", batch_size=4, epochs=4, log_steps=3, weight=1.0)  # steps of 4 and 2 groups
    for entry in result.history:
        assert entry["loss"] == pytest.approx(entry["nll"] + entry["odds_ratio"], abs=1e-4)


@pytest.mark.parametrize(
    "group",
    [
        PreferenceGroup("case-0", (("Colon",),), (("Liver",), ("Colon",))),
        PreferenceGroup("case-0", (("Colon",), ("Colon",)), (("Liver",),)),
    ],
)
def test_a_response_that_occurs_twice_is_refused(student, tmp_path, group) -> None:
    with pytest.raises(DataError, match="case-0 has the response 'Colon' twice"):
        Orpo(config()).align(job(student, tmp_path, groups=[group]))


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_certainty_has_a_finite_gradient(folder, tmp_path, dtype) -> None:
    """A student that is all but certain of a chosen label: p is 1 within the precision of its weights."""
    sure = load_student(StudentConfig(model=str(folder), device="cpu", dtype=dtype))
    groups = [PreferenceGroup("case-0", (("Colon",),), (("Liver",),))]
    sharp = sure.model.get_output_embeddings()
    sharp.weight.data *= 1e4  # every softmax is one token, right or wrong
    result = Orpo(config(epochs=1, batch_size=1, share_prompt=False)).align(job(sure, tmp_path, groups=groups))
    assert math.isfinite(result.final_loss)
    assert math.isfinite(result.history[-1]["grad_norm"])


def test_fifty_against_fifty(student, tmp_path) -> None:
    labels = [f"{a} {b} {i}" for i in range(20) for a in LABELS for b in LABELS][:100]
    groups = [PreferenceGroup("case-0", tuple((x,) for x in labels[:50]), tuple((x,) for x in labels[50:]))]
    student.model.config.max_position_embeddings = 8096
    result = Orpo(config(epochs=1, batch_size=1)).align(job(student, tmp_path, groups=groups))
    assert math.isfinite(result.final_loss)


def test_a_prompt_longer_than_the_context_is_refused_before_anything_is_trained(student, tmp_path) -> None:
    student.model.config.max_position_embeddings = 80
    steps: list[int] = []
    with pytest.raises(DataError, match=r"Sample case-5: prompt and response take \d+ tokens, .* holds 80"):
        long = {**PROMPTS, "case-5": Prompt((Message("user", "Patch. " * 60),))}
        given = job(student, tmp_path, prompts=long, advance=lambda step, *_: steps.append(step))
        Orpo(config(batch_size=1)).align(given)
    assert not steps
