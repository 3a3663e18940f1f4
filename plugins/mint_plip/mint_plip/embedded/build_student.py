"""Builds the embedded student: a 2.6M-parameter LLaVA that can see and can write lists, and knows no tissue.

    python -m mint_plip.embedded.build_student OUT [STUDENT]

Five steps, about 35 minutes on two quiet cores, done once; the result is shipped with the package. With STUDENT, the
result of an earlier build, only the last step runs.

1. A byte-level BPE tokenizer over the words of the prompts, the descriptions and the label names.
2. The vision tower learns to read the six properties of `mint_plip.simulated`, drawn independently of each other.
3. The whole model learns to describe a patch in words, and to answer the task's prompts with a list of N distinct
   tissue names in random order, drawn independently of the image.
4. The same with the lists in alphabetical order from a random name on, because the most likely list under uniform
   draws repeats one name: a greedy student would never write N distinct ones.
5. One batch in four as in step 4; three in four without an image, all 8 to 19 names asked for in random order: only
   there does it pay to look back at what was written already, and a student that cannot do so repeats itself as soon
   as it is aligned. At the end, tokens that were never written get a direction of their own.

No step sees a tissue's morphology: the lists of steps 3 to 5 carry no information about the image, and the images of
all steps show properties that are drawn uniformly. What the base student says of a tissue is chance, and a test holds
it so.
"""

from __future__ import annotations

import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from mint_core.plugin import ImageRef, Message, Prompt, render_prompt, write_response
from mint_plip.simulated import ARRANGEMENTS, SIZE, TISSUES, Morphology, draw_patch, random_morphology
from mint_plip.wording import HEADER, PROMPT

PATCH = 12
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<|end|>", "<image>", "<|system|>", "<|user|>", "<|assistant|>"]


class _Shown(ImageRef):
    """Stands for the image in a prompt; the pixels go to the model directly."""

    @property
    def key(self) -> str:
        return ""

    def open(self) -> Any:
        raise NotImplementedError


_SHOWN = _Shown()


def describe(words: dict[str, str]) -> str:
    """The description that the student learns to write."""
    return (
        f"Nuclei: {words['size']}, {words['density']}, {words['elongation']}, {words['chromatin']}. "
        f"Background: {words['stain']}. Arrangement: {words['arrangement']}."
    )


def description_prompt() -> Prompt:
    """The demand for a description."""
    return Prompt(messages=(Message("system", "You are a pathologist."), Message("user", "Describe this H&E patch.")))


def build_processor() -> LlavaProcessor:
    """Step 1: tokenizer, image processor and chat template."""
    rng = np.random.default_rng(0)
    corpus = [describe(random_morphology(rng).words()) for _ in range(400)]
    corpus += [write_response(HEADER, tuple(rng.permutation(list(TISSUES)))) for _ in range(100)]
    for n in range(1, 11):
        for prompt in (PROMPT.short(n), PROMPT.full(n), description_prompt()):
            corpus += [message.content for message in prompt.messages] * 20
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(corpus, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        eos_token="<|end|>",
        padding_side="left",
        model_max_length=512,
        additional_special_tokens=SPECIAL[2:],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    images = CLIPImageProcessor(
        size={"height": SIZE, "width": SIZE}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.25] * 3
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=CHAT_TEMPLATE,
    )


