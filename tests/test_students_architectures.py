"""Every architecture of the real world through mint's own path: load, train, save, load the adapter, answer.

The students are tiny and random; what is proven is that tokens, pixels, masks and log-probabilities go where they
belong.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

from mint_core.aligners.losses import response_log_probs
from mint_core.aligners.orpo import Orpo, OrpoConfig
from mint_core.aligners.rows import TrainingRows
from mint_core.aligners.trainer import GroupCollator
from mint_core.answering.generate import generate, stop_tokens
from mint_core.config import StudentConfig
from mint_core.errors import DataError, ModelError
from mint_core.interfaces import AlignmentJob, AlignmentResult, Student
from mint_core.students.adapter import load_adapter, target_modules
from mint_core.students.encoding import PER_TOKEN, append_response, encode_prompt, encode_response, stack
from mint_core.students.load import explain_load_failure, load_student
from mint_core.students.prompts import render_messages, write_response
from mint_core.testing.student import CONTEXT
from mint_core.types import ImageRef, Message, PreferenceGroup, Prompt
from tests.tiny_students import ARCHITECTURES, HEADER, Architecture, build

ALL = sorted(ARCHITECTURES)
IMAGE = [name for name in ALL if ARCHITECTURES[name].reads_images]
TEXT = [name for name in ALL if not ARCHITECTURES[name].reads_images]
GROUPS = [
    PreferenceGroup("long", (("Colon", "Liver"), ("Liver", "Colon", "Bile duct")), (("Skin",), ("Kidney", "Skin"))),
    PreferenceGroup("short", (("Bile duct",),), (("Adrenal gland", "Colon", "Liver"),)),
]


class Drawn(ImageRef):
    """A small drawn image."""

    def __init__(self, colour: tuple[int, int, int], size: tuple[int, int] = (56, 56)) -> None:
        self.colour, self.size = colour, size

    @property
    def key(self) -> str:
        return f"{self.colour}-{self.size}"

    def open(self) -> Image.Image:
        image = Image.new("RGB", self.size, self.colour)
        image.paste((255, 255, 255), (0, 0, self.size[0] // 3, self.size[1] // 2))
        return image


SQUARE, OTHER, WIDE = Drawn((200, 20, 120)), Drawn((10, 160, 60)), Drawn((30, 30, 200), (84, 42))


def prompt_for(architecture: Architecture, text: str = "Name the tissues.", image: ImageRef = SQUARE) -> Prompt:
    turns = (Message("system", "You are a pathologist."), Message("user", text))
    return Prompt(turns, image if architecture.reads_images else None)


def prompts_for(architecture: Architecture) -> dict[str, Prompt]:
    """Prompts of different lengths, with images of different shapes."""
    return {
        "long": prompt_for(
            architecture, "Name the tissues of this patch, most likely first, as a numbered list.", WIDE
        ),
        "short": prompt_for(architecture),
    }


def job_for(
    student: Student, folder: Path, advance: Callable[..., None] = lambda *_: None, **other: Any
) -> AlignmentJob:
    prompts = prompts_for(Architecture("", lambda _: None, student.reads_images))
    standard = {"groups": GROUPS, "prompts": prompts, "header": HEADER, "seed": 0}
    return AlignmentJob(
        student=student, work=folder / "work", adapter=folder / "adapter", advance=advance, **{**standard, **other}
    )


def config(**other: Any) -> OrpoConfig:
    standard = {
        "epochs": 2, "batch_size": 2, "learning_rate": 0.01, "warmup": 0, "lora_rank": 4, "lora_dropout": 0.0,
    }  # fmt: skip
    return OrpoConfig(**{**standard, **other})


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @functools.cache
    def folder(name: str) -> Path:
        if needs := ARCHITECTURES[name].needs:
            pytest.importorskip(needs, reason=f"the processor of {name} needs {needs}, on which mint does not depend")
        return build(name, tmp_path_factory.mktemp(name))

    return folder


@pytest.fixture(scope="session")
def fresh(folder_of) -> Callable[..., Student]:
    """Loads a student of one's own: training changes it in place."""
    return lambda name, **options: load_student(StudentConfig(model=str(folder_of(name)), device="cpu", **options))


