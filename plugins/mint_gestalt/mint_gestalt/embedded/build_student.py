"""Builds the embedded student: a Llama of 1.9 M parameters that reads clinical text and knows no disease.

    python -m mint_gestalt.embedded.build_student OUT [--knowledge] [--work FOLDER --seconds 280]

1. A byte-level BPE tokenizer over the names of OMIM's diseases and HPO's terms; the fixed phrases of the task's
   prompts, the line numbers of a response and the names of the pool are one token each.
2. One training on `mint_gestalt.embedded.exercises`: the task's prompts with random patients, answered by rules that
   were drawn by lot, so that it reads phenotypes and writes fluent lists; names. It learns the answers only.
3. Tokens that were never seen get a direction of their own.

No exercise links a disease of OMIM to a phenotype, and every patient is drawn at random: what the base student says of
a patient is chance, and a test holds it so. `--knowledge` adds text that does link them, for experiments with a student
that was pretrained in the domain; that variant is not shipped.

The pool are the diseases of the simulated cohort, or the labels of other data (`--set source=phenopackets --set
data=PATH`); of these, too, only the names are read. With `--work`, the state is kept there when `--seconds` are over,
and the same command goes on from it.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mint_core.plugin import merge, parse_override, render_prompt
from mint_gestalt import ontology, wording
from mint_gestalt.embedded.exercises import EXERCISES, FEATURES, LONGEST, Drawer, Exercise, Knowledge, Lexicon
from mint_gestalt.sources.options import RareDiseaseOptions
from mint_gestalt.task import RareDisease

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CONTEXT = 2048
IGNORED = -100
READING = 0.15
"""Share of the steps in which reading is learnt, before lists."""


def fixed_phrases() -> list[str]:
    """What the task's prompts and responses repeat word by word; one token each keeps the rows short."""
    phrases = [wording.PROMPT.short(1, "").messages[0].content, wording.HEADER]
    for n in range(1, LONGEST + 1):
        user = wording.PROMPT.full(n, "").messages[1]
        demand = user.content.partition(wording.HEADER)[0]
        phrases += [wording.PROMPT.short(n, "").messages[1].content, demand, f"\n{n}. <disease>", f"\n{n}. "]
    return phrases


