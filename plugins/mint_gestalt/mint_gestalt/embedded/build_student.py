"""Builds the embedded student: a Llama of 2.3 M parameters that reads clinical text and knows no disease.

    python -m mint_gestalt.embedded.build_student OUT [--knowledge] [--work FOLDER --seconds 280]

1. A byte-level BPE tokenizer over the names of OMIM's diseases and HPO's terms; the fixed phrases of the task's prompts
   and the line numbers of a response are one token each.
2. One training on `mint_gestalt.embedded.exercises`: lists of disease names that have nothing to do with the patient
   in the prompt; names and phenotypes of the prompt said again; and the task itself with invented diseases, so that
   the student has read a patient's phenotypes before it is aligned. It learns the answers only, not the prompts.
3. Tokens that were never seen get a direction of their own.

No exercise links a disease of OMIM to a phenotype, and every patient is drawn at random: what the base student says of
a patient is chance, and a test holds it so. `--knowledge` adds text that does link them, for experiments with a student
that was pretrained in the domain; that variant is not shipped.

With `--work`, the state is kept there when `--seconds` are over, and the same command goes on from it.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mint_core.students.prompts import render_prompt
from mint_gestalt import ontology, wording
from mint_gestalt.embedded.exercises import EXERCISES, INVENTED, LONGEST, RARE, Drawer, Exercise, Knowledge, Lexicon
from mint_gestalt.sources import simulated
from mint_gestalt.sources.options import RareDiseaseOptions

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CONTEXT = 2048
IGNORED = -100
READING = 0.5
"""Share of the steps after which lists get the greater part."""


def fixed_phrases() -> list[str]:
    """What the task's prompts and responses repeat word by word; one token each keeps the rows short."""
    phrases = [wording.training_prompt(1, "").messages[0].content, wording.HEADER, RARE, INVENTED]
    for n in range(1, LONGEST + 1):
        _, user = wording.inference_prompt(n, "").messages
        ask, _, demand = user.content.partition(RARE)
        phrases += [ask, demand.partition(wording.HEADER)[0], f"\n{n}. <disease>", f"\n{n}. "]
    short = wording.training_prompt(1, "").messages[1].content
    return [phrase for phrase in [*phrases, short.partition(RARE)[2]] if phrase]


def build_tokenizer(words: Lexicon, size: int) -> PreTrainedTokenizerFast:
    """Step 1.

    Args:
        words: Names and terms.
        size: Tokens, the fixed phrases not counted.
    """
    corpus = [*words.names, *words.pool * 20, *(f" {ontology.name(term)}" for term in words.terms)]
    rng = random.Random(0)
    corpus += [draw(rng, words).prompt.messages[1].content for _ in range(300) for draw, _, _ in EXERCISES]
    corpus += [disease.name for disease in words.invented] * 20
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
    raw.add_tokens([AddedToken(phrase, normalized=False) for phrase in fixed_phrases()])
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


def kind_of(step: int, progress: float, knowledge: Drawer | None) -> tuple[random.Random, Drawer]:
    """The kind of exercise of a step's batch, and the generator that draws it; the same in every build."""
    rng = random.Random(step)
    if knowledge and rng.random() < 0.5:
        return rng, knowledge
    shares = [later if progress > READING else first for _, first, later in EXERCISES]
    return rng, rng.choices([draw for draw, _, _ in EXERCISES], shares)[0]


def encode(exercises: Sequence[Exercise], tokenizer: PreTrainedTokenizerFast) -> tuple[Tensor, Tensor]:
    """Token ids and labels, (rows, tokens) each, padded on the right; prompts and padding are ignored."""
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
    return ids, labels


def loss_of(model: LlamaForCausalLM, ids: Tensor, labels: Tensor) -> Tensor:
    """Sum over an answer's tokens, in units of 40 tokens, mean over the answers.

    As a mean over tokens, long lists would hardly count: most of their tokens are certain. Nothing attends to the
    padding, which stands behind.
    """
    states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    asked = labels[:, 1:] != IGNORED
    logits = model.lm_head(states[asked]).float()
    return F.cross_entropy(logits, labels[:, 1:][asked], reduction="sum") / (40 * len(ids))


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
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.02, betas=(0.9, 0.98))
    seen, first = torch.zeros(len(tokenizer), dtype=torch.long), 0
    state = options.work / "state.pt" if options.work else None
    if state and state.exists():
        kept = torch.load(state, map_location=options.device, weights_only=True)
        model.load_state_dict(kept["model"])
        optimiser.load_state_dict(kept["optimiser"])
        seen, first = kept["seen"].cpu(), kept["step"]
    begin, latest = time.monotonic(), dict[str, float]()
    for step in range(first, options.steps):
        rng, draw = kind_of(step, step / options.steps, knowledge)
        ids, labels = encode([draw(rng, words) for _ in range(options.batch)], tokenizer)
        seen += torch.bincount(ids.flatten(), minlength=len(tokenizer))
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, options.steps, options.rate)
        with torch.autocast(options.device, torch.bfloat16):
            loss = loss_of(model, ids.to(options.device), labels.to(options.device))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        spent = time.monotonic() - begin
        over = options.seconds is not None and spent > options.seconds
        if state and (over or step + 1 == options.steps):
            kept = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "seen": seen, "step": step + 1}
            torch.save(kept, state)
        latest[draw.__name__] = float(loss.detach())
        if step % 50 == 49 or over:
            figures = ", ".join(f"{kind} {value:.2f}" for kind, value in latest.items())
            print(f"{step + 1}/{options.steps}: {figures}; {spent:.0f} s", flush=True)
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
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=16, help="exercises per step")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--hidden", type=int, default=192, help="width, a multiple of 32")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=2800, help="size of the vocabulary")
    return parser


def main(options: argparse.Namespace) -> None:
    """Builds the student and saves it in bf16."""
    words = Lexicon(simulated.load(RareDiseaseOptions()).labels.names)
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
