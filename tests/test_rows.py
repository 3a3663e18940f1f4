"""Training rows are encoded once: what is kept is what the student would read, and nothing but the content names it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mint_core.aligners import rows as module
from mint_core.aligners.dpo import Dpo, DpoConfig
from mint_core.aligners.rows import TrainingRows, student_key
from mint_core.config import StudentConfig
from mint_core.errors import DataError, ModelError
from mint_core.interfaces import AlignmentJob, Student
from mint_core.students.encoding import encode_prompt, encode_response
from mint_core.students.load import load_student
from mint_core.students.prompts import write_response
from mint_core.types import ImageRef, Message, PreferenceGroup, Prompt
from tests.tiny_students import ARCHITECTURES, HEADER, LABELS, build

pytestmark = pytest.mark.usefixtures("one_thread")


class Drawn(ImageRef):
    """An image whose shape differs from sample to sample."""

    def __init__(self, number: int) -> None:
        self.number = number

    @property
    def key(self) -> str:
        return str(self.number)

    def open(self) -> Image.Image:
        return Image.new("RGB", (56 + 20 * (self.number % 3), 56), (20 * self.number, 40, 90))


GROUPS = [
    PreferenceGroup(f"p{i}", ((LABELS[i],), (LABELS[i], LABELS[i + 1])), ((LABELS[i + 2], LABELS[i + 3]),))
    for i in range(3)
]


def job_of(student: Student, folder: Path, **other: Any) -> AlignmentJob:
    prompts = {
        group.sample_id: Prompt(
            (Message("system", "Keep to the format."), Message("user", f"Patch{' !' * place}. Name the tissues.")),
            Drawn(place) if student.reads_images else None,
        )
        for place, group in enumerate(GROUPS)
    }
    standard = {
        "student": student, "groups": GROUPS, "prompts": prompts, "header": HEADER, "seed": 0,
        "work": folder / "work", "adapter": folder / "adapter", "advance": lambda *_: None, "cache": folder / "cache",
    }  # fmt: skip
    return AlignmentJob(**{**standard, **other})


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Student]:
    def make(name: str = "llama", **options: Any) -> Student:
        if ARCHITECTURES[name].needs:
            pytest.importorskip(ARCHITECTURES[name].needs)
        folder = tmp_path / name
        config = StudentConfig(model=str(folder if folder.exists() else build(name, folder)), device="cpu", **options)
        return load_student(config)

    return make


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "cache" / "rows").glob("*.arrow"))


@pytest.fixture
def nothing_is_encoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def encode(*_: Any) -> None:
            raise AssertionError("encoded again")

        monkeypatch.setattr(module, "encode_prompt", encode)
        monkeypatch.setattr(module, "encode_response", encode)

    return forbid


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_kept_rows_are_what_the_student_reads(load, tmp_path, name, dtype, nothing_is_encoded) -> None:
    student = load(name, dtype=dtype)
    job = job_of(student, tmp_path)
    expected = {sample_id: encode_prompt(student, sample_id, prompt) for sample_id, prompt in job.prompts.items()}
    end = expected["p0"].end_of_turn
    ids = {
        r: encode_response(student, write_response(HEADER, r), end) for g in GROUPS for r in (*g.chosen, *g.rejected)
    }
    TrainingRows(job)
    nothing_is_encoded()
    rows = TrainingRows(job)
    for sample_id, prompt in expected.items():
        found = rows.prompt(sample_id)
        assert (found.sample_id, found.end_of_turn, found.length) == (sample_id, end, prompt.length)
        assert list(found.tensors) == list(prompt.tensors)
        for key, tensor in prompt.tensors.items():
            assert (found.tensors[key].dtype, found.tensors[key].shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(found.tensors[key], tensor)
    assert {response: rows.response(response) for response in ids} == ids


def test_the_files_are_datasets(load, tmp_path) -> None:
    from datasets import Dataset

    TrainingRows(job_of(load(), tmp_path))
    prompts, responses = (Dataset.from_file(str(tmp_path / "cache" / "rows" / name)) for name in files(tmp_path))
    assert prompts["sample_id"][:] == ["p0", "p1", "p2"]
    assert [len(row["tensors"][0]["data"]) // 8 for row in prompts] == prompts["length"][:]
    assert responses[1]["labels"] == [LABELS[0], LABELS[1]]


def test_what_decides_the_content_names_the_file(load, tmp_path) -> None:
    student = load()
    job = job_of(student, tmp_path)
    TrainingRows(job)
    first = files(tmp_path)
    assert [name.partition("-")[0] for name in first] == ["prompts", "responses"]
    with torch.no_grad():
        student.model.get_input_embeddings().weight.add_(1)  # other weights read the same rows
    TrainingRows(replace(job, seed=9, work=tmp_path / "other"))
    assert files(tmp_path) == first

    def new(**other: Any) -> int:
        before = set(files(tmp_path))
        TrainingRows(replace(job, **other))
        return len(set(files(tmp_path)) - before)

    assert new(header="ANSWER:") == 1
    assert new(groups=[replace(group, rejected=(("Skin",),)) for group in GROUPS]) == 1
    changed = {**job.prompts, "p1": Prompt((Message("user", "Which?"),))}
    assert new(prompts=changed) == 1
    student.tokenizer.chat_template = student.tokenizer.chat_template.replace("assistant", "helper")
    assert new() == 2


def test_the_precision_and_the_pixels_count_for_images(load, tmp_path) -> None:
    keys = {student_key(load("llava", dtype=dtype)) for dtype in ("fp32", "bf16")}
    assert len(keys) == 2
    assert len({student_key(load(dtype=dtype)) for dtype in ("fp32", "bf16")}) == 1
    job = job_of(load("llava"), tmp_path)
    TrainingRows(job)
    TrainingRows(replace(job, prompts={**job.prompts, "p1": replace(job.prompts["p1"], image=Drawn(8))}))
    assert [name.partition("-")[0] for name in files(tmp_path)] == ["prompts", "prompts", "responses"]


def test_images_beyond_the_limit_are_prepared_anew(load, tmp_path, monkeypatch) -> None:
    student = load("llava")
    job = job_of(student, tmp_path)
    monkeypatch.setattr(module, "PIXELS_KEPT", 3 * 3 * 28 * 28 * 4)  # the pixels alone; the ids do not fit
    rows = TrainingRows(job)
    assert [name.partition("-")[0] for name in files(tmp_path)] == ["responses"]
    calls: list[str] = []
    monkeypatch.setattr(module, "encode_prompt", lambda *args: calls.append(args[1]) or encode_prompt(*args))
    rows.check_lengths()
    assert calls == []  # every batch is checked when it is made
    for _ in range(2):
        assert torch.equal(
            rows.prompt("p1").tensors["pixel_values"],
            encode_prompt(student, "p1", job.prompts["p1"]).tensors["pixel_values"],
        )
    assert calls == ["p1", "p1"]
    monkeypatch.setattr(module, "PIXELS_KEPT", 2 * 3 * 3 * 28 * 28 * 4)
    assert len(files(tmp_path)) == 1
    TrainingRows(job)
    assert len(files(tmp_path)) == 2


def test_without_a_cache_text_stays_in_memory(load, tmp_path, nothing_is_encoded) -> None:
    rows = TrainingRows(job_of(load(), tmp_path, cache=None))
    rows.check_lengths()
    nothing_is_encoded()
    rows.check_lengths()
    assert not (tmp_path / "cache").exists()


def test_a_plan_uses_what_is_there_and_writes_nothing(load, tmp_path, nothing_is_encoded) -> None:
    job = job_of(load(), tmp_path)
    TrainingRows(job, keep=False).check_lengths()
    assert not (tmp_path / "cache").exists()
    TrainingRows(job)
    nothing_is_encoded()
    TrainingRows(job, keep=False).check_lengths()


def test_a_file_is_complete_or_not_there(load, tmp_path, monkeypatch) -> None:
    job = job_of(load(), tmp_path)

    def fail_at_the_last(student: Student, sample_id: str, prompt: Prompt) -> Any:
        if sample_id == "p2":
            raise ModelError("refused")
        return encode_prompt(student, sample_id, prompt)

    monkeypatch.setattr(module, "encode_prompt", fail_at_the_last)
    with pytest.raises(ModelError, match="refused"):
        TrainingRows(job)
    assert files(tmp_path) == []
    monkeypatch.undo()
    TrainingRows(job)
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("name", ["llama", "llava"])
def test_a_row_that_is_too_long_is_refused_from_the_kept_rows(load, tmp_path, name, nothing_is_encoded) -> None:
    student = load(name)
    rows = TrainingRows(job_of(student, tmp_path))
    lengths = [
        rows.prompt(g.sample_id).length + max(map(len, map(rows.response, rows.responses_of(g)))) for g in GROUPS
    ]
    nothing_is_encoded()
    rows.check_lengths()
    student.model.config.get_text_config().max_position_embeddings = max(lengths) - 1
    with pytest.raises(DataError, match=rf"Sample p{lengths.index(max(lengths))}: .* take {max(lengths)} tokens"):
        rows.check_lengths()


@pytest.mark.parametrize("name", ["llama", "gemma2", "mllama"])
def test_a_prompt_is_rendered_once_and_tokenized_once(load, name, monkeypatch) -> None:
    """The check that no part is dropped reads one rendering; a template without a system role needs a second try."""
    student = load(name)
    prompts = job_of(student, Path()).prompts
    encode_prompt(student, "p0", prompts["p0"])  # works out the end of a turn
    calls: list[bool] = []
    render = type(student.processor).apply_chat_template

    def counting(self: Any, *args: Any, **options: Any) -> Any:
        calls.append(options["tokenize"])
        return render(self, *args, **options)

    monkeypatch.setattr(type(student.processor), "apply_chat_template", counting)
    encode_prompt(student, "p1", prompts["p1"])
    assert calls == ([False, True] if name == "llama" else [False, False, True])


def test_the_end_of_a_turn_follows_the_template(load) -> None:
    student = load()
    prompt = job_of(student, Path()).prompts["p0"]
    assert encode_prompt(student, "p0", prompt).end_of_turn == "<|eot_id|>"
    student.tokenizer.chat_template = student.tokenizer.chat_template.replace("<|eot_id|>", "<|eom_id|>")
    assert encode_prompt(student, "p0", prompt).end_of_turn == "<|eom_id|>"


@pytest.mark.parametrize("name", ["llama", "llava"])
def test_training_on_kept_rows_gives_the_same_adapter(load, tmp_path, name, nothing_is_encoded) -> None:
    """Both phases of dpo, its reference and the check of the shared prompt read the same rows."""
    options = {"epochs": 1, "sft_epochs": 2, "batch_size": 2, "learning_rate": 1e-3, "warmup": 0, "lora_rank": 4}
    aligner = Dpo(DpoConfig(**options))
    adapters = []
    for where, cache in (("none", None), ("first", tmp_path / "c"), ("second", tmp_path / "c")):
        if where == "second":
            nothing_is_encoded()
        job = job_of(load(name), tmp_path / where, cache=cache)
        aligner.align(job)
        adapters.append(load_file(job.adapter / "adapter_model.safetensors"))
    for key, value in adapters[0].items():
        assert torch.equal(value, adapters[1][key])
        assert torch.equal(value, adapters[2][key])
