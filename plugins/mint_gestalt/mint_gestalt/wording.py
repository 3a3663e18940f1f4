"""The words of the rare-disease task, shared by its prompts and by the script that builds the embedded student."""

from __future__ import annotations

from mint_core.plugin import ListPrompt

HEADER = "POTENTIAL_DISEASES:"
PROMPT = ListPrompt(
    "a genetic counsellor", "Name the {n} most likely rare diseases of this patient.", HEADER, "disease"
)