@pytest.fixture(scope="session")
def shared(fresh) -> Callable[[str], Student]:
    """A student that nobody trains."""
    return functools.cache(fresh)


@dataclass(frozen=True)
class Trained:
    """A student after two steps of ORPO."""

    student: Student
    adapter: Path
    result: AlignmentResult
    first_step: dict[str, float]
    """The figures of step 1, where the adapter still adds nothing."""
    after_first_step: dict[str, torch.Tensor]
    kept_logits: list[int | None]


@pytest.fixture(scope="session")
def trained(fresh, tmp_path_factory) -> Callable[[str], Trained]:
    @functools.cache
    def train(name: str) -> Trained:
        student = fresh(name)
        folder = tmp_path_factory.mktemp(f"trained-{name}")
        figures, weights, kept = [], [], []

        def advance(step: int, total: int, latest: dict[str, float]) -> None:
            figures.append(dict(latest))
            lora = {n: p.detach().clone() for n, p in student.model.named_parameters() if "lora_" in n}
            weights.append(lora)

        hook = student.model.register_forward_hook(
            lambda module, args, kwargs, out: kept.append(kwargs.get("logits_to_keep")), with_kwargs=True
        )
        result = Orpo(config()).align(job_for(student, folder, advance))
        hook.remove()
        student.model.eval()
        return Trained(student, folder / "adapter", result, figures[0], weights[0], kept)

    return train


def batch_of(
    student: Student, groups: list[PreferenceGroup] = GROUPS, prompts: dict[str, Prompt] | None = None
) -> dict:
    given = prompts or prompts_for(Architecture("", lambda _: None, student.reads_images))
    job = job_for(student, Path(), groups=groups, prompts=given)
    return GroupCollator(TrainingRows(job)).batch(groups)


def log_probs_of(student: Student, batch: dict, model: Any = None) -> torch.Tensor:
    """(rows,): mean log-probability per response token, from all logits."""
    with torch.no_grad():
        logits = (model or student.model)(**batch["model"], use_cache=False).logits
    return response_log_probs(logits, batch["labels"]).average


def log_prob_by_hand(student: Student, prompt: Prompt, response: str) -> float:
    """Mean log-probability per token of one response, on a row of its own, token by token."""
    encoded = encode_prompt(student, "one", prompt)
    ids = encode_response(student, response, encoded.end_of_turn)
    row = append_response(encoded, ids)
    with torch.no_grad():
        log_probs = F.log_softmax(student.model(**row, use_cache=False).logits[0].double(), dim=-1)
    found = [log_probs[encoded.length + position - 1, token] for position, token in enumerate(ids)]
    return float(torch.stack(found).mean())


def image_token(student: Student) -> int:
    return student.model.config.image_token_id


def test_there_are_enough_architectures() -> None:
    assert len(IMAGE) >= 5
    assert len(TEXT) >= 3


@pytest.mark.parametrize("name", ALL)
def test_the_config_tells_whether_a_student_reads_images(shared, name) -> None:
    student = shared(name)
    assert student.reads_images == ARCHITECTURES[name].reads_images
    assert (student.processor is student.tokenizer) != student.reads_images