def build_model(processor: LlavaProcessor) -> LlavaForConditionalGeneration:
    """The untrained model."""
    tokenizer = processor.tokenizer
    vision = CLIPVisionConfig(
        hidden_size=144,
        intermediate_size=432,
        num_hidden_layers=5,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=PATCH,
    )
    text = LlamaConfig(
        hidden_size=160,
        intermediate_size=448,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=(SIZE // PATCH) ** 2,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return LlavaForConditionalGeneration(config)


def draw_chunk(seed: int, count: int) -> tuple[np.ndarray, list[Morphology]]:
    """Patches of uniformly drawn morphology, in colours wider than any stain batch."""
    rng = np.random.default_rng(seed)
    pixels, shown = np.empty((count, SIZE, SIZE, 3), np.uint8), []
    for row in range(count):
        morphology = random_morphology(rng)
        patch = np.asarray(draw_patch(morphology, rng, batch=rng.normal(1, 0.12, 2)), dtype=float)
        gain = rng.normal(1, 0.1, 3)
        pixels[row] = np.clip(255 * (patch / 255) ** gain, 0, 255).astype(np.uint8)
        shown.append(morphology)
    return pixels, shown


def augment(batch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random quarter turn and mirror for the whole batch: none of the properties changes by it."""
    turned = np.rot90(batch, int(rng.integers(4)), axes=(1, 2))
    return turned[:, :, ::-1] if rng.random() < 0.5 else turned


def to_pixels(batch: np.ndarray) -> torch.Tensor:
    """uint8 (n, H, W, 3) -> normalised float (n, 3, H, W), as the processor does it."""
    return (torch.from_numpy(batch.copy()).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25


def targets(shown: list[Morphology]) -> tuple[torch.Tensor, torch.Tensor]:
    """The five scalar properties (n, 5) and the arrangement's index (n,)."""
    scalars = [[m.size, m.density, m.elongation, m.chromatin, m.stain] for m in shown]
    return torch.tensor(scalars), torch.tensor([ARRANGEMENTS.index(m.arrangement) for m in shown])


def train(model: torch.nn.Module, steps: int, rate: float, loss_of: Any, name: str) -> None:
    """A plain AdamW loop with a cosine schedule."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.02, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    begin, running = time.time(), 0.0
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(step)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        running += float(loss.detach())
        if step % 50 == 49:
            print(f"{name} {step + 1}/{steps} loss {running / 50:.4f} {time.time() - begin:.0f} s", flush=True)
            running = 0.0


def train_vision(model: LlavaForConditionalGeneration, pixels: np.ndarray, shown: list[Morphology], steps: int) -> None:
    """Step 2."""
    tower = model.model.vision_tower
    head = torch.nn.Sequential(torch.nn.LayerNorm(144), torch.nn.Linear(144, 5 + len(ARRANGEMENTS)))
    both = torch.nn.ModuleList([tower, head])
    rng = np.random.default_rng(1)
    scalars, arrangement = targets(shown)

    def loss_of(step: int) -> torch.Tensor:
        rows = rng.integers(0, len(pixels), 64)
        seen = tower(to_pixels(augment(pixels[rows], rng))).last_hidden_state[:, 1:].mean(1)
        out = head(seen).float()
        return 20 * F.mse_loss(out[:, :5], scalars[rows]) + F.cross_entropy(out[:, 5:], arrangement[rows])

    train(both, steps, 1.5e-3, loss_of, "vision")


@dataclass(frozen=True)
class Lists:
    """What lists a step draws."""

    described: float
    """Share of the conversations that describe instead."""
    alphabetical: float
    """Share of the lists in alphabetical order from a random name on."""
    long: bool
    """Three batches in four are lists of 8 to 19 names in random order, without an image; other lists have 2 to 6."""
    batch: int


RANDOM = Lists(described=0.5, alphabetical=0, long=False, batch=48)
ALPHABETICAL = Lists(described=0.25, alphabetical=1, long=False, batch=32)
LONG = Lists(described=0.25, alphabetical=1, long=True, batch=32)


def draw_list(choose: random.Random, lists: Lists) -> tuple[Prompt, tuple[str, ...]]:
    """A prompt for n names and a list of n distinct ones, drawn without looking at any image."""
    names = sorted(TISSUES)
    n = choose.choice((2, 3, 3, 4, 5, 5, 5, 6))
    prompt = choose.choice((PROMPT.short, PROMPT.full))(n)
    if choose.random() < lists.alphabetical:
        start = choose.randrange(len(names))
        return prompt, tuple((names + names)[start : start + n])
    return prompt, tuple(choose.sample(names, n))


def draw_long_list(choose: random.Random) -> tuple[Prompt, tuple[str, ...]]:
    """A prompt for 8 to 19 names and as many distinct ones in random order."""
    n = choose.choice((8, 12, 16, 19, 19, 19))
    return PROMPT.short(n), tuple(choose.sample(sorted(TISSUES), n))


def train_language(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    pixels: np.ndarray,
    shown: list[Morphology],
    steps: int,
    lists: Lists,
) -> None:
    """Steps 3 to 5."""
    rng, choose = np.random.default_rng(2), random.Random(2)
    tokenizer = processor.tokenizer
    image_tokens = "<image>" * (SIZE // PATCH) ** 2

    def conversation(row: int | None) -> tuple[list[int], list[int]]:
        if row is None:
            prompt, names = draw_long_list(choose)
            response = write_response(HEADER, names)
        elif choose.random() < lists.described:
            prompt, response = description_prompt(), describe(shown[row].words())
        else:
            prompt, names = draw_list(choose, lists)
            response = write_response(HEADER, names)
        rendered = render_prompt(prompt if row is None else replace(prompt, image=_SHOWN), processor, parts=True)
        text = rendered.text.replace("<image>", image_tokens)
        return tokenizer(text)["input_ids"], tokenizer(response + rendered.end_of_turn)["input_ids"]

    def loss_of(step: int) -> torch.Tensor:
        seen = not lists.long or step % 4 == 0
        rows = rng.integers(0, len(pixels), lists.batch)
        pairs = [conversation(int(row)) for row in rows] if seen else [conversation(None) for _ in range(64)]
        width = max(len(p) + len(r) for p, r in pairs)
        ids = torch.full((len(pairs), width), tokenizer.pad_token_id)
        labels = torch.full((len(pairs), width), -100)
        for at, (prompt, response) in enumerate(pairs):
            ids[at, : len(prompt) + len(response)] = torch.tensor(prompt + response)
            labels[at, len(prompt) : len(prompt) + len(response)] = torch.tensor(response)
        out = model(
            input_ids=ids,
            attention_mask=(ids != tokenizer.pad_token_id).long(),
            labels=labels,
            pixel_values=to_pixels(augment(pixels[rows], rng)) if seen else None,
        )
        return cast(torch.Tensor, out.loss)

    train(model, steps, 2e-3 if lists.long else 1e-3, loss_of, "language")


def spread_unused_tokens(model: LlavaForConditionalGeneration, processor: LlavaProcessor) -> None:
    """Gives tokens that no step ever wrote a direction of their own.

    Training pushes all of them the same way, until they can hardly be told apart: the student could then never learn
    to spell a label outside its own vocabulary.
    """
    tokenizer = processor.tokenizer
    rng = np.random.default_rng(0)
    texts = [describe(random_morphology(rng).words()) for _ in range(2000)]
    for n in range(1, len(TISSUES) + 1):
        prompts = (PROMPT.short(n), PROMPT.full(n), description_prompt())
        texts += [message.content for prompt in prompts for message in prompt.messages]
        texts.append(write_response(HEADER, tuple(TISSUES)[:n]))
    used = {token for text in texts for token in tokenizer(text)["input_ids"]} | set(tokenizer.all_special_ids)
    unused = [token for token in range(len(tokenizer)) if token not in used]
    weights = model.get_input_embeddings().weight.data
    length = weights[sorted(used)].norm(dim=1).median()
    drawn = torch.randn(len(unused), weights.shape[1], generator=torch.Generator().manual_seed(0))
    weights[unused] = drawn * length / weights.shape[1] ** 0.5


def main(
    out: Path,
    student: Path | None = None,
    drawn: int = 20_000,
    vision_steps: int = 3000,
    language_steps: tuple[int, int, int] = (900, 700, 1400),
) -> None:
    """Builds the student and saves it in half precision."""
    processor = build_processor()
    model = (
        build_model(processor) if student is None else LlavaForConditionalGeneration.from_pretrained(student).float()
    )
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(processor.tokenizer)} tokens", flush=True)
    with ProcessPoolExecutor() as pool:
        chunks = list(pool.map(draw_chunk, range(100, 100 + drawn // 500), [500] * (drawn // 500)))
    pixels = np.concatenate([chunk for chunk, _ in chunks])
    shown = [morphology for _, part in chunks for morphology in part]
    print("patches drawn", flush=True)
    model.train()
    if student is None:
        train_vision(model, pixels, shown, vision_steps)
        train_language(model, processor, pixels, shown, language_steps[0], RANDOM)
        train_language(model, processor, pixels, shown, language_steps[1], ALPHABETICAL)
    train_language(model, processor, pixels, shown, language_steps[2], LONG)
    spread_unused_tokens(model, processor)
    model.eval()
    model.half().save_pretrained(out)
    processor.save_pretrained(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
