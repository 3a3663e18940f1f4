"""Builds the embedded teacher: a 1.6M-parameter CLIP that knows the simulated tissues by name.

    python -m mint_plip.embedded.build_teacher OUT

About ten minutes on two cores, done once; the result is shipped with the package in open_clip's folder layout, so that
it is loaded like any real model.

Training is contrastive: a patch against the sentences of all 19 tissues, the template drawn anew at every step. Beside
it a linear head, dropped afterwards, reads from the image embedding what was drawn (morphology, stain, colour) on
patches of tissues and on patches of uniformly drawn morphology in wide colours: it keeps in the embedding what a linear
probe on other images needs. The seeds lie in a stream of their own, so that no patch of the `simulated` data source was
seen here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from mint_plip.encoder import sentence
from mint_plip.simulated import ARRANGEMENTS, SIZE, TISSUES, Morphology, draw_morphology, draw_patch, random_morphology
from mint_plip.teacher import PROMPTS

STREAM = 20_240_601
NAMES = tuple(TISSUES)
TEMPLATES = (*PROMPTS, "{}", "{} tissue")
MEAN, STD = (0.78, 0.58, 0.74), (0.20, 0.24, 0.16)
CONTEXT = 32
SPECIAL = ["<pad>", "<start>", "<end>", "<unk>"]
NO_TISSUE = -1


@dataclass(frozen=True, slots=True)
class Drawn:
    """Patches and what they show."""

    pixels: NDArray[np.uint8]
    """(n, 3, SIZE, SIZE)."""
    tissue: NDArray[np.int64]
    """(n,): index into NAMES, or NO_TISSUE."""
    scalars: NDArray[np.float32]
    """(n, 7): the five morphological properties and the two stain factors."""
    arrangement: NDArray[np.int64]
    """(n,): index into ARRANGEMENTS."""


def draw_chunk(chunk: int, count: int, tissues: bool, stream: int = STREAM) -> Drawn:
    """Draws `count` patches; of tissues in turn, or of uniformly drawn morphology in wide stains."""
    rng = np.random.default_rng([stream, chunk, int(tissues)])
    pixels = np.empty((count, 3, SIZE, SIZE), np.uint8)
    tissue, arrangement = np.full(count, NO_TISSUE), np.empty(count, np.int64)
    scalars = np.empty((count, 7), np.float32)
    for row in range(count):
        if tissues:
            tissue[row] = row % len(NAMES)
            shown: Morphology = draw_morphology(NAMES[tissue[row]], rng)
        else:
            shown = random_morphology(rng)
        stain = rng.normal(1, 0.08 if tissues else 0.25, 2).clip(0.3)
        pixels[row] = np.asarray(draw_patch(shown, rng, batch=stain)).transpose(2, 0, 1)
        scalars[row] = [shown.size, shown.density, shown.elongation, shown.chromatin, shown.stain, *stain]
        arrangement[row] = ARRANGEMENTS.index(shown.arrangement)
    return Drawn(pixels, tissue, scalars, arrangement)


def draw(count: int, tissues: bool, chunk_size: int = 475) -> Drawn:
    """Draws in as many processes as there are cores."""
    chunks = range(-(-count // chunk_size))
    with ProcessPoolExecutor() as pool:
        parts = list(pool.map(draw_chunk, chunks, [chunk_size] * len(chunks), [tissues] * len(chunks)))
    return join(parts)


def join(parts: Sequence[Drawn]) -> Drawn:
    """Puts chunks together."""
    return Drawn(
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.tissue for part in parts]),
        np.concatenate([part.scalars for part in parts]),
        np.concatenate([part.arrangement for part in parts]),
    )


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE over the sentences; it can spell any other label."""
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    raw.decoder = decoders.ByteLevel()
    corpus = [sentence(template, name) for name in NAMES for template in TEMPLATES]
    trainer = trainers.BpeTrainer(
        vocab_size=448,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(corpus, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    special = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=CONTEXT, **special)


def model_config(vocabulary: int) -> dict[str, Any]:
    """The architecture, as open_clip_config.json holds it."""
    return {
        "embed_dim": 192,
        "vision_cfg": {"image_size": SIZE, "layers": [1, 2, 2, 1], "width": 16, "head_width": 64},
        "text_cfg": {
            "context_length": CONTEXT, "vocab_size": vocabulary, "width": 96, "heads": 4, "layers": 2,
            "pool_type": "eos", "eos_id": 2, "hf_tokenizer_name": "mint-plip-embedded-teacher",
        },
    }  # fmt: skip


def augment(pixels: Tensor, colour: float, generator: torch.Generator) -> Tensor:
    """uint8 (n, 3, H, W) -> float in 0..1, turned and mirrored by halves, with a gamma per image and channel."""
    x = pixels.float() / 255
    half = len(x) // 2
    parts = []
    for part in (x[:half], x[half:]):
        turn, mirror = int(torch.randint(4, (), generator=generator)), bool(torch.randint(2, (), generator=generator))
        turned = torch.rot90(part, turn, (2, 3))
        parts.append(turned.flip(3) if mirror else turned)
    x = torch.cat(parts)
    gamma = 1 + colour * torch.randn(len(x), 3, 1, 1, generator=generator)
    return x.clamp(1 / 255, 1) ** gamma.clamp(0.4, 2)


def normalise(x: Tensor) -> Tensor:
    """Takes off the mean and divides by the standard deviation, as the preprocessor does it."""
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def reading_loss(read: Tensor, drawn: Drawn, rows: NDArray[np.int64], x: Tensor) -> Tensor:
    """What the linear head reads against what was drawn: 7 scalars, 6 colour statistics, 5 arrangements a row."""
    scalars = torch.from_numpy(drawn.scalars[rows])
    colours = torch.cat([x.mean((2, 3)), x.std((2, 3))], 1)
    arrangement = F.cross_entropy(read[:, 13:], torch.from_numpy(drawn.arrangement[rows]))
    return F.mse_loss(read[:, :7], scalars) * 15 + F.mse_loss(read[:, 7:13], colours) * 30 + 0.5 * arrangement


def train(model: Any, tokenizer: Any, tissues: Drawn, others: Drawn, steps: int) -> None:
    """Contrastive training with AdamW and a one-cycle schedule; 96 patches of tissues and 32 others a step."""
    rate = 2e-3
    torch.manual_seed(STREAM)
    generator, rng = torch.Generator().manual_seed(STREAM), np.random.default_rng([STREAM, 9])
    head = nn.Linear(192, 7 + 6 + len(ARRANGEMENTS))
    parameters = [*model.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    tokens = {template: tokenizer([sentence(template, name) for name in NAMES]) for template in TEMPLATES}
    begin, running = time.time(), np.zeros(3)
    model.train()
    for step in range(steps):
        rows, other_rows = rng.integers(0, len(tissues.pixels), 96), rng.integers(0, len(others.pixels), 32)
        x = augment(torch.from_numpy(tissues.pixels[rows]), 0.06, generator)
        y = augment(torch.from_numpy(others.pixels[other_rows]), 0.25, generator)
        with torch.autocast("cpu", torch.bfloat16):
            embedded = model.encode_image(normalise(torch.cat([x, y])).contiguous(memory_format=torch.channels_last))
            text = model.encode_text(tokens[TEMPLATES[int(rng.integers(len(TEMPLATES)))]], normalize=True)
        embedded, text = embedded.float(), text.float()
        logits = model.logit_scale.exp().clamp(max=100) * F.normalize(embedded[:96], dim=-1) @ text.T
        target = torch.from_numpy(tissues.tissue[rows])
        contrast = F.cross_entropy(logits, target)
        read = head(embedded)
        reading = reading_loss(read[:96], tissues, rows, x) + reading_loss(read[96:], others, other_rows, y)
        optimiser.zero_grad()
        torch.autograd.backward(contrast + 0.3 * reading)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        running += [
            float(contrast.detach()),
            float(reading.detach()),
            float((logits.argmax(1) == target).float().mean()),
        ]
        if step % 100 == 99:
            print(
                f"{step + 1}/{steps} contrast, reading, top-1: {(running / 100).round(4)} {time.time() - begin:.0f} s",
                flush=True,
            )
            running[:] = 0


def save(model: nn.Module, tokenizer: PreTrainedTokenizerFast, config: dict[str, Any], out: Path) -> None:
    """Writes open_clip's folder layout in half precision."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(out)
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2)
    (out / "open_clip_config.json").write_text(text + "\n")
    state = {name: x.half() if x.is_floating_point() else x for name, x in model.state_dict().items()}
    save_file({name: x.contiguous() for name, x in state.items()}, out / "open_clip_model.safetensors")


def main(out: Path, drawn: int = 15_200, steps: int = 2400) -> None:
    """Builds the teacher and saves it."""
    tokenizer = build_tokenizer()
    config = model_config(len(tokenizer))
    torch.manual_seed(STREAM)
    model = open_clip.CLIP(**config, init_logit_scale=float(np.log(10)))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens", flush=True)
    tissues, others = draw(drawn, tissues=True), draw(drawn // 2, tissues=False)
    print("patches drawn", flush=True)
    save(model, tokenizer, config, out)
    train(model, open_clip.get_tokenizer(f"local-dir:{out}"), tissues, others, steps)
    save(model.eval(), tokenizer, config, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