@pytest.mark.parametrize("name", ALL)
def test_a_prompt_says_everything_and_begins_once(shared, name) -> None:
    student, architecture = shared(name), ARCHITECTURES[name]
    ids = encode_prompt(student, "one", prompt_for(architecture)).tensors["input_ids"][0].tolist()
    text = student.tokenizer.decode(ids)
    assert "You are a pathologist." in text
    assert "Name the tissues." in text
    assert student.tokenizer.bos_token == architecture.bos
    if architecture.bos:
        assert ids[0] == student.tokenizer.bos_token_id
        assert ids.count(student.tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("name", ALL)
def test_labels_mark_the_response_and_its_end_and_nothing_else(shared, name) -> None:
    student = shared(name)
    batch, prompts = batch_of(student), prompts_for(ARCHITECTURES[name])
    row = 0
    for group in GROUPS:
        encoded = encode_prompt(student, group.sample_id, prompts[group.sample_id])
        for response in (*group.chosen, *group.rejected):
            marked = batch["labels"][row] != -100
            ids = batch["labels"][row][marked].tolist()
            assert marked.nonzero().flatten().tolist() == list(range(encoded.length, encoded.length + len(ids)))
            assert ids == batch["model"]["input_ids"][row][marked].tolist()
            written = write_response(HEADER, response)
            assert student.tokenizer.decode(ids).startswith(written)
            assert student.tokenizer.decode(ids, skip_special_tokens=True).strip() == written
            assert ids[-1] in stop_tokens(student, encoded.end_of_turn)  # the student is trained to stop
            assert student.tokenizer.bos_token_id not in ids
            assert int(batch["model"]["attention_mask"][row].sum()) == encoded.length + len(ids)
            row += 1
    assert row == len(batch["labels"])


@pytest.mark.parametrize("name", ALL)
def test_a_padded_batch_gives_the_log_probs_of_single_rows(shared, name) -> None:
    student, prompts = shared(name), prompts_for(ARCHITECTURES[name])
    found = log_probs_of(student, batch_of(student))
    by_hand = [
        log_prob_by_hand(student, prompts[group.sample_id], write_response(HEADER, response))
        for group in GROUPS
        for response in (*group.chosen, *group.rejected)
    ]
    assert found.tolist() == pytest.approx(by_hand, abs=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_training_works_on_those_log_probs(shared, trained, name) -> None:
    """The first step's loss, computed through `logits_to_keep`, is the ORPO loss of single rows with all logits."""
    student, prompts, run = shared(name), prompts_for(ARCHITECTURES[name]), trained(name)
    losses = []
    for group in GROUPS:
        chosen, rejected = (
            torch.tensor(
                [log_prob_by_hand(student, prompts[group.sample_id], write_response(HEADER, r)) for r in responses]
            ).double()
            for responses in (group.chosen, group.rejected)
        )
        odds = [x - torch.log(1 - torch.exp(x)) for x in (chosen, rejected)]
        ratio = -F.logsigmoid(odds[0][:, None] - odds[1][None, :])
        losses.append(-chosen.mean() + ratio.mean())
    assert run.first_step["loss"] == pytest.approx(float(torch.stack(losses).mean()), abs=2e-4)
    rows = TrainingRows(job_for(student, Path(), prompts=prompts))
    whole_row = GroupCollator(rows, shared=True).batch(GROUPS)["model"]["input_ids"]
    assert all(kept is not None and 0 < kept < whole_row.shape[1] for kept in run.kept_logits)


@pytest.mark.parametrize("name", ALL)
def test_two_steps_change_every_adapter_weight(trained, name) -> None:
    run = trained(name)
    saved = load_file(run.adapter / "adapter_model.safetensors")
    assert run.result.steps == 2
    assert torch.isfinite(torch.tensor(run.result.final_loss))
    assert len(saved) == 2 * run.result.settings["trainable_layers"] == len(run.after_first_step)
    first = {key.replace(".default", ""): value for key, value in run.after_first_step.items()}
    for key, value in saved.items():
        assert value.dtype == torch.float32
        assert torch.isfinite(value).all()
        assert value.any(), key  # lora_B begins at zero
        assert not torch.equal(value, first[key.removeprefix("base_model.model.")]), key


@pytest.mark.parametrize("name", ALL)
def test_the_adapter_is_plain_peft_without_pickles(trained, name) -> None:
    adapter = trained(name).adapter
    files = {path.name for path in adapter.rglob("*") if path.is_file()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files <= {
        "adapter_config.json", "adapter_model.safetensors", "README.md",
    }  # fmt: skip
    written = json.loads((adapter / "adapter_config.json").read_text())
    assert (written["peft_type"], written["r"]) == ("LORA", 4)


@pytest.mark.parametrize("name", ALL)
def test_a_loaded_adapter_is_the_trained_student(fresh, shared, trained, name) -> None:
    run, batch = trained(name), batch_of(shared(name))
    student = fresh(name)
    before = log_probs_of(student, batch)
    model = load_adapter(student.model, run.adapter)
    after = log_probs_of(student, batch, model)
    assert torch.allclose(after, log_probs_of(run.student, batch), atol=1e-6)
    assert (after - before).abs().max() > 1e-2


@pytest.mark.parametrize("name", ALL)
def test_batched_answers_equal_single_ones(fresh, shared, trained, name) -> None:
    student = fresh(name)
    prompts = prompts_for(ARCHITECTURES[name])
    base = dict(generate(student, prompts, max_new_tokens=8, batch_size=2))
    aligned_model = load_adapter(student.model, trained(name).adapter)
    aligned = dict(generate(student, prompts, max_new_tokens=8, batch_size=2, model=aligned_model))
    for answers, model in ((base, shared(name).model), (aligned, aligned_model)):
        assert list(answers) == list(prompts)
        assert any(answers.values())
        single = dict(generate(student, prompts, max_new_tokens=8, batch_size=1, model=model))
        assert answers == single
    run = trained(name).student
    assert aligned == dict(generate(run, prompts, max_new_tokens=8, batch_size=2))


@pytest.mark.parametrize("name", ALL)
def test_left_padding_changes_no_next_token(shared, name) -> None:
    """Generation pads on the left; images and masks must move with their prompt. Rotary positions are relative."""
    student = shared(name)
    encoded = [encode_prompt(student, key, prompt) for key, prompt in prompts_for(ARCHITECTURES[name]).items()]
    assert encoded[0].length != encoded[1].length
    batch = stack([prompt.tensors for prompt in encoded], student.tokenizer.pad_token_id, "left")
    with torch.no_grad():
        together = student.model(**batch, use_cache=False).logits[:, -1]
        alone = [student.model(**prompt.tensors, use_cache=False).logits[0, -1] for prompt in encoded]
    assert torch.allclose(together, torch.stack(alone), atol=1e-4)


@pytest.mark.parametrize("name", [name for name in ALL if name not in {"llava", "idefics3", "smolvlm"}])
def test_an_appended_response_is_what_the_processor_makes_of_the_whole_talk(shared, name) -> None:
    """Not LLaVA, Idefics and SmolVLM: they put a space before a given answer, which no generation prompt has."""
    student, prompt = shared(name), prompt_for(ARCHITECTURES[name])
    text = write_response(HEADER, ("Colon", "Liver"))
    encoded = encode_prompt(student, "one", prompt)
    row = append_response(encoded, encode_response(student, text, encoded.end_of_turn))
    image = prompt.image.open() if prompt.image else None
    turns = render_messages(prompt, student.processor, parts=student.reads_images, image=image)
    content = [{"type": "text", "text": text}] if student.reads_images else text
    whole = student.processor.apply_chat_template(
        [*turns, {"role": "assistant", "content": content}], tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert row.keys() == whole.keys()
    length = row["input_ids"].shape[1]
    assert length > encoded.length
    for key, value in row.items():
        expected = whole[key][:, :length] if key in PER_TOKEN else whole[key]  # templates end with a line break
        assert torch.equal(value, expected), key


@pytest.mark.parametrize("name", ALL)
def test_a_row_longer_than_the_context_is_refused_not_cut(shared, name, tmp_path) -> None:
    student, architecture = shared(name), ARCHITECTURES[name]
    fits = encode_prompt(student, "fits", prompt_for(architecture, "Colon. " * 100)).length
    assert 200 < fits < CONTEXT
    prompts = {"case-7": prompt_for(architecture, "Colon. " * 300)}
    group = PreferenceGroup("case-7", (("Colon",),), (("Skin",),))
    assert encode_prompt(student, "case-7", prompts["case-7"]).length > CONTEXT  # nothing was cut
    with pytest.raises(DataError, match=r"case-7.*context"):
        batch_of(student, [group], prompts)
    with pytest.raises(DataError, match=r"case-7.*context"):
        list(generate(student, prompts, max_new_tokens=4, batch_size=1))
    # The response counts too: its last token must fit.
    length = encode_prompt(student, "fits", prompt_for(architecture)).length
    with pytest.raises(DataError, match="fits"):
        list(generate(student, {"fits": prompt_for(architecture)}, max_new_tokens=CONTEXT - length + 1, batch_size=1))


@pytest.mark.parametrize("name", ALL)
def test_default_lora_touches_no_vision(fresh, trained, name) -> None:
    saved = load_file(trained(name).adapter / "adapter_model.safetensors")
    touched = {key.partition(".lora_")[0].removeprefix("base_model.model.") for key in saved}
    assert {key.rpartition(".")[2] for key in touched} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    seen = ("vision", "visual", "projector", "connector")
    assert not [key for key in touched if any(word in key for word in seen)]
    if ARCHITECTURES[name].reads_images:
        model = fresh(name).model
        with_vision = set(target_modules(model, "attention", vision=True))
        assert with_vision > touched
        assert all(any(word in key for word in seen) for key in with_vision - touched)


@pytest.mark.parametrize("name", IMAGE)
def test_all_image_tokens_are_in_the_row(shared, name) -> None:
    student, architecture = shared(name), ARCHITECTURES[name]
    encoded = encode_prompt(student, "one", prompt_for(architecture))
    row = append_response(encoded, encode_response(student, "1. Colon", encoded.end_of_turn))
    assert int((row["input_ids"] == image_token(student)).sum()) == architecture.image_tokens
    batch = batch_of(student)
    for position, group in enumerate(g for g in GROUPS for _ in (*g.chosen, *g.rejected)):
        prompt = encode_prompt(student, group.sample_id, prompts_for(architecture)[group.sample_id])
        expected = int((prompt.tensors["input_ids"] == image_token(student)).sum())
        assert int((batch["model"]["input_ids"][position] == image_token(student)).sum()) == expected > 0


@pytest.mark.parametrize("name", IMAGE)
def test_another_image_gives_another_likelihood(shared, name) -> None:
    student, architecture = shared(name), ARCHITECTURES[name]
    response = write_response(HEADER, ("Colon", "Liver"))
    first, again, other = (
        log_prob_by_hand(student, prompt_for(architecture, image=image), response) for image in (SQUARE, SQUARE, OTHER)
    )
    assert first == again
    assert abs(first - other) > 1e-3


@pytest.mark.parametrize("name", IMAGE)
def test_bf16_students_get_bf16_pixels(fresh, tmp_path, name) -> None:
    """The Trainer moves tensors and casts nothing; on a CPU there is no autocast that would hide it."""
    student = fresh(name, dtype="bf16")
    kinds: set[torch.dtype] = set()
    student.model.register_forward_pre_hook(
        lambda module, args, kwargs: kinds.add(kwargs["pixel_values"].dtype), with_kwargs=True
    )
    result = Orpo(config(epochs=1)).align(job_for(student, tmp_path))
    assert torch.isfinite(torch.tensor(result.final_loss))
    assert kinds == {torch.bfloat16}
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.float32}
    aligned = load_adapter(fresh(name, dtype="bf16").model, tmp_path / "adapter")
    answers = dict(generate(student, prompts_for(ARCHITECTURES[name]), max_new_tokens=2, batch_size=2, model=aligned))
    assert len(answers) == 2


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "mllama"])
def test_vision_lora_with_gradient_checkpointing(fresh, trained, tmp_path, name) -> None:
    student = fresh(name)
    options = config(epochs=1, gradient_checkpointing=True, lora_vision=True)
    figures = []
    Orpo(options).align(job_for(student, tmp_path, lambda step, total, latest: figures.append(latest)))
    assert figures[0]["loss"] == pytest.approx(trained(name).first_step["loss"], abs=1e-5)
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    vision = {key: value for key, value in saved.items() if "lora_B" in key and ("vision" in key or "visual" in key)}
    assert vision
    assert any(value.any() for value in vision.values())  # the gradient reaches the tower


@pytest.mark.parametrize("name", ["llama", "mllama", "llava", "qwen2_5_vl"])
def test_nll_over_prompt_and_response_leaves_image_tokens_out(fresh, shared, tmp_path, name) -> None:
    student, figures = fresh(name), []
    options = config(epochs=1, nll="all", weight=0.0)
    Orpo(options).align(job_for(student, tmp_path, lambda step, total, latest: figures.append(latest)))
    batch = batch_of(shared(name))
    with torch.no_grad():
        logits = shared(name).model(**batch["model"], use_cache=False).logits.double()
    per_row = []
    for row, length in enumerate(batch["model"]["attention_mask"].sum(dim=1).tolist()):
        ids = batch["model"]["input_ids"][row, :length]
        text = [t for t in range(1, length) if ARCHITECTURES[name].image_tokens == 0 or ids[t] != image_token(student)]
        scores = [-F.log_softmax(logits[row, t - 1], dim=-1)[ids[t]] for t in text]
        per_row.append(torch.stack(scores).mean())
    expected = (torch.stack(per_row[:2]).mean() + per_row[4]) / 2  # the chosen rows of both groups
    assert figures[0]["nll"] == pytest.approx(float(expected), abs=2e-4)


@pytest.mark.parametrize("name", ["gemma3", "qwen2_5_vl", "mllama"])
def test_a_student_that_answered_can_be_trained(fresh, tmp_path, trained, name) -> None:
    """What a model keeps from generation (positions, masks) must not leak into training."""
    student, figures = fresh(name), []
    list(generate(student, prompts_for(ARCHITECTURES[name]), max_new_tokens=2, batch_size=2))
    Orpo(config(epochs=1)).align(job_for(student, tmp_path, lambda step, total, latest: figures.append(latest)))
    assert figures[0]["loss"] == pytest.approx(trained(name).first_step["loss"], abs=1e-5)


def test_a_missing_package_is_named() -> None:
    said = explain_load_failure("student", "org/SmolVLM", ImportError("\nPackage `num2words` is required."))
    assert said == (
        "The student org/SmolVLM needs a package that is not installed here (Package `num2words` is required.)."
    )


def test_a_text_student_refuses_images(shared) -> None:
    with pytest.raises(ModelError, match="reads text only"):
        encode_prompt(shared("llama"), "one", Prompt((Message("user", "Which?"),), SQUARE))


def test_a_system_line_that_the_template_would_drop_is_kept(fresh) -> None:
    student = fresh("qwen2")
    student.tokenizer.chat_template = (
        "{% for m in messages if m['role'] != 'system' %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    )
    messages = render_messages(prompt_for(ARCHITECTURES["qwen2"]), student.tokenizer, parts=False)
    assert messages == [{"role": "user", "content": "You are a pathologist.\nName the tissues."}]
    student.tokenizer.chat_template = "{% for m in messages %}<|im_start|>{{ m['role'] }}<|im_end|>{% endfor %}"
    with pytest.raises(ModelError, match="drops a part"):
        render_messages(prompt_for(ARCHITECTURES["qwen2"]), student.tokenizer, parts=False)


@pytest.mark.parametrize("name", IMAGE)
def test_a_template_that_drops_the_image_is_an_error(fresh, name) -> None:
    student = fresh(name)
    student.processor.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% for part in m['content'] if part['type'] == 'text' %}"
        "{{ part['text'] }}{% endfor %}{% endfor %}"
    )
    with pytest.raises(ModelError, match="image"):
        encode_prompt(student, "one", prompt_for(ARCHITECTURES[name]))


