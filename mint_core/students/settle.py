"""What a student brings along beside its weights, made fit for greedy answers: token ids, and no setting of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mint_core.errors import ModelError

if TYPE_CHECKING:
    from mint_core.interfaces import Student


def settle(student: Student) -> None:
    """Gives a student a generation config that holds token ids and nothing else, and a padding token that it knows.

    Whatever else stood there (stop strings, sampling, penalties, suppressed or forced tokens, lengths, beams,
    watermarks) would change greedy answers or break them.

    Args:
        student: In place.

    Raises:
        ModelError: It has no token that ends an answer, or its token ids are no ids.
    """
    from transformers import GenerationConfig

    model, tokenizer = student.model, student.tokenizer
    declared = getattr(model, "generation_config", None)
    rows = embedding_rows(model)
    stops = _ids(student, getattr(declared, "eos_token_id", None), "eos_token_id", rows)
    begins = _ids(student, getattr(declared, "bos_token_id", None), "bos_token_id", rows)
    if tokenizer.eos_token_id is None and stops:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(stops[0])
    if tokenizer.eos_token_id is None or tokenizer.eos_token_id >= rows:
        raise ModelError(
            f"The student {student.source} has no token that ends an answer (eos_token_id): neither its tokenizer nor "
            "its generation config names one that its embedding holds; choose another student."
        )
    if tokenizer.pad_token_id is None or not 0 <= tokenizer.pad_token_id < rows:
        tokenizer.pad_token = tokenizer.eos_token  # what is padded is never looked at
    model.generation_config = GenerationConfig(
        bos_token_id=begins[0] if begins else None,
        eos_token_id=stops or [tokenizer.eos_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    _forget(model.config)


def embedding_rows(model: Any) -> int:
    """How many tokens a model's input embedding holds."""
    return int(model.get_input_embeddings().weight.shape[0])


def check_ids(student: Student, ids: Sequence[int], what: str) -> None:
    """Refuses tokens that the student's embedding does not hold: its tokenizer knows more than it does.

    Args:
        student: The student.
        ids: Of a text; placeholders of images aside.
        what: Whose text it is, for the message.

    Raises:
        ModelError: There is one.
    """
    rows = embedding_rows(student.model)
    if ids and max(ids) >= rows:
        raise ModelError(
            f"The tokenizer of {student.source} writes {what} with token {max(ids)}, and the student's embedding holds "
            f"{rows}: the two do not belong together; save the tokenizer that it was trained with beside its weights."
        )


def _ids(student: Student, value: Any, name: str, rows: int) -> list[int]:
    """Token ids of a generation config that the embedding holds."""
    given = [] if value is None else value if isinstance(value, list | tuple) else [value]
    if any(type(one) is not int for one in given):
        raise ModelError(
            f"The generation config of {student.source} is damaged: {name} is no token id; copy its folder again."
        )
    return [one for one in given if 0 <= one < rows]


def _forget(config: Any) -> None:
    """Takes settings of generation out of a model's config, where old models keep them and transformers refuses them.

    Args:
        config: Of a model; changed in place.
    """
    for one in {id(part): part for part in (config, config.get_text_config())}.values():
        for key in one._get_generation_parameters():
            setattr(one, key, None)
