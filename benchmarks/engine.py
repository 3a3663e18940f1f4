"""What an optimiser step costs per sample: the shared prompt against distinct rows, expanded pairs and TRL.

    python benchmarks/engine.py                      all parts, about 15 minutes on two cores
    python benchmarks/engine.py --only text lists    some of them
    python benchmarks/engine.py --quick              sizes that prove that it works, in a minute

equality  loss and adapter gradients of shared groups against expanded pairs, one row at a time, for eight architectures
text      prompt of 150 tokens, 10 chosen and 10 rejected labels of 8 tokens, a Llama of 30 M parameters
lists     the same prompt, one chosen and one rejected list of 112 tokens
image     a LLaVA with 256 image tokens in the row, 5 chosen and 5 rejected labels
growth    time and tokens over k = q and the length of the prompt

Every way of computing one and the same job runs in a process of its own, so that peak memory is its own; all of them
train a LoRA adapter for a few steps through mint's aligner `orpo`, and the median step counts. `trl` is TRL's
ORPOTrainer on the expanded pairs (aligner `trl-orpo`), `pairs` the same pairs through mint without sharing anything,
`distinct` one row per response, `shared` the default. Weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT))  # the tiny students of the tests

HEADER = "LABELS:"
END = "</s>"
WORDS = tuple(f"w{number}" for number in range(4000))
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}<image> {% else %}{{ p['text'] }}{% endif %}{% endfor %}"
    "{% endif %} {% if m['role'] == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)


@dataclass(frozen=True)
class Size:
    """What is trained on."""

    kind: str
    """`text` or `image`."""
    hidden: int
    layers: int
    prompt: int
    """Words of the prompt."""
    k: int
    """Configured labels, and as many rejected ones."""
    entries: int = 1
    """Labels per response."""
    label: int = 5
    """Words of a label."""
    patches: int = 16
    """Image patches per side."""
    rank: int = 16
    device: str = "cpu"
    dtype: str = "fp32"
    batch: int = 1
    """Samples per optimiser step."""
    checkpointing: bool = False


SIZES = {
    "text": Size("text", 512, 8, 146, 10),
    "lists": Size("text", 512, 8, 146, 1, entries=10, label=10),
    "image": Size("image", 384, 6, 30, 5),
}
QUICK = {"hidden": 64, "layers": 2}


@dataclass(frozen=True)
class Drawn:
    """An image that is drawn where it is opened."""

    seed: int
    side: int

    @property
    def key(self) -> str:
        """What identifies it."""
        return f"{self.seed}/{self.side}"

    def open(self) -> Image.Image:
        """Noise."""
        pixels = np.random.default_rng(self.seed).integers(0, 255, (self.side, self.side, 3), np.uint8)
        return Image.fromarray(pixels)


def words_tokenizer() -> Any:
    """One token per word, so that lengths are what they are said to be."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", END, "<pad>", "<image>"]
    known = [*special, HEADER, ":", "system", "user", "assistant", *(f"{n}." for n in range(1, 60)), *WORDS]
    raw = Tokenizer(models.WordLevel({word: place for place, word in enumerate(known)}, unk_token="<unk>"))  # noqa: S106
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.add_special_tokens(special)
    words = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token=END, pad_token="<pad>", unk_token="<unk>"  # noqa: S106
    )  # fmt: skip
    words.chat_template = TEMPLATE
    return words


def make_student(size: Size) -> Any:
    """A student with random weights."""
    import torch
    import transformers as tf

    from mint_core.interfaces import Student

    torch.manual_seed(0)
    words = words_tokenizer()
    text = tf.LlamaConfig(
        vocab_size=len(words), hidden_size=size.hidden, intermediate_size=int(size.hidden * 2.75),
        num_hidden_layers=size.layers, num_attention_heads=max(2, size.hidden // 64), max_position_embeddings=16_384,
        pad_token_id=words.pad_token_id, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
    )  # fmt: skip
    if size.kind == "text":
        model: Any = tf.LlamaForCausalLM(text)
        processor: Any = words
    else:
        side = size.patches * 14
        vision = tf.CLIPVisionConfig(
            hidden_size=size.hidden, intermediate_size=size.hidden * 4, num_hidden_layers=size.layers,
            num_attention_heads=max(2, size.hidden // 64), image_size=side, patch_size=14,
        )  # fmt: skip
        image_token = words.convert_tokens_to_ids("<image>")
        model = tf.LlavaForConditionalGeneration(
            tf.LlavaConfig(
                text_config=text, vision_config=vision, image_token_index=image_token, image_seq_length=size.patches**2
            )
        )
        processor = tf.LlavaProcessor(
            tf.CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}), words,
            patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1,
            chat_template=TEMPLATE,
        )  # fmt: skip
    device = torch.device(size.device)
    model.to(device=device, dtype=torch.bfloat16 if size.dtype == "bf16" else torch.float32).eval()
    return Student(model, processor, words, size.kind == "image", device, "random weights")


