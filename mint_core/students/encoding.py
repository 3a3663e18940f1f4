"""From prompts and responses to the tensors that a student's forward pass takes.

A prompt is encoded alone, by the student's own processor, so that training and generation read the very same tokens.
Rows are then padded and stacked here: every tensor is zero-padded to the largest of its kind and concatenated along the
first dimension, which is right for pixel tensors of fixed shape (LLaVA, Gemma 3), with varying tiles (Idefics 3,
Mllama) and for flattened patches (Qwen-VL). Nothing is ever truncated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from mint_core.errors import DataError, ModelError
from mint_core.students.prompts import render_prompt, write_response
from mint_core.students.settle import check_ids
from mint_core.types import LabelSpace, Prompt

if TYPE_CHECKING:
    import torch

    from mint_core.interfaces import Student

Encoded = dict[str, "torch.Tensor"]

# Tensors with one entry per token; all others belong to images.
PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "cross_attention_mask")


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """One prompt as tensors of batch size 1."""

    sample_id: str
    tensors: Mapping[str, torch.Tensor]
    end_of_turn: str

    @property
    def length(self) -> int:
        """Tokens, image tokens in the row included."""
        return int(self.tensors["input_ids"].shape[1])


def encode_prompt(student: Student, sample_id: str, prompt: Prompt) -> EncodedPrompt:
    """Encodes one prompt with the student's own chat template and processor.

    Raises:
        ModelError: The task hands over an image and the student cannot read images, or its processor refuses
            the prompt.
        DataError: The image cannot be decoded.
    """
    if prompt.image is not None and not student.reads_images:
        raise ModelError(
            f"The task shows images, but the student {student.source} reads text only; name an image-text student."
        )
    image = prompt.image.open() if prompt.image is not None else None
    rendered = render_prompt(prompt, student.processor, parts=student.reads_images, image=image)
    try:
        encoded = student.processor.apply_chat_template(
            rendered.turns, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
    except ValueError as error:  # no word of the error: some processors quote the prompt
        raise ModelError(
            f"The processor of {student.source} refuses the prompt of sample {sample_id}: its chat template leaves the "
            "image out, or the text itself holds an image token of the student."
        ) from error
    tensors = {key: value for key, value in encoded.items() if hasattr(value, "shape")}
    for key, value in tensors.items():  # processors give pixels in fp32 whatever the student, and few towers cast them
        tensors[key] = value.to(student.model.dtype) if value.is_floating_point() else value
    if rendered.opening:
        ids = student.tokenizer(rendered.opening, add_special_tokens=False)["input_ids"]
        tensors = append_response(EncodedPrompt(sample_id, tensors, rendered.end_of_turn), ids)
    if not student.reads_images:  # placeholders of images may lie outside the embedding
        check_ids(student, tensors["input_ids"][0].tolist(), "a prompt")
    if image is not None and not set(tensors).difference(PER_TOKEN):
        raise ModelError(f"The processor of {student.source} gave no pixels for the image of sample {sample_id}.")
    return EncodedPrompt(sample_id, tensors, rendered.end_of_turn)


def encode_response(student: Student, text: str, end_of_turn: str) -> list[int]:
    """Token ids of a response with the end of its turn, so that a student learns to stop.

    Args:
        student: The student.
        text: The response.
        end_of_turn: What the chat format writes after it. Where that holds no special token (LLaVA writes a space), the
            end-of-sequence token follows, since generation stops at special tokens only.
    """
    ids: list[int] = student.tokenizer(text + end_of_turn, add_special_tokens=False)["input_ids"]
    if end_token(student, end_of_turn) is None and student.tokenizer.eos_token_id is not None:
        ids = [*ids, student.tokenizer.eos_token_id]
    check_ids(student, ids, "an answer")
    return ids


def end_token(student: Student, end_of_turn: str) -> int | None:
    """The special token with which the chat format ends a turn, or None where it uses none."""
    tokenizer = student.tokenizer
    if not end_of_turn:
        return None
    # Not every family lists its turn tokens among the tokenizer's named special tokens; all mark them as special.
    marked = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    special = marked.union(tokenizer.all_special_ids)
    ids = tokenizer(end_of_turn, add_special_tokens=False)["input_ids"]
    return next((token for token in ids if token in special), None)


def context_length(student: Student) -> int | None:
    """The longest row that the student's position encoding was made for, or None where its config does not say."""
    limit = getattr(student.model.config.get_text_config(), "max_position_embeddings", None)
    return int(limit) if limit else None


