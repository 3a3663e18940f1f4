"""The words of the tissue-type task, shared by its prompts and by the script that builds the embedded student."""

from __future__ import annotations

from mint_core.plugin import ImageRef, Message, Prompt

HEADER = "MOST_LIKELY_TISSUE:"


def training_prompt(n: int, image: ImageRef | None = None) -> Prompt:
    """The short prompt of the training phase."""
    return Prompt(
        messages=(
            Message("system", "You are a pathologist. Keep to the format."),
            Message("user", f"Name the {n} most likely tissues of this H&E patch."),
        ),
        image=image,
    )


def inference_prompt(n: int, image: ImageRef | None = None) -> Prompt:
    """The prompt of the inference phase, with the whole demand on the format."""
    lines = "\n".join(f"{number}. <tissue>" for number in range(1, n + 1))
    return Prompt(
        messages=(
            Message("system", "You are a pathologist. Keep to the format."),
            Message(
                "user",
                f"Name the {n} most likely tissues of this H&E patch. Give EXACTLY {n} numbered entries, the most "
                f"likely first, all different, and nothing else. Format:\n{HEADER}\n{lines}",
            ),
        ),
        image=image,
    )