def make_job(student: Any, size: Size, samples: int, folder: Path) -> Any:
    """Groups of distinct labels, each with a prompt of its own."""
    from mint_core.interfaces import AlignmentJob
    from mint_core.types import Message, PreferenceGroup, Prompt

    rng = np.random.default_rng(0)

    def response(first: int) -> tuple[str, ...]:
        """Distinct labels: each begins with a word of its own."""
        rest = rng.choice(WORDS, (size.entries, size.label - 1))
        return tuple(" ".join((WORDS[first * size.entries + row], *rest[row])) for row in range(size.entries))

    groups, prompts = [], {}
    for number in range(samples):
        name = f"s{number}"
        made = [response(first) for first in range(2 * size.k)]
        groups.append(PreferenceGroup(name, tuple(made[: size.k]), tuple(made[size.k :])))
        image: Any = Drawn(number, size.patches * 14) if size.kind == "image" else None
        prompts[name] = Prompt((Message("user", " ".join(rng.choice(WORDS, size.prompt))),), image)
    return AlignmentJob(
        student=student, groups=groups, prompts=prompts, header=HEADER, seed=0, work=folder / "work",
        adapter=folder / "adapter", advance=lambda *_: None,
    )  # fmt: skip


def lengths(job: Any) -> dict[str, Any]:
    """Tokens of the first group, and what each way makes of them per sample."""
    from mint_core.aligners.batches import GroupCollator
    from mint_core.aligners.rows import TrainingRows

    row = GroupCollator(TrainingRows(job)).row(job.groups[0])
    prompt, responses = row.prompt.length, [len(ids) for ids in row.responses]
    k = q = len(responses) // 2
    return {
        "prompt": prompt, "response": max(responses), "k": k, "q": q,
        "tokens": {
            "shared": prompt + sum(responses), "distinct": sum(prompt + length for length in responses),
            "pairs": sum(q * (prompt + length) for length in responses),
        },
    }  # fmt: skip


def time_variant(variant: str, size: Size, steps: int, make: Callable[[Size], Any] = make_student) -> dict[str, Any]:
    """Trains `steps` + 1 steps one way; the first step does not count.

    Args:
        variant: shared, distinct, pairs or trl.
        size: What is trained on.
        steps: Steps that count.
        make: Builds the student.
    """
    import torch

    from mint_core.aligners.orpo import Orpo, OrpoConfig
    from mint_trl.aligners import TrlOrpo, TrlOrpoConfig
    from mint_trl.engine import expand

    student = make(size)
    loaded = peak_mib(size)
    pairs = size.k**2 if variant in ("pairs", "trl") else 1
    with tempfile.TemporaryDirectory() as folder:
        job = make_job(student, size, size.batch * (steps + 1), Path(folder))
        measured = lengths(job)
        ticks = [time.perf_counter()]

        def tick(*_: object) -> None:
            if size.device != "cpu":
                torch.cuda.synchronize()
            ticks.append(time.perf_counter())

        kind, options = (TrlOrpo, TrlOrpoConfig) if variant == "trl" else (Orpo, OrpoConfig)
        config = options(
            share_prompt=variant == "shared", epochs=1, warmup=0, batch_size=size.batch * pairs, token_budget=None,
            learning_rate=1e-4, lora_rank=size.rank, lora_targets="all-linear", lora_dropout=0.0, log_steps=10_000,
            save_steps=10_000, gradient_checkpointing=size.checkpointing,
        )  # fmt: skip
        groups = expand(job.groups, rejected=True) if variant == "pairs" else job.groups
        result = kind(config).align(replace(job, groups=groups, advance=tick))
    seconds = [after - before for before, after in pairwise(ticks)][1:]
    return {
        **measured, "variant": variant, "parameters": sum(p.numel() for p in student.model.parameters()),
        "steps": result.steps, "seconds_per_sample": statistics.median(seconds) / size.batch,
        "seconds": seconds, "loaded_mib": loaded, "peak_mib": peak_mib(size),
    }  # fmt: skip