def test_a_student_without_a_special_end_of_turn_gets_the_end_of_sequence(fresh) -> None:
    student = fresh("llava")
    end = student.tokenizer.eos_token_id
    for end_of_turn in ("", " ", "### End"):
        assert encode_response(student, "1. Colon", end_of_turn)[-1] == end
        assert stop_tokens(student, end_of_turn) == [end]
    assert encode_response(student, "1. Colon", "</s>").count(end) == 1


def test_a_tokenizer_that_asks_for_truncation_does_not_get_it(fresh) -> None:
    student = fresh("llama")
    student.tokenizer.model_max_length = 16
    encoded = encode_prompt(student, "one", prompt_for(ARCHITECTURES["llama"]))
    assert encoded.length > 16
    assert student.tokenizer.decode(encoded.tensors["input_ids"][0]).rstrip().endswith("<|end_header_id|>")


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_goes_to_its_side(side) -> None:
    rows = [{"input_ids": torch.tensor([[5]])}, {"input_ids": torch.tensor([[6, 7]])}]
    expected = [[0, 5], [6, 7]] if side == "left" else [[5, 0], [6, 7]]
    assert stack(rows, 0, side)["input_ids"].tolist() == expected


def test_the_output_of_multihead_attention_is_left_alone() -> None:
    """It is never called, so that an adapter on it would learn nothing (SigLIP's pooling head)."""

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vision_head = torch.nn.MultiheadAttention(4, 2)
            self.q_proj = torch.nn.Linear(4, 4)

        def get_output_embeddings(self) -> None:
            return None

    assert target_modules(Tower(), "attention", vision=True) == ["q_proj"]
