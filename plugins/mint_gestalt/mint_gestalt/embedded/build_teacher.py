"""Builds the embedded teacher: a 1.5M-parameter ViLT that reads drawn faces and the words of HPO.

    python -m mint_gestalt.embedded.build_teacher OUT

About twelve minutes on two cores, done once; the result is shipped with the package in transformers' folder layout, so
that it is loaded like any real model.

It learns no disease. From a face it learns which facial terms were drawn and by how much (the geometry), from a text
which terms stand in it, and all terms above them. Faces show terms drawn at random; texts name terms of random OMIM
diseases, sometimes by a parent. A face and the text beside it have nothing to do with each other, and the seeds lie in
a stream of their own, so that no patient of the `simulated` data source was seen here. What reads the answers from the
pooled output is dropped afterwards.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    PreTrainedTokenizerFast,
    ViltConfig,
    ViltForQuestionAnswering,
    ViltImageProcessor,
)

from mint_gestalt import faces, ontology
from mint_gestalt.sources.simulated import ETHNICITIES
from mint_gestalt.vilt import Batch, Vilt, collate, logits

STREAM = 20_250_505
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
POSITIONS = 160
DEMOGRAPHICS = ("Sex male female", "age years year months month newborn", "ethnicity", *ETHNICITIES, "Gene")
COMMON = 30
"""Diseases that must be annotated with a term, or with one below it, for the term to be asked for."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Faces and what they show."""

    pixels: NDArray[np.uint8]
    """(n, SIZE, SIZE, 3)."""
    shapes: NDArray[np.float32]
    """(n, parameters): geometry plus identity."""
    terms: NDArray[np.float32]
    """(n, drawn terms): 1 where the term was drawn."""


def draw_chunk(chunk: int, count: int) -> Drawn:
    """Draws `count` faces with about six random terms each; nothing about diseases can be learnt from them."""
    rng = np.random.default_rng([STREAM, chunk])
    known = faces.drawn_terms()
    pixels = np.empty((count, faces.SIZE, faces.SIZE, 3), np.uint8)
    shapes = np.empty((count, len(faces.PARAMETERS)), np.float32)
    terms = np.zeros((count, len(known)), np.float32)
    for row in range(count):
        places = rng.choice(len(known), min(rng.poisson(7), 16), replace=False)
        identity = faces.draw_identity(rng)
        shape = rng.normal(1, 0.12) * faces.geometry(known[place] for place in places)
        pixels[row] = np.asarray(faces.draw_face(shape, identity, rng))
        shapes[row], terms[row, places] = shape + np.array(identity.shape), 1
    return Drawn(pixels, shapes, terms)


def draw(count: int, size: int = 500) -> Drawn:
    """Draws in as many processes as there are cores."""
    chunks = range(count // size)
    with ProcessPoolExecutor() as pool:
        parts = list(pool.map(draw_chunk, chunks, [size] * len(chunks)))
    return Drawn(
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.shapes for part in parts]),
        np.concatenate([part.terms for part in parts]),
    )


class Texts:
    """Texts of random terms, and what they say."""

    def __init__(self) -> None:
        profiles = ({term for term in disease.phenotypes if not faces.visible(term)} for disease in ontology.diseases())
        self.profiles = [sorted(profile) for profile in profiles if len(profile) >= 4]
        counts = Counter(
            above for profile in self.profiles for above in {a for t in profile for a in (t, *ontology.ancestors(t))}
        )
        self.asked = sorted(term for term, count in counts.items() if count >= COMMON)
        self.column = {term: place for place, term in enumerate(self.asked)}
        self.names = sorted({ontology.name(t) for p in self.profiles for t in p} | {ontology.name(t) for t in counts})

    def one(self, rng: np.random.Generator) -> tuple[str, NDArray[np.float32]]:
        """A text of one to seven terms, and the terms asked for that lie in it or above it."""
        profile = self.profiles[int(rng.integers(len(self.profiles)))]
        terms = rng.choice(profile, min(len(profile), int(rng.integers(1, 8))), replace=False).tolist()
        terms = [self.imprecise(term, rng) if rng.random() < 0.3 else term for term in terms]
        said = np.zeros(len(self.asked), np.float32)
        for above in {above for term in terms for above in (term, *ontology.ancestors(term))}:
            if above in self.column:
                said[self.column[above]] = 1
        sex, years, months = ("male", "female")[int(rng.integers(2))], rng.integers(1, 40), rng.integers(12)
        facts = f"Sex {sex} age {years} years {months} months"
        front = f"{facts} ethnicity {rng.choice(ETHNICITIES)} " if rng.random() < 0.5 else ""
        return front + " ".join(ontology.name(term) for term in terms), said

    @staticmethod
    def imprecise(term: str, rng: np.random.Generator) -> str:
        """A parent of the term, where it has one that is a finding."""
        parents = [parent for parent in ontology.parents(term) if ontology.PHENOTYPE in ontology.ancestors(parent)]
        return str(rng.choice(parents)) if parents else term