def peak_mib(size: Size) -> float:
    """Peak memory so far: of the process, or of the GPU."""
    if size.device != "cpu":
        import torch

        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def in_process(variant: str, size: Size, steps: int, script: str = __file__) -> dict[str, Any]:
    """`time_variant` in a process of its own."""
    payload = json.dumps({"variant": variant, "size": size.__dict__, "steps": steps})
    command = [sys.executable, script, "--variant", payload]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this file itself
    if done.returncode:
        return {"variant": variant, "failed": done.stderr.strip().splitlines()[-1:]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(size: Size, variants: dict[str, int], script: str = __file__) -> dict[str, Any]:
    """All ways on one size, one after the other, and how many times the default is faster.

    Args:
        size: What is trained on.
        variants: Steps to measure by variant.
        script: Which file runs a variant.
    """
    found = {name: in_process(name, size, steps, script) for name, steps in variants.items()}
    shared = found["shared"].get("seconds_per_sample", float("nan"))
    ratios = {
        name: round(other["seconds_per_sample"] / shared, 2)
        for name, other in found.items()
        if name != "shared" and "seconds_per_sample" in other
    }
    return {"size": size.__dict__, "times_faster_than": ratios, "variants": found}


def equality() -> dict[str, Any]:
    """Relative difference of the loss and of all adapter gradients between a shared group and its expanded pairs."""
    import torch

    from mint_core.aligners.batches import GroupCollator, Scorer
    from mint_core.aligners.losses import dpo_loss, orpo_loss, response_log_probs, set_mean
    from mint_core.aligners.rows import TrainingRows
    from mint_core.config import StudentConfig
    from mint_core.students.adapter import add_lora, target_modules
    from mint_core.students.encoding import append_response
    from mint_core.students.load import load_student
    from mint_core.types import Message, PreferenceGroup, Prompt
    from tests.tiny_students import LABELS, build

    def losses(chosen: Any, rejected: Any) -> dict[str, Any]:
        """Of (k,) and (q,) responses, over all pairs; DPO's reference says the same of every response."""
        average, other = chosen.average[:, None], rejected.average[None, :]
        total, worse = chosen.total[:, None], rejected.total[None, :]
        equal = torch.full((), -20.0)
        return {
            "sft": -chosen.average.mean(),
            "orpo": orpo_loss(average, other, -average, 1.0).loss,
            "dpo": dpo_loss(total, worse, equal, equal, 0.1).loss,
        }

    def gradients(model: Any, loss: Any) -> Any:
        model.zero_grad()
        loss.backward(retain_graph=True)
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    results: dict[str, Any] = {}
    for family in ("llama", "gemma2", "qwen2", "mllama", "llava", "qwen2_5_vl", "smolvlm", "gemma3"):
        with tempfile.TemporaryDirectory() as folder:
            student = load_student(StudentConfig(model=str(build(family, Path(folder))), device="cpu"))
        image: Any = Drawn(1, 56) if student.reads_images else None
        group = PreferenceGroup("s", tuple((x,) for x in LABELS[:3]), (tuple(LABELS[3:5]), (LABELS[5],)))
        job = replace(
            make_job(student, replace(SIZES["text"], k=1), 0, Path()),
            groups=[group], prompts={"s": Prompt((Message("user", "A patch of unknown origin."),), image)},
        )  # fmt: skip
        torch.manual_seed(0)
        names = target_modules(student.model, "attention", vision=False)
        model = add_lora(student.model, names, 4, 8.0, 0.0).eval()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)  # an adapter that does something
        batch = GroupCollator(TrainingRows(job), shared=True).batch([group])
        scored = Scorer(model)(model, batch)
        picked = batch["groups"][0].pick(scored)
        w, v = picked.chosen_weights, picked.rejected_weights
        ours = {
            key: set_mean(pair, w, v) if pair.dim() else pair
            for key, pair in losses(picked.chosen, picked.rejected).items()
        }
        row = GroupCollator(TrainingRows(job)).row(group)

        def alone(ids: Sequence[int], row: Any = row, model: Any = model) -> Any:
            """One response in a row of its own, computed again for every pair."""
            whole = append_response(row.prompt, ids)
            labels = whole["input_ids"].clone()
            labels[:, : row.prompt.length] = -100
            return response_log_probs(model(**whole, use_cache=False).logits, labels)

        k = len(group.chosen)
        expanded: dict[str, list[Any]] = {"sft": [], "orpo": [], "dpo": []}
        for chosen in row.responses[:k]:
            for rejected in row.responses[k:]:
                for key, value in losses(alone(chosen), alone(rejected)).items():
                    expanded[key].append(value.mean())
        results[family] = {}
        for key, values in expanded.items():
            theirs = torch.stack(values).mean()
            mine, other = gradients(model, ours[key]), gradients(model, theirs)
            results[family][key] = {
                "loss": abs(float(ours[key].detach() - theirs.detach())) / abs(float(theirs.detach())),
                "gradients": float((mine - other).norm() / other.norm()),
            }
    worst = {
        part: max(values[part] for family in results.values() for values in family.values())
        for part in ("loss", "gradients")
    }
    return {"relative_difference": results, "worst": worst}


