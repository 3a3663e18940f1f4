"""Builds the embedded teacher: a 2.6M-parameter ViLT that reads drawn faces and the words of HPO.

    python -m mint_gestalt.embedded.build_teacher OUT

About fifteen minutes on one core, done once; the result is shipped with the package in transformers' folder layout, so
that it is loaded like any real model.

It learns no disease. From a face it learns which facial terms were drawn and by how much (the geometry), from a text
which terms stand in it, and all terms above them. Faces show terms drawn at random; texts name terms of random OMIM
diseases, sometimes by a parent. A face and the text beside it have nothing to do with each other, no disease is named,
and the seeds lie in a stream of their own, so that no patient of the `simulated` data source was seen here. What it can
know of a disease is which of its words stand together in OMIM. What reads the answers from the pooled output is dropped
afterwards.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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
from mint_gestalt.vilt import Batch, Vilt, collate, image_tokens

STREAM = 20_250_505
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
POSITIONS = 160
HIDDEN, PATCH = 192, 24
RATE = 3e-3
DEMOGRAPHICS = ("Sex male female", "age years year months month newborn", "ethnicity", *ETHNICITIES, "Gene")
POOL = 16
"""Batches of texts that are drawn together and sorted by length."""
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


class Written(NamedTuple):
    """A text and what it says."""

    text: str
    said: NDArray[np.float32]
    """(asked terms,): 1 where the term, or one below it, stands in the text."""


class Wanted(NamedTuple):
    """What is to be read from a batch."""

    shapes: Tensor
    terms: Tensor
    said: Tensor


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

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[list[Written]]:
        """Batches of texts without end, those of one batch about equally long: little is computed on padding."""
        while True:
            pool = sorted((self.one(rng) for _ in range(size * POOL)), key=lambda one: len(one.text))
            for place in rng.permutation(POOL).tolist():
                yield pool[place * size : (place + 1) * size]

    def one(self, rng: np.random.Generator) -> Written:
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
        return Written(front + " ".join(ontology.name(term) for term in terms), said)

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


def build_model(tokenizer: PreTrainedTokenizerFast, pixels: Tensor) -> Vilt:
    """The architecture, with weights to begin from.

    A patch starts as its whitened principal components, and places and words start far apart. From small random
    weights instead many hundred steps pass before anything is read: all faces look alike to such a model.

    Args:
        tokenizer: Its tokenizer.
        pixels: Faces as the model reads them, (n, 3, SIZE, SIZE).
    """
    torch.manual_seed(STREAM)
    config = ViltConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=3 * HIDDEN, image_size=faces.SIZE, patch_size=PATCH, max_position_embeddings=POSITIONS,
        num_labels=2,
    )  # fmt: skip
    model = ViltForQuestionAnswering(config)
    embeddings = model.vilt.embeddings
    nn.init.normal_(embeddings.position_embeddings, std=0.3)
    nn.init.normal_(embeddings.text_embeddings.word_embeddings.weight, std=0.2)
    patches = F.unfold(pixels, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    weight = (vectors[:, -HIDDEN:] / (values[-HIDDEN:].sqrt() + 0.05)).T * 0.5
    projection = embeddings.patch_embeddings.projection
    projection.weight.data = weight.reshape(projection.weight.shape).contiguous()
    projection.bias.data = -weight @ patches.mean(0)
    processor = ViltImageProcessor(
        size={"shortest_edge": faces.SIZE}, size_divisor=PATCH, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return Vilt(model, tokenizer, processor, "built here")


class Readers(nn.Module):
    """What asks for the geometry, the facial terms and the terms of the text.

    The pooled output is asked, and so are the means of the image's and of the text's tokens below the last layer:
    without the second question the first token hardly finds out within this time which tokens to look at.
    """

    def __init__(self, shapes: int, terms: int, asked: int) -> None:
        super().__init__()
        self.sizes = (shapes, terms)
        self.pooled = nn.Linear(HIDDEN, shapes + terms + asked)
        self.face, self.text = nn.Linear(HIDDEN, shapes + terms), nn.Linear(HIDDEN, asked)

    def forward(self, vilt: Vilt, batch: Batch, wanted: Wanted) -> Tensor:
        """The losses (shape, face, text) from the pooled output, and the sum of those from the means; shape (4,)."""
        tokens, mask = image_tokens(vilt.model.vilt.embeddings, batch)
        with torch.autocast("cpu", torch.bfloat16):
            out = vilt.model.vilt(
                input_ids=batch.tokens, attention_mask=batch.token_mask, image_embeds=tokens, pixel_mask=mask,
                output_hidden_states=True,
            )  # fmt: skip
        below, length = out.hidden_states[-2].float(), batch.tokens.shape[1]
        words = (below[:, :length] * batch.token_mask[..., None]).sum(1) / batch.token_mask.sum(1, keepdim=True)
        pooled = self._losses(self.pooled(out.pooler_output.float()), wanted)
        means = self._losses(torch.cat([self.face(below[:, length + 1 :].mean(1)), self.text(words)], 1), wanted)
        return torch.stack([*pooled, sum(means, torch.zeros(()))])

    def _losses(self, read: Tensor, wanted: Wanted) -> tuple[Tensor, Tensor, Tensor]:
        face_from, text_from = self.sizes[0], sum(self.sizes)
        shape, face, text = read[:, :face_from], read[:, face_from:text_from], read[:, text_from:]
        return (
            F.mse_loss(shape, wanted.shapes) * 6,
            F.binary_cross_entropy_with_logits(face, wanted.terms) * 4,
            F.binary_cross_entropy_with_logits(text, wanted.said) * 60,
        )


def normalised(pixels: Tensor) -> Tensor:
    """As the image processor does it: uint8 (n, h, w, 3) -> (n, 3, h, w) in -1..1."""
    return (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def train(vilt: Vilt, drawn: Drawn, texts: Texts, steps: int, size: int = 96) -> None:
    """AdamW, warmed up over a tenth of the steps, then half a cosine to zero."""
    rng = np.random.default_rng([STREAM, 7])
    readers = Readers(drawn.shapes.shape[1], drawn.terms.shape[1], len(texts.asked))
    parameters = [*vilt.model.vilt.parameters(), *readers.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.02, betas=(0.9, 0.98))
    pool = texts.batches(size, rng)
    begin, running = time.time(), np.zeros(4)
    vilt.model.train()
    for step in range(steps):
        rate = RATE * min(1, 10 * (step + 1) / steps) * 0.5 * (1 + np.cos(np.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        batch, wanted = compose(vilt, drawn, rng.integers(0, len(drawn.pixels), size), next(pool))
        losses = readers(vilt, batch, wanted)
        optimiser.zero_grad()
        torch.autograd.backward(losses.sum())
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        running += losses.detach().numpy()
        if step % 100 == 99:
            told = (running / 100).round(3).tolist()
            print(f"{step + 1}/{steps} shape, face, text, means: {told} {time.time() - begin:.0f} s", flush=True)
            running[:] = 0


def compose(vilt: Vilt, drawn: Drawn, rows: NDArray[np.int64], written: Sequence[Written]) -> tuple[Batch, Wanted]:
    """Faces beside texts that have nothing to do with them."""
    ids = vilt.tokenizer([one.text for one in written], verbose=False)["input_ids"]
    words = collate(vilt, ids, [None] * len(rows))
    seen = torch.ones(len(rows), faces.SIZE, faces.SIZE, dtype=torch.long)
    batch = Batch(words.tokens, words.token_mask, normalised(torch.from_numpy(drawn.pixels[rows])), seen)
    said = torch.from_numpy(np.stack([one.said for one in written]))
    return batch, Wanted(torch.from_numpy(drawn.shapes[rows]), torch.from_numpy(drawn.terms[rows]), said)


def save(vilt: Vilt, out: Path) -> None:
    """Writes transformers' folder layout in half precision; the head is left to whoever fits it."""
    out.mkdir(parents=True, exist_ok=True)
    vilt.tokenizer.save_pretrained(out)
    vilt.processor.save_pretrained(out)
    vilt.model.eval().half().save_pretrained(out)


def main(out: Path, count: int = 20_000, steps: int = 1700) -> None:
    """Builds the teacher and saves it."""
    texts = Texts()
    tokenizer = build_tokenizer(texts.names)
    drawn = draw(count)
    print(f"{count} faces drawn", flush=True)
    vilt = build_model(tokenizer, normalised(torch.from_numpy(drawn.pixels[:2000])))
    print(f"{sum(p.numel() for p in vilt.model.vilt.parameters()):,} parameters, {len(tokenizer)} tokens", flush=True)
    print(f"{len(texts.profiles)} profiles, {len(texts.asked)} terms asked for", flush=True)
    train(vilt, drawn, texts, steps)
    save(vilt, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
