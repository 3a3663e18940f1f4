"""The words of the tissue-type task, shared by its prompts and by the script that builds the embedded student."""

from __future__ import annotations

from mint_core.plugin import ListPrompt

HEADER = "MOST_LIKELY_TISSUE:"
PROMPT = ListPrompt("a pathologist", "Name the {n} most likely tissues of this H&E patch.", HEADER, "tissue")