def growth(size: Size, ks: Sequence[int], prompts: Sequence[int], steps: int, most_tokens: int) -> dict[str, Any]:
    """Seconds per sample over k = q and the prompt's length, shared and distinct; larger ones are left out."""
    points = []
    for prompt in prompts:
        for k in ks:
            for variant in ("shared", "distinct"):
                tokens = prompt + 16 * k if variant == "shared" else 2 * k * (prompt + 8)
                if tokens <= most_tokens:
                    found = in_process(variant, replace(size, prompt=prompt - 4, k=k), steps)
                    points.append({"P": prompt, "k": k, **found})
    return {"points": points}


def plot_growth(part: dict[str, Any], file: Path) -> None:
    """Measured seconds over predicted tokens."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4.5))
    for variant, marker in (("shared", "o"), ("distinct", "x")):
        chosen = [point for point in part["points"] if point["variant"] == variant and "tokens" in point]
        axes.scatter(
            [point["tokens"][variant] for point in chosen], [point["seconds_per_sample"] for point in chosen],
            marker=marker, label=variant,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="predicted tokens per sample", ylabel="measured seconds per sample")
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    versions = {}
    for name in ("torch", "transformers", "peft", "accelerate", "trl"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(), **versions, "cpu": torch.cpu.get_capabilities().get("cpu_name"),
        "cores": os.cpu_count(), "threads": torch.get_num_threads(), "load_at_start": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("equality", "text", "lists", "image", "growth")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="parts to measure; others are kept")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; nothing is written")
    parser.add_argument("--out", type=Path, default=RESULTS / "engine.json", help="JSON file")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        given = json.loads(options.variant)
        print(json.dumps(time_variant(given["variant"], Size(**given["size"]), given["steps"])))
        return
    sizes = {name: replace(size, **QUICK) if options.quick else size for name, size in SIZES.items()}
    result = json.loads(options.out.read_text()) if options.out.exists() and not options.quick else {}
    some = 2 if options.quick else 9
    for part in options.only:
        begun = machine()
        if part == "equality":
            found = equality()
        elif part == "text":
            found = compare(sizes["text"], {"shared": some, "distinct": some, "trl": 2})
        elif part == "lists":
            found = compare(sizes["lists"], {"shared": some, "distinct": some, "trl": some})
        elif part == "image":
            found = compare(sizes["image"], {"shared": some, "distinct": 3, "pairs": 2})
        else:
            ks, prompts = ((1, 5), (50, 200)) if options.quick else ((1, 2, 5, 10, 20, 50), (50, 200, 1000))
            found = growth(sizes["text"], ks, prompts, 2 if options.quick else 3, 6_000)
        result[part] = {"machine": begun, **found}
        shown = {key: value for key, value in found.items() if key in ("times_faster_than", "worst")}
        print(f"{part}: {json.dumps(shown)}", flush=True)
        if not options.quick:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(result, indent=1) + "\n")
            if part == "growth":
                plot_growth(found, options.out.with_name("engine-growth.png"))


if __name__ == "__main__":
    main()
