"""`mint plan`: what it says is what training does, and it loads neither teacher nor student."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
import transformers as tf
import yaml
from PIL import Image

import mint_core
from mint_core.aligners.batches import GroupCollator
from mint_core.aligners.rows import TrainingRows
from mint_core.config import StudentConfig, merge, resolve
from mint_core.errors import DataError
from mint_core.interfaces import AlignmentJob
from mint_core.observer import Observer
from mint_core.planning.activations import _Saved, count_activations
from mint_core.planning.lengths import GroupLengths, PromptLengths, prompt_lengths
from mint_core.planning.plan import Plan, make_plan
from mint_core.planning.tokens import count
from mint_core.plugins import registry
from mint_core.stages.outputs import read_preferences
from mint_core.stages.prompts import training_prompts
from mint_core.stages.run import Run
from mint_core.students.adapter import add_lora, target_modules
from mint_core.students.encoding import EncodedPrompt, encode_prompt
from mint_core.students.load import load_outline, load_student
from mint_core.types import ImageRef, Message, PreferenceGroup, Prompt
from tests.tiny_students import ARCHITECTURES, HEADER, build

TOY = Path(__file__).with_name("toy_plugin.py").read_text(encoding="utf-8")


class Plain(ImageRef):
    """A grey image of 60 x 40 pixels."""

    key = "plain"

    def open(self) -> Image.Image:
        return Image.new("RGB", (60, 40), "grey")


@pytest.fixture(scope="session")
def students(tmp_path_factory: pytest.TempPathFactory):
    """Builds each student once."""
    root = tmp_path_factory.mktemp("plan-students")

    def folder(name: str) -> Path:
        needs = ARCHITECTURES[name].needs
        if needs:
            pytest.importorskip(needs)
        return root / name if (root / name).exists() else build(name, root / name)

    return folder


@pytest.fixture
def toy(install_plugin, tmp_path: Path, students, monkeypatch: pytest.MonkeyPatch):
    install_plugin("mint-toy", "toy_plugin_under_test", TOY)
    monkeypatch.chdir(tmp_path)
    return {
        "task": "toy",
        "student": {"model": str(students("llama")), "device": "cpu"},
        "strategy": {"name": "pairwise", "k": 2, "q": 3},
        "out": str(tmp_path / "runs"),
        "name": "t",
        "aligner": {"name": "orpo", "epochs": 2, "warmup": 0.1, "lora_rank": 4, "batch_size": 3, "accumulation": 2},
        "evaluate": {"bootstrap": 200},
    }


def planned(toy: dict, change: dict | None = None, **options) -> Plan:
    return make_plan(resolve(merge(toy, change or {}), registry()), **options)


def write(toy: dict) -> Path:
    config = Path(toy["out"]).parent / "mint.yaml"
    config.write_text(yaml.safe_dump(toy))
    return config


def test_tokens_by_hand() -> None:
    """P = 150, L = 8, k = q = 10: P + (k + q)L, (k + q)(P + L), 2kq(P + L); chosen only: P + kL, k(P + L) twice."""
    group = GroupLengths("p", PromptLengths(150, 0, 150, 0), (8,) * 10, (8,) * 10)
    tokens = count([group], rejected=True)
    assert (tokens.shared, tokens.distinct, tokens.expanded) == (310, 3160, 31600)
    tokens = count([group, group], rejected=False)
    assert (tokens.shared, tokens.distinct, tokens.expanded) == (2 * 230, 2 * 1580, 2 * 1580)
    uneven = GroupLengths("p", PromptLengths(10, 0, 10, 0), (1, 2), (3, 4, 5))
    pairs = [(c, r) for c in (1, 2) for r in (3, 4, 5)]
    assert count([uneven], rejected=True).expanded == sum(20 + c + r for c, r in pairs)


def test_lengths_and_steps_are_those_of_the_training(toy) -> None:
    plan = planned(toy)
    assert (plan.groups_from.basis, plan.groups, plan.pairs) == ("drawn", 16, 96)
    run = mint_core.run(toy, until="align")
    facts = json.loads((run.path / "run.json").read_text())["stages"]["align"]["facts"]
    plan = planned(toy)
    assert plan.groups_from.basis == "preferences"
    assert [phase.steps for phase in plan.phases] == [facts["steps"]]
    assert facts["steps"] == 6  # 16 groups in batches of 3, two batches per step, two epochs
    groups = read_preferences(run.path / "preferences" / "preferences.parquet")
    student = load_student(StudentConfig(**toy["student"]))
    made = Run(resolve(toy, registry()), run.path, Observer(), run.path)
    job = _job(student, groups, training_prompts(made, student, groups).prompts)
    rows = GroupCollator(TrainingRows(job), shared=False).batch(groups)["model"]["attention_mask"].sum(1)
    assert plan.lengths.max_length == int(rows.max())
    assert plan.phases[0].tokens_per_epoch.distinct == int(rows.sum())
    shared = GroupCollator(TrainingRows(job), shared=True).batch(groups)["size"].real
    assert plan.phases[0].tokens_per_epoch.shared == shared


def test_rankings_of_any_run_beside_it_are_used(toy) -> None:
    mint_core.run({**toy, "name": "other"}, until="label")
    plan = planned(toy)
    assert plan.groups_from.basis == "rankings"
    assert plan.groups_from.run == Path(toy["out"]) / "other"
    assert planned(toy, {"teacher": {"name": "oracle", "sharpness": 9.0}}).groups_from.basis == "drawn"


def test_the_command_writes_nothing_and_says_everything(toy, mint) -> None:
    config = write(toy)
    answer = mint("plan", "-c", config, "--json", "-q")
    assert answer.code == 0, answer.err
    made = json.loads(answer.out)
    assert (made["groups"], made["pairs"], made["groups_per_step"], made["groups_from"]) == (16, 96, 6, "drawn")
    assert made["phases"][0]["layout"] == "shared"
    assert made["phases"][0]["ratio_expanded"] > made["phases"][0]["ratio_distinct"] > 1
    memory = made["memory"]
    parts = ("weights", "adapter", "gradients", "optimiser", "activations", "logits", "libraries")
    assert memory["total"] == sum(memory[part] for part in parts)
    assert all(memory[part] > 0 for part in parts)
    assert memory["adapter"] == 4 * memory["trainable"] == memory["optimiser"] // 2
    assert made["seconds"] is None
    answer = mint("plan", "-c", config)
    for word in ("max_length that cuts nothing", "against shared", "lower bound", "warm-up", "drawn at random"):
        assert word in answer.out + answer.err
    assert "SECRET" not in answer.out + answer.err
    assert not Path(toy["out"]).exists()


def test_weights_are_not_needed(toy, students, tmp_path: Path) -> None:
    """A folder with config and tokenizer of an 8B Llama."""
    big = tmp_path / "big"
    shutil.copytree(students("llama"), big, ignore=shutil.ignore_patterns("*.safetensors"))
    vocabulary = json.loads((big / "config.json").read_text())["vocab_size"]
    tf.LlamaConfig(vocab_size=vocabulary, num_key_value_heads=8, intermediate_size=14336).save_pretrained(big)
    begin = time.monotonic()
    plan = planned(toy, {"student": {"model": str(big)}, "aligner": {"lora_rank": None}}, memory_gib=40)
    assert time.monotonic() - begin < 30
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096
    assert plan.memory.parameters == 32 * layer + 2 * vocabulary * 4096 + 4096
    assert plan.memory.weights == pytest.approx(2 * plan.memory.parameters, rel=1e-3)
    # Rank 128 from 2B parameters on, for query, key, value and output of every layer.
    assert plan.memory.trainable == 32 * 128 * (2 * (4096 + 4096) + 2 * (4096 + 1024))
    assert plan.memory.activations_checkpointed < plan.memory.activations_kept / 4


def test_a_row_beyond_the_context_is_refused_with_sample_and_length(toy, students, tmp_path: Path, mint) -> None:
    longest = planned(toy).lengths
    short = tmp_path / "short"
    shutil.copytree(students("llama"), short)
    config = json.loads((short / "config.json").read_text())
    config["max_position_embeddings"] = longest.max_length - 1
    (short / "config.json").write_text(json.dumps(config))
    answer = mint("plan", "-c", write(toy), "--student", short)
    assert answer.code == 4
    last = answer.err.strip().splitlines()[-1]
    assert f"Sample {longest.longest_sample}:" in last
    assert f"{longest.max_length} tokens" in last
    assert "SECRET" not in answer.err


def test_an_answer_beyond_the_context_is_refused_too(toy, mint) -> None:
    answer = mint("plan", "-c", write(toy), "--set", "predict.max_new_tokens=500")
    assert (answer.code, "context holds 512" in answer.err) == (4, True)
    answer = mint("plan", "-c", write(toy), "--set", "predict.max_new_tokens=500", "--set", "predict.decode=score")
    assert answer.code == 0, answer.err  # scores are no generation


def test_only_the_lower_bound_refuses(toy, mint) -> None:
    memory = planned(toy, memory_gib=80).memory
    assert memory.libraries == 0
    assert memory.weights == pytest.approx(planned(toy).memory.weights / 2, rel=0.01)  # bf16, as on a GPU
    config, gib = write(toy), 2**30
    answer = mint("plan", "-c", config, "--memory", 0.9 * memory.lower_bound / gib)
    assert answer.code == 2
    assert "takes at least" in answer.err.strip().splitlines()[-1]
    answer = mint("plan", "-c", config, "--memory", 1.1 * memory.lower_bound / gib)
    assert answer.code == 0, answer.err
    assert "warning: The estimate of" in answer.out
    assert "warning" not in mint("plan", "-c", config, "--memory", 2 * memory.total / gib).out


def test_the_probe_trains_every_phase_and_keeps_nothing(toy) -> None:
    toy["aligner"] = {**toy["aligner"], "name": "dpo", "sft_epochs": 3, "accumulation": 1}
    plan = planned(toy, steps=True)
    assert [phase.rejected for phase in plan.phases] == [False, True]
    assert [phase.steps for phase in plan.phases] == [18, 12]
    assert len(plan.probe.seconds_per_step) == 2
    assert all(seconds > 0 for seconds in plan.probe.seconds_per_step)
    first, second = plan.probe.seconds_per_step
    assert plan.seconds == pytest.approx(18 * first + 12 * second)
    assert plan.probe.peak_memory > plan.memory.weights
    assert not Path(toy["out"]).exists()


@pytest.mark.parametrize(
    ("change", "layout", "rejected"),
    [
        ({}, "shared", True),
        ({"aligner": {"share_prompt": False}}, "distinct", True),
        ({"aligner": {"nll": "all"}}, "distinct", True),
        ({"strategy": {"name": "listwise", "k": 2, "q": 3}}, "shared", True),
    ],
)
def test_the_layout_that_is_used(toy, change: dict, layout: str, rejected: bool) -> None:
    phase = planned(toy, change).phases[0]
    assert (phase.layout, phase.rejected) == (layout, rejected)


def test_sft_reads_what_was_chosen_only(toy) -> None:
    plan = planned({**toy, "aligner": {**toy["aligner"], "name": "sft"}})
    assert plan.lengths.rejected is None
    assert plan.pairs == 32
    assert plan.phases[0].tokens_per_epoch.expanded == plan.phases[0].tokens_per_epoch.distinct


def test_a_sample_of_the_groups_is_named_as_such(toy) -> None:
    whole, part = planned(toy), planned(toy, sample=5)
    assert part.counted == 5
    assert part.phases[0].tokens_per_epoch.shared == pytest.approx(whole.phases[0].tokens_per_epoch.shared, rel=0.1)
    assert "Only 5 of 16 groups were counted" in part.warnings[0]


def test_passages_in_the_training_prompts_are_counted(toy) -> None:
    without = planned(toy, {"retriever": "echo"}).lengths
    assert without == planned(toy).lengths
    with_passages = planned(toy, {"retriever": "echo", "retrieval": {"train": True}}).lengths
    assert with_passages.prompt.min > without.prompt.max


def test_without_an_aligner_there_is_nothing_to_plan(toy, mint) -> None:
    del toy["aligner"]
    answer = mint("plan", "-c", write(toy), "--aligner", "none")
    assert (answer.code, "nothing to plan" in answer.err) == (2, True)


def _prompt(name: str) -> Prompt:
    image = Plain() if ARCHITECTURES[name].reads_images else None
    return Prompt((Message("system", "Keep to it."), Message("user", "Name the 2 tissues.")), image)


def _job(student, groups, prompts) -> AlignmentJob:
    return AlignmentJob(student, groups, prompts, HEADER, 0, Path("w"), Path("a"), lambda *_: None)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_image_tokens_are_counted_before_and_after(name: str, students) -> None:
    student = load_outline(StudentConfig(model=str(students(name)), device="cpu"))
    prompt = _prompt(name)
    encoded = encode_prompt(student, "p", prompt)
    lengths = prompt_lengths(student, prompt, encoded)
    reads = ARCHITECTURES[name].reads_images
    assert lengths.marks == (1 if reads else 0)
    assert (lengths.image > 0) == reads
    assert lengths.after == encoded.length
    cut = {key: tensor[:, :-3] for key, tensor in encoded.tensors.items() if tensor.dim() == 2}
    fewer = EncodedPrompt("p7", {**encoded.tensors, "input_ids": cut["input_ids"][:, -8:]}, encoded.end_of_turn)
    with pytest.raises(DataError, match="Sample p7: the processor"):
        prompt_lengths(student, prompt, fewer)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_activations_on_meta_are_those_that_autograd_keeps(name: str, shared: bool, students) -> None:
    """Bytes of saved tensors, counted without numbers and on the real student; to the byte."""
    config = StudentConfig(model=str(students(name)), device="cpu")
    groups = [PreferenceGroup("p", (("Colon",), ("Liver", "Skin")), (("Kidney",),))] * 3
    counts = []
    for load, device in ((load_outline, "meta"), (load_student, "cpu")):
        student = load(config)
        batch = GroupCollator(TrainingRows(_job(student, groups, {"p": _prompt(name)})), shared=shared).batch(groups)
        with torch.device(device):
            model = add_lora(student.model, target_modules(student.model, "attention", vision=False), 8, 8, 0.05)
        if device == "meta":
            counts.append(count_activations(student, model, batch).kept)
            continue
        saved = _Saved(model.train())
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
            model(**batch["model"], use_cache=False)
        counts.append(sum(saved.bytes.values()))
    assert counts[0] == counts[1]