def build_tokenizer(words: Lexicon, size: int) -> PreTrainedTokenizerFast:
    """Step 1.

    Args:
        words: Names and terms.
        size: Tokens, the fixed phrases not counted.
    """
    corpus = [*words.names, *(f" {ontology.name(term)}" for term in words.terms)]
    rng = random.Random(0)
    corpus += [kind.draw(rng, words).prompt.messages[1].content for _ in range(300) for kind in EXERCISES]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(corpus, trainer)
    raw.add_tokens([AddedToken(phrase, normalized=False) for phrase in (*fixed_phrases(), *words.pool)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        eos_token="<|end|>",
        padding_side="left",
        model_max_length=CONTEXT,
        additional_special_tokens=SPECIAL[2:],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_model(tokenizer: PreTrainedTokenizerFast, hidden: int, layers: int) -> LlamaForCausalLM:
    """The untrained model; heads of 32."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=hidden,
            intermediate_size=hidden * 8 // 3 // 32 * 32,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 32,
            num_key_value_heads=hidden // 32,
            vocab_size=len(tokenizer),
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )


def batch_of(step: int, options: argparse.Namespace, words: Lexicon, knowledge: Drawer | None) -> list[Exercise]:
    """The exercises of a step, all of one kind; the same in every build."""
    rng = random.Random(step)
    if knowledge and rng.random() < 0.5:
        return [knowledge(rng, words) for _ in range(options.batch)]
    shares = [kind.at_first if step < READING * options.steps else kind.later for kind in EXERCISES]
    kind = rng.choices(EXERCISES, shares)[0]
    return [kind.draw(rng, words) for _ in range(kind.times * options.batch)]


class Readers(nn.Module):
    """Two linear maps that read a state of the student while it is built, and are then thrown away.

    They ask the last layer but one, wherever an answer is written, what the phenotypes mean and which names stand there
    already. From the names alone the student would have learnt neither in this time.
    """

    def __init__(self, hidden: int, names: int) -> None:
        super().__init__()
        self.meaning = nn.Linear(hidden, FEATURES)
        self.listed = nn.Linear(hidden, names)


@dataclass(frozen=True, slots=True)
class Batch:
    """Exercises of one kind as tensors; meaning and votes are None for lists of other names than the pool's."""

    ids: Tensor
    """(rows, tokens), padded on the right."""
    labels: Tensor
    """(rows, tokens); IGNORED for prompts and padding."""
    meaning: Tensor | None
    """(rows, FEATURES)."""
    votes: Tensor | None
    """(rows, n_pool)."""


def encode(exercises: Sequence[Exercise], tokenizer: PreTrainedTokenizerFast, device: str = "cpu") -> Batch:
    """Tokens of prompts and answers; only the answers are learnt."""
    rows = []
    for exercise in exercises:
        rendered = render_prompt(exercise.prompt, tokenizer, parts=False)
        answer = tokenizer(exercise.answer + rendered.end_of_turn)["input_ids"]
        rows.append((tokenizer(rendered.text)["input_ids"], answer))
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), IGNORED)
    for at, (prompt, answer) in enumerate(rows):
        ids[at, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        labels[at, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
    meaning, votes = (
        None if getattr(exercises[0], which) is None else np.stack([getattr(e, which) for e in exercises])
        for which in ("meaning", "votes")
    )
    tensors = [None if x is None else torch.as_tensor(x, dtype=torch.float32, device=device) for x in (meaning, votes)]
    return Batch(ids.to(device), labels.to(device), *tensors)


def loss_of(model: LlamaForCausalLM, readers: Readers, pool: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of the answers, and the readers' losses.

    A name of the pool is learnt as the whole distribution from which it was drawn, not as the one name that was.
    Nothing attends to the padding, which stands behind.

    Args:
        model: The student.
        readers: The readers.
        pool: Token of each name of the pool, (n_pool,).
        batch: The exercises.
    """
    states = model.model(input_ids=batch.ids, use_cache=False, output_hidden_states=True).hidden_states
    last, below = states[-1][:, :-1], states[-2][:, :-1]
    nexts = batch.labels[:, 1:]
    asked = nexts != IGNORED
    named = asked & torch.isin(nexts, pool) if batch.votes is not None else torch.zeros_like(asked)
    others = asked & ~named
    loss: Tensor = F.cross_entropy(model.lm_head(last[others]).float(), nexts[others])
    if batch.votes is None or batch.meaning is None:
        return loss
    here = (nexts[:, :, None] == pool).long()
    listed = (here.cumsum(1) - here)[named]
    votes = batch.votes[named.nonzero()[:, 0]].masked_fill(listed.bool(), -torch.inf)
    logs = model.lm_head(last[named]).float().log_softmax(-1)[:, pool]
    loss = loss - (votes.softmax(-1) * logs).sum(-1).mean()
    recalled = readers.listed(below[named]).float()
    loss = loss + 3 * F.binary_cross_entropy_with_logits(recalled, listed.float())
    meant = batch.meaning[asked.nonzero()[:, 0]]
    return loss + F.mse_loss(readers.meaning(below[asked]).float(), meant)


def rate_at(step: int, steps: int, peak: float) -> float:
    """Learning rate: warm-up over 5 % of the steps, level, and down to zero over the last 30 %."""
    return peak * min(1, (step + 1) / (0.05 * steps), (steps - step) / (0.3 * steps))


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    words: Lexicon,
    options: argparse.Namespace,
) -> Tensor | None:
    """Step 2: plain AdamW.

    Returns:
        How often each token was seen, or None where the time is over before the last step.
    """
    knowledge = Knowledge().draw if options.knowledge else None
    pool = torch.tensor(tokenizer.convert_tokens_to_ids(list(words.pool)), device=options.device)
    readers = Readers(options.hidden, len(pool)).to(options.device)
    both = nn.ModuleDict({"student": model, "readers": readers})
    optimiser = torch.optim.AdamW(both.parameters(), lr=options.rate, weight_decay=0.02, betas=(0.9, 0.98))
    seen, first = torch.zeros(len(tokenizer), dtype=torch.long), 0
    state = options.work / "state.pt" if options.work else None
    if state and state.exists():
        kept = torch.load(state, map_location=options.device, weights_only=True)
        both.load_state_dict(kept["model"])
        optimiser.load_state_dict(kept["optimiser"])
        seen, first = kept["seen"].cpu(), kept["step"]
    begin, losses = time.monotonic(), list[float]()
    for step in range(first, options.steps):
        batch = encode(batch_of(step, options, words, knowledge), tokenizer, options.device)
        seen += torch.bincount(batch.ids.flatten(), minlength=len(tokenizer)).cpu()
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, options.steps, options.rate)
        with torch.autocast(options.device, torch.bfloat16):
            loss = loss_of(model, readers, pool, batch)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimiser.step()
        spent = time.monotonic() - begin
        over = options.seconds is not None and spent > options.seconds
        if state and (over or step + 1 == options.steps):
            kept = {"model": both.state_dict(), "optimiser": optimiser.state_dict(), "seen": seen, "step": step + 1}
            torch.save(kept, state)
        losses.append(float(loss.detach()))
        if step % 50 == 49 or over:
            print(f"{step + 1}/{options.steps}: {sum(losses) / len(losses):.3f}; {spent:.0f} s", flush=True)
            losses.clear()
        if over and step + 1 < options.steps:
            return None
    return seen


def spread_unseen_tokens(model: LlamaForCausalLM, seen: Tensor) -> int:
    """Step 3: random directions for tokens that were never seen; returns how many there were.

    Training pushes all of them the same way, until they can hardly be told apart: the student could then never learn
    to spell a name that needs them.
    """
    weights = model.get_input_embeddings().weight.data
    unseen = (seen == 0).nonzero()[:, 0]
    length = weights[seen > 0].norm(dim=1).median().cpu()
    drawn = torch.randn(len(unseen), weights.shape[1], generator=torch.Generator().manual_seed(0))
    weights[unseen.to(weights.device)] = (drawn * length / weights.shape[1] ** 0.5).to(weights.device)
    return len(unseen)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Builds the embedded student of the rare-disease task.")
    parser.add_argument("out", type=Path, help="folder for the student")
    parser.add_argument("--knowledge", action="store_true", help="also read which disease has which phenotypes")
    parser.add_argument("--work", type=Path, help="folder that keeps the state between two calls")
    parser.add_argument("--seconds", type=float, help="stop training after this time, to go on later")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="option of the task whose labels are the pool"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--batch", type=int, default=32, help="exercises per step")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--hidden", type=int, default=192, help="width, a multiple of 32")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=2800, help="size of the vocabulary")
    return parser


def main(options: argparse.Namespace) -> None:
    """Builds the student and saves it in bf16."""
    task = RareDisease(RareDiseaseOptions.model_validate(merge(*map(parse_override, options.set))))
    words = Lexicon(task.load().labels.names)
    tokenizer = build_tokenizer(words, options.tokens)
    model = build_model(tokenizer, options.hidden, options.layers).to(options.device)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens", flush=True)
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    model.train()
    seen = train(model, tokenizer, words, options)
    if seen is None:
        print("time is over; the same command goes on", flush=True)
        return
    print(f"{spread_unseen_tokens(model, seen)} tokens were never seen", flush=True)
    model.eval()
    model.to(torch.bfloat16).save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main(arguments().parse_args())