def build_tokenizer(names: list[str]) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer over the names of HPO terms; it can spell any other word."""
    raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.decoder = decoders.WordPiece()
    alphabet = list("abcdefghijklmnopqrstuvwxyz0123456789.,;:()-'/%")
    trainer = trainers.WordPieceTrainer(
        vocab_size=3600, special_tokens=SPECIAL, initial_alphabet=alphabet, min_frequency=2, show_progress=False
    )
    raw.train_from_iterator([*names, *DEMOGRAPHICS * 5], trainer)
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=POSITIONS, **special)


def build_model(vocabulary: int) -> Vilt:
    """The architecture with random weights; its head is the reader of this script."""
    torch.manual_seed(STREAM)
    config = ViltConfig(
        vocab_size=vocabulary, hidden_size=144, num_hidden_layers=4, num_attention_heads=4, intermediate_size=432,
        image_size=faces.SIZE, patch_size=16, max_position_embeddings=POSITIONS, num_labels=2,
    )  # fmt: skip
    processor = ViltImageProcessor(
        size={"shortest_edge": faces.SIZE}, size_divisor=16, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return Vilt(ViltForQuestionAnswering(config), None, processor, "built here")


class Readers(nn.Module):
    """What asks the pooled output for the geometry, the facial terms and the terms of the text."""

    def __init__(self, hidden: int, sizes: tuple[int, int, int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.read = nn.Linear(hidden, sum(sizes))

    def forward(self, pooled: Tensor, shapes: Tensor, terms: Tensor, said: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The three losses."""
        shape, face, text = self.read(pooled).split(self.sizes, 1)
        return (
            F.mse_loss(shape, shapes) * 6,
            F.binary_cross_entropy_with_logits(face, terms) * 4,
            F.binary_cross_entropy_with_logits(text, said) * 20,
        )


def normalised(pixels: Tensor) -> Tensor:
    """As the image processor does it: uint8 (n, h, w, 3) -> (n, 3, h, w) in -1..1."""
    return (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def train(vilt: Vilt, drawn: Drawn, texts: Texts, steps: int, size: int = 96) -> None:
    """AdamW, warmed up over 300 steps, then half a cosine to zero."""
    rng = np.random.default_rng([STREAM, 7])
    readers = Readers(vilt.model.config.hidden_size, (drawn.shapes.shape[1], drawn.terms.shape[1], len(texts.asked)))
    vilt.model.classifier = nn.Identity()
    parameters = [*vilt.model.parameters(), *readers.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1.5e-3, weight_decay=0.02, betas=(0.9, 0.98))
    begin, running = time.time(), np.zeros(3)
    pixels = torch.from_numpy(drawn.pixels)
    vilt.model.train()
    for step in range(steps):
        rate = 1.5e-3 * min(1, (step + 1) / 300) * 0.5 * (1 + np.cos(np.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        rows = rng.integers(0, len(pixels), size)
        written = [texts.one(rng) for _ in range(size)]
        ids = vilt.tokenizer([text for text, _ in written], verbose=False)["input_ids"]
        said = torch.from_numpy(np.stack([column for _, column in written]))
        words = collate(vilt, ids, [None] * size)
        mask = torch.ones(size, faces.SIZE, faces.SIZE, dtype=torch.long)
        batch = Batch(words.tokens, words.token_mask, normalised(pixels[rows]), mask)
        with torch.autocast("cpu", torch.bfloat16):
            pooled = logits(vilt.model, batch)
        losses = readers(pooled, torch.from_numpy(drawn.shapes[rows]), torch.from_numpy(drawn.terms[rows]), said)
        optimiser.zero_grad()
        torch.autograd.backward(sum(losses))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        running += [float(loss.detach()) for loss in losses]
        if step % 100 == 99:
            print(
                f"{step + 1}/{steps} shape, face, text: {(running / 100).round(4)} {time.time() - begin:.0f} s",
                flush=True,
            )
            running[:] = 0


def save(vilt: Vilt, out: Path) -> None:
    """Writes transformers' folder layout in half precision; the head is left to whoever fits it."""
    out.mkdir(parents=True, exist_ok=True)
    vilt.tokenizer.save_pretrained(out)
    vilt.processor.save_pretrained(out)
    vilt.model.eval().half().save_pretrained(out)


def main(out: Path, count: int = 30_000, steps: int = 2400) -> None:
    """Builds the teacher and saves it."""
    texts = Texts()
    tokenizer = build_tokenizer(texts.names)
    vilt = build_model(len(tokenizer))
    vilt.tokenizer = tokenizer
    print(f"{sum(p.numel() for p in vilt.model.parameters()):,} parameters, {len(tokenizer)} tokens", flush=True)
    print(f"{len(texts.profiles)} profiles, {len(texts.asked)} terms asked for", flush=True)
    drawn = draw(count)
    print("faces drawn", flush=True)
    train(vilt, drawn, texts, steps)
    save(vilt, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