def check_length(student: Student, sample_id: str, length: int) -> None:
    """Refuses a row that is longer than the student's context, instead of cutting it.

    Raises:
        DataError: It is longer.
    """
    limit = context_length(student)
    if limit is not None and length > limit:
        raise DataError(
            f"Sample {sample_id}: prompt and response take {length} tokens, and the student's context holds {limit}; "
            "choose a student with a longer context."
        )


class TokenCounter(Protocol):
    """Counts what a model reads and writes."""

    def prompt(self, prompt: Prompt) -> int:
        """Tokens of a prompt, its image aside."""

    def response(self, text: str) -> int:
        """Tokens of a response."""

    def left(self, sample_id: str, prompt: Prompt) -> int | None:
        """Tokens that the model's context leaves behind a prompt, its image counted; None where no limit is known."""


def response_budget(counter: TokenCounter, header: str, labels: LabelSpace, n: int) -> int:
    """Tokens that the longest list of N labels takes, and half again.

    Args:
        counter: Counts as the model does.
        header: First line of a response.
        labels: The label space; the N names with the most tokens make the longest list.
        n: Labels per response.
    """
    tokens = {name: counter.response(name) for name in labels.names}
    longest = tuple(sorted(labels.names, key=lambda name: -tokens[name])[:n])
    return int(1.5 * counter.response(write_response(header, longest))) + 4


@dataclass(frozen=True, slots=True)
class StudentCounter:
    """Counts tokens with a student's own tokenizer."""

    student: Student

    def prompt(self, prompt: Prompt) -> int:
        """Tokens in the student's chat format, an image aside: parts counted alone miss what joins them."""
        text = render_prompt(prompt, self.student.processor, parts=self.student.reads_images).text
        return len(self.student.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def response(self, text: str) -> int:
        """Tokens of a response, the end of the turn aside."""
        return len(encode_response(self.student, text, ""))

    def left(self, sample_id: str, prompt: Prompt) -> int | None:
        """What the student's context leaves behind a prompt."""
        limit = context_length(self.student)
        return None if limit is None else limit - encode_prompt(self.student, sample_id, prompt).length


def append_response(prompt: EncodedPrompt, response: Sequence[int]) -> Encoded:
    """One row: the prompt's tensors with the response behind them."""
    import torch

    row = dict(prompt.tensors)
    extra = len(response)
    ids = torch.tensor([list(response)], dtype=row["input_ids"].dtype)
    row["input_ids"] = torch.cat([row["input_ids"], ids], dim=1)
    row["attention_mask"] = torch.cat([row["attention_mask"], torch.ones_like(ids)], dim=1)
    for key in ("token_type_ids", "mm_token_type_ids"):
        if key in row:
            row[key] = torch.cat([row[key], torch.zeros_like(ids, dtype=row[key].dtype)], dim=1)
    if "cross_attention_mask" in row:  # Mllama: what the last prompt token may look at, the response may look at too
        last = row["cross_attention_mask"][:, -1:]
        row["cross_attention_mask"] = torch.cat([row["cross_attention_mask"], last.repeat(1, extra, 1, 1)], dim=1)
    return row


def stack(rows: Sequence[Mapping[str, torch.Tensor]], pad_id: int, side: Literal["left", "right"]) -> Encoded:
    """Pads rows and puts them into one batch.

    Args:
        rows: Tensors of batch size 1, all with the same keys.
        pad_id: Token that fills `input_ids`.
        side: Where per-token tensors are padded: right for training, left for generation.

    Returns:
        One tensor per key.
    """
    import torch

    batch: Encoded = {}
    for key in rows[0]:
        tensors = [row[key] for row in rows]
        size = [max(t.shape[d] for t in tensors) for d in range(1, tensors[0].dim())]
        fill = pad_id if key == "input_ids" else 0
        whole = torch.full((sum(map(len, tensors)), *size), fill, dtype=tensors[0].dtype)
        begin = 0
        for tensor in tensors:
            where = [slice(begin, begin + len(tensor)), *(slice(n) for n in tensor.shape[1:])]
            if key in PER_TOKEN and side == "left":
                where[1] = slice(size[0] - tensor.shape[1], None)
            whole[tuple(where)] = tensor
            begin += len(tensor)
        batch[key] = whole
    return batch
