"""A tiny text student with random weights, built from a config in memory and saved as a real one is published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mint_core.interfaces import Student

HIDDEN, LAYERS, HEADS, CONTEXT = 32, 2, 2, 512
SPREAD = 0.15
"""Weights of size 0.02, as real models start from, would make every next token equally likely and hide errors."""
LLAMA_SPECIAL = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
)  # fmt: skip
LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def small(**other: Any) -> dict[str, Any]:
    """What the configs of all tiny language models have in common, and `other` entries."""
    return {
        "hidden_size": HIDDEN, "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": 1, "max_position_embeddings": CONTEXT, "initializer_range": SPREAD, **other,
    }  # fmt: skip


def tokenizer(
    corpus: Sequence[str],
    special: Sequence[str],
    *,
    bos: str | None,
    eos: str,
    pad: str | None,
    adds_bos: bool = False,
    **named: str,
) -> Any:
    """A byte-level BPE tokenizer.

    Args:
        corpus: What it is learnt from.
        special: All special tokens; they get the last ids, as in the large families.
        bos: Beginning of sequence.
        eos: End of sequence.
        pad: Padding; None = the family publishes none.
        adds_bos: Write the BOS in front of any text that is tokenized with special tokens.
        named: Further special tokens by name: `boi` becomes the attribute `boi_token`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False))
    raw.add_special_tokens(list(special))
    if adds_bos:
        raw.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, raw.token_to_id(str(bos)))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=bos, eos_token=eos, pad_token=pad,
        extra_special_tokens={f"{name}_token": token for name, token in named.items()} or None,
    )  # fmt: skip


def save(folder: Path, model: Any, owner: Any, template: str, stops: Sequence[int]) -> None:
    """Writes a student as its family publishes it.

    Args:
        folder: Where to.
        model: With random weights.
        owner: Processor or tokenizer.
        template: Chat template.
        stops: The generation config's end-of-sequence tokens.
    """
    owner.chat_template = template
    model.generation_config.eos_token_id = list(stops)
    # Real generation configs ask for sampling; mint answers greedily all the same.
    model.generation_config.do_sample, model.generation_config.temperature = True, 0.6
    model.save_pretrained(folder)
    owner.save_pretrained(folder)


def build_llama(folder: Path, corpus: Sequence[str]) -> None:
    """Llama 3: BOS and header tokens in the template; no padding token."""
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer(corpus, LLAMA_SPECIAL, bos="<|begin_of_text|>", eos="<|eot_id|>", pad=None, adds_bos=True)
    config = LlamaConfig(**small(vocab_size=len(words), bos_token_id=words.bos_token_id))
    stops = [words.convert_tokens_to_ids(t) for t in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")]
    save(folder, LlamaForCausalLM(config), words, LLAMA_TEMPLATE, stops)


def tiny_student(folder: Path, corpus: Sequence[str]) -> Student:
    """A text student on the CPU; the same one for the same corpus.

    Args:
        folder: Where its files lie; they are written where there are none.
        corpus: Texts of the kind that it will read.
    """
    import torch

    from mint_core.config import StudentConfig
    from mint_core.students.load import load_student

    if not folder.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            build_llama(folder, corpus)
    return load_student(StudentConfig(model=str(folder), device="cpu"))
