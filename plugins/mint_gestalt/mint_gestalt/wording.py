"""The words of the rare-disease task, shared by its prompts and by the script that builds the embedded student."""

from __future__ import annotations

from mint_core.plugin import Message, Prompt

HEADER = "POTENTIAL_DISEASES:"
_SYSTEM = Message("system", "You are a genetic counsellor. Keep to the format.")


def training_prompt(n: int, text: str) -> Prompt:
    """The short prompt of the training phase."""
    return Prompt((_SYSTEM, Message("user", f"{text}\nName the {n} most likely rare diseases of this patient.")))


def inference_prompt(n: int, text: str) -> Prompt:
    """The prompt of the inference phase, with the whole demand on the format."""
    lines = "\n".join(f"{number}. <disease>" for number in range(1, n + 1))
    demand = (
        f"Name the {n} most likely rare diseases of this patient. Give EXACTLY {n} numbered entries, the most likely "
        f"first, all different, and nothing else. Format:\n{HEADER}\n{lines}"
    )
    return Prompt((_SYSTEM, Message("user", f"{text}\n{demand}")))
